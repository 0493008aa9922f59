"""The features of slices, computed once and kept within a bound on memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures

Key = TypeVar("Key", bound=Hashable)


class SliceFeatureCache(Generic[Key]):
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
        self._features: OrderedDict[Key, LevelFeatures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._features)

    def __contains__(self, key: Key) -> bool:
        return key in self._features

    def clear(self) -> None:
        self._features.clear()
        self.bytes = 0

    def capacity(self, features: LevelFeatures) -> int:
        """Number of slices that fit if their features are as large as these; 1 where none does."""
        return max(1, self.max_bytes // _size(features))

    def get(
        self, keys: Sequence[Key], encode: Callable[[Sequence[Key]], Sequence[LevelFeatures]]
    ) -> list[LevelFeatures]:
        """Features in the order of ``keys``, also where not all of them fit.

        Args:
            keys: of slices, each once.
            encode: computes the features of those that are not there; called once, or not at all.
        """
        unknown = [key for key in keys if key not in self._features]
        encoded = dict(zip(unknown, encode(unknown), strict=True)) if unknown else {}
        found = [encoded[key] if key in encoded else self._features[key] for key in keys]
        for key, features in zip(keys, found, strict=True):
            self._keep(key, features)
        return found

    def _keep(self, key: Key, features: LevelFeatures) -> None:
        if key not in self._features:
            self._features[key] = features
            self.bytes += _size(features)
        self._features.move_to_end(key)
        while self.bytes > self.max_bytes and len(self._features) > 1:
            self.bytes -= _size(self._features.popitem(last=False)[1])


def _size(features: LevelFeatures) -> int:
    return sum(level.numel() * level.element_size() for level in features)
