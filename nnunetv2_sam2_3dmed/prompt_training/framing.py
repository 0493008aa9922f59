"""Framing of training slices as in use, where a slice fills the square input of the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nnunetv2_sam2_3dmed.training.augmentation import InPlaneAffineTransform
from nnunetv2_sam2_3dmed.training.targets import PADDING_LABEL

ZOOM = (0.9, 1.4)  # 1.4 is the largest enlargement in nnU-Net's augmentation


class FramedAffineTransform(InPlaneAffineTransform):
    """Stretch of the loaded image, without padding, to the output size, then rotation, shear and zoom.

    nnU-Net loads patches of one size around a voxel of an object, with padding where the image ends. Slices in use have
    no padding: trained with it, objects would be smaller than in use, and always in the middle.

    Args:
        size: in-plane size of the output; None for that of the input.
        probability: probability of rotation, shear and zoom.
        zoom: smallest and largest enlargement; above 1, the edges of the image are cut off.
    """

    def __init__(self, size: Sequence[int] | None, probability: float = 1.0, zoom: tuple[float, float] = ZOOM):
        super().__init__(size, probability=probability)
        self.zoom = zoom

    def frame(self, **data_dict) -> tuple[torch.Tensor, torch.Tensor]:
        inside = (data_dict["segmentation"] != PADDING_LABEL).any(dim=0)
        rows, columns = inside.any(dim=1).nonzero()[:, 0], inside.any(dim=0).nonzero()[:, 0]
        if not len(rows):
            return super().frame(**data_dict)
        first = torch.stack([columns[0], rows[0]])
        end = torch.stack([columns[-1], rows[-1]]) + 1
        low, high = np.log(self.zoom)
        zoom = np.exp(np.random.uniform(low, high)) if np.random.uniform() < self.probability else 1.0
        return (first + end) / 2, (end - first) / float(zoom)
