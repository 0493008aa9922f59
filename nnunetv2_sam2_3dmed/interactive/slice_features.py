"""The features of slices, computed once and kept within a bound on memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures


class SliceFeatureCache:
    """Features by the name of their slice; those not used for longest go first.

    A slice of 512 pixels takes 4.2 MB in float32 and 2.6 MB in bfloat16, four times as much at 1024 pixels: 2 GiB hold
    500 to 800 slices of 512 pixels.

    Args:
        max_bytes: bound on the memory of what is kept; the slice asked for last is kept even if it alone is larger.
    """

    def __init__(self, max_bytes: int):
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}, but must be 0 or more.")
        self.max_bytes = max_bytes
        self.bytes = 0
        self._features: OrderedDict[Hashable, LevelFeatures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._features)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._features

    def clear(self) -> None:
        self._features.clear()
        self.bytes = 0

    def get(self, key: Hashable, encode: Callable[[], LevelFeatures]) -> LevelFeatures:
        """The features of slice ``key``; ``encode`` computes them if they are not there."""
        if key not in self._features:
            features = encode()
            self._features[key] = features
            self.bytes += _size(features)
        self._features.move_to_end(key)
        while self.bytes > self.max_bytes and len(self._features) > 1:
            self.bytes -= _size(self._features.popitem(last=False)[1])
        return self._features[key]


def _size(features: LevelFeatures) -> int:
    return sum(level.numel() * level.element_size() for level in features)
