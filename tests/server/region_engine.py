"""An engine whose masks can be foreseen: regions of like grey levels, instead of a network with random weights.

It stands in for ``interactive.engine.Engine``, so that everything around the network runs as it is. A box or points
give the region around them whose grey levels are within a tolerance; a propagated slice gets the regions of the same
grey level that touch the mask on the slice beside it. Where the image's slices have a quarter of ``image_size`` pixels
a side, masks are exact.
"""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import torch
from scipy import ndimage

from nnunetv2_sam2_3dmed.interactive.engine import Engine
from nnunetv2_sam2_3dmed.interactive.tracks import SliceOutput
from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures
from nnunetv2_sam2_3dmed.network.slice_encoder import IMAGENET_MEAN, IMAGENET_STD

TOLERANCE = 20  # grey levels
LOGIT = 8.0


class RegionEngine(Engine):
    """See the module. ``delay`` is how long a propagated slice takes, in seconds."""

    delay = 0.0

    def encode(self, images):
        side = self.image_size // 4
        greys = 255 * (images * torch.tensor(IMAGENET_STD)[:, None, None] + torch.tensor(IMAGENET_MEAN)[:, None, None])
        smaller = _quarter(side)
        small = torch.round(smaller @ greys.mean(dim=1, keepdim=True) @ smaller.T)
        return [LevelFeatures(*[small[k : k + 1]] * 3) for k in range(len(images))]

    def answer(self, features, index, prompt, shape, num_slices, **_):
        grey = features[0][0, 0].numpy()
        side = grey.shape[0]
        scale = np.array([side / shape[0], side / shape[1]])
        if prompt.mask is not None:
            drawn = torch.from_numpy(np.ascontiguousarray(prompt.mask)).float()[None, None]
            return self._output(torch.nn.functional.interpolate(drawn, (side, side))[0, 0].numpy() > 0.5)
        allowed = np.ones((side, side), bool)
        seeds = [np.floor((p + 0.5) * scale) for p, label in zip(prompt.points, prompt.labels) if label == 1]
        if prompt.box is not None:
            low = np.floor((np.array(prompt.box[:2]) + 0.5) * scale).astype(int)
            high = np.ceil((np.array(prompt.box[2:]) + 0.5) * scale).astype(int)
            allowed[:] = False
            allowed[low[0] : high[0] + 1, low[1] : high[1] + 1] = True
            seeds.append((low + high) // 2)
        found = np.zeros((side, side), bool)
        for row, column in np.clip(np.array(seeds, int).reshape(-1, 2), 0, side - 1):
            found |= _grown(grey, grey[row, column], (row, column)) & allowed
        for point, label in zip(prompt.points, prompt.labels):
            if label == 0:
                rows, columns = np.ogrid[:side, :side]
                row, column = (point + 0.5) * scale
                found &= (rows - row) ** 2 + (columns - column) ** 2 > (side / 12) ** 2
        return self._output(found)

    def track(self, features, index, num_objects, num_slices, reverse, conditioning, others):
        time.sleep(self.delay)
        grey = features[0][0, 0].numpy()
        known = {**conditioning, **others}
        nearest = min(known, key=lambda other: (abs(other - index), other))
        outputs = []
        for number in range(num_objects):
            before = known[nearest].of(number).logits[0, 0].numpy() > 0
            level = known[nearest].of(number).pointer[0, 0].item()
            level = grey[before].mean() if level < 0 and before.any() else level
            regions, _ = ndimage.label(np.abs(grey - level) < TOLERANCE)
            touched = np.unique(regions[before])
            outputs.append(self._output(np.isin(regions, touched[touched > 0]), level))
        return SliceOutput._make(map(torch.cat, zip(*outputs)))

    def remember(self, features, output):
        grey, mask = features[0][0, 0].numpy(), output.logits[0, 0].numpy() > 0
        level = float(grey[mask].mean()) if mask.any() else -1.0
        return self._output(mask, level)

    def _output(self, mask, level=-1.0):
        logits = torch.from_numpy(np.where(mask, np.float32(LOGIT), np.float32(-LOGIT)))[None, None]
        quality = torch.tensor([0.9])
        return SliceOutput(logits, torch.tensor([[level]]), torch.tensor([[LOGIT]]), quality, torch.zeros(1, 1, 1, 1))


@cache
def _quarter(side: int) -> torch.Tensor:
    """(side, 4 * side) by which what was resized from a quarter of the size is found again exactly."""
    larger = torch.nn.functional.interpolate(torch.eye(side)[None], 4 * side, mode="linear")[0].T
    return torch.linalg.pinv(larger)


def _grown(grey, level, seed):
    """The region of like grey levels around a pixel."""
    regions, _ = ndimage.label(np.abs(grey - level) < TOLERANCE)
    return regions == regions[tuple(seed)] if regions[tuple(seed)] else np.zeros(grey.shape, bool)
