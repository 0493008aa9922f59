"""Features of slices that were encoded already: sliding windows overlap."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

MAX_BYTES = 2 * 2**30
SHARE_OF_DEVICE = 0.25  # of a GPU's memory, where that is less
_SEED = 0


class LevelFeatures(NamedTuple):
    """Features of slices at the three strides, each (slices, channels, height, width)."""

    stride4: torch.Tensor
    stride8: torch.Tensor
    stride16: torch.Tensor


class SliceCache:
    """Encodes each slice once, as long as its features fit.

    A slice is known by its content (128 bits of an exact hash), so that whoever runs the windows, in whatever order,
    mirrored along the slice axis or padded, need not know of this. What was not used for longest goes first. When a
    weight has changed, everything goes.

    Where a network is built in inference mode, torch does not count the changes of its weights: whoever loads others
    calls :meth:`clear`.

    Args:
        max_bytes: bound on the memory of the features.
    """

    def __init__(self, max_bytes: int = MAX_BYTES):
        self.max_bytes = max_bytes
        self.clear()

    def clear(self) -> None:
        self._features: OrderedDict[tuple[int, int], LevelFeatures] = OrderedDict()
        self._bytes = 0
        self._valid_for: object = None
        self._factors: torch.Tensor | None = None

    def __reduce__(self) -> tuple:
        """A copy of a network, or a file of one, starts empty."""
        return type(self), (self.max_bytes,)

    def encode(
        self,
        slices: torch.Tensor,
        encoder: Callable[[torch.Tensor], LevelFeatures],
        weights: Iterable[torch.Tensor],
    ) -> LevelFeatures:
        """The features of ``slices``, of which ``encoder`` is asked only for those that are not known.

        Args:
            slices: (N, C, H, W).
            encoder: (M, C, H, W) -> features of the M slices, each independent of the others.
            weights: what ``encoder`` computes with.
        """
        valid_for = (slices.device, slices.shape[1:], [(w.data_ptr(), _version(w)) for w in weights])
        if valid_for != self._valid_for:
            self.clear()
            self._valid_for = valid_for
        keys = self._keys(slices)
        unknown = {key: i for i, key in enumerate(keys) if key not in self._features}
        found = {key: self._features[key] for key in keys if key in self._features}
        if unknown:
            # where all are unknown they are in their order, and their numbers need not be copied to the device
            encoded = encoder(slices if len(unknown) == len(slices) else slices[list(unknown.values())])
            found.update(zip(unknown, map(LevelFeatures._make, zip(*encoded, strict=True)), strict=True))
        for key, features in found.items():
            self._keep(key, features, slices.device)
        return LevelFeatures._make(torch.stack(level) for level in zip(*(found[key] for key in keys), strict=True))

    def _keys(self, slices: torch.Tensor) -> list[tuple[int, int]]:
        """Sums of the bits of each slice times random factors, exact whatever the order of summation."""
        bits = slices.float().contiguous().view(torch.int32).flatten(1).long()  # (N, P)
        if self._factors is None:
            generator = torch.Generator().manual_seed(_SEED)
            limits = torch.iinfo(torch.int64)
            factors = torch.randint(limits.min, limits.max, (2, bits.shape[1]), generator=generator)
            self._factors = factors.to(slices.device)
        first, second = ((bits * factor).sum(dim=1) for factor in self._factors)
        return [(a, b) for a, b in torch.stack([first, second], dim=1).tolist()]

    def _keep(self, key: tuple[int, int], features: LevelFeatures, device: torch.device) -> None:
        if key not in self._features:
            # of its own: a part of a larger tensor would keep all of that
            self._features[key] = LevelFeatures._make(level.clone() for level in features)
            self._bytes += _size(features)
        self._features.move_to_end(key)
        while self._bytes > bound_on(device, self.max_bytes):
            _, dropped = self._features.popitem(last=False)
            self._bytes -= _size(dropped)


def bound_on(device: torch.device, max_bytes: int = MAX_BYTES) -> int:
    """Bytes of features to keep on ``device``: ``max_bytes``, and on a GPU at most a quarter of its memory."""
    if device.type != "cuda":
        return max_bytes
    return min(max_bytes, int(SHARE_OF_DEVICE * torch.cuda.get_device_properties(device).total_memory))


def _version(weight: torch.Tensor) -> int:
    """How often torch has seen a weight change."""
    return 0 if weight.is_inference() else weight._version


def _size(features: LevelFeatures) -> int:
    return sum(level.numel() * level.element_size() for level in features)
