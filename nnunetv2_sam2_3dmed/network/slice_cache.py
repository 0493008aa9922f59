"""Caches of slice features, for sessions and for sliding windows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch

MAX_BYTES = 2 * 2**30
SHARE_OF_DEVICE = 0.25  # of a GPU's memory, where that is less
_SEED = 0

Key = TypeVar("Key", bound=Hashable)


class LevelFeatures(NamedTuple):
    """Features of slices at the three strides, each (slices, channels, height, width)."""

    stride4: torch.Tensor
    stride8: torch.Tensor
    stride16: torch.Tensor


class FeatureCache(Generic[Key]):
    """Features of slices by key; those not used for longest go first.

    A slice of 512 pixels takes 4.2 MB in float32 and 2.6 MB in bfloat16, four times as much at 1024 pixels: 2 GiB hold
    500 to 800 slices of 512 pixels.

    Args:
        max_bytes: bound on the memory of the features.
        at_least: slices that are kept even if they take more than that.

    Raises:
        ValueError: the bound is negative.
    """

    def __init__(self, max_bytes: int, at_least: int = 0):
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}, but must be 0 or more.")
        self.max_bytes = max_bytes
        self.at_least = at_least
        self.clear()

    def __len__(self) -> int:
        return len(self._features)

    def __contains__(self, key: Key) -> bool:
        return key in self._features

    def clear(self) -> None:
        self._features: OrderedDict[Key, LevelFeatures] = OrderedDict()
        self.bytes = 0

    def capacity(self, features: LevelFeatures) -> int:
        """Return the number of slices that fit if their features are as large as these, at least 1."""
        return max(1, self.max_bytes // _size(features))

    def get(
        self, keys: Sequence[Key], encode: Callable[[Sequence[Key]], Iterable[LevelFeatures]]
    ) -> list[LevelFeatures]:
        """Return features in the order of ``keys``, also where not all of them fit.

        Args:
            keys: of slices; one that comes twice is encoded once.
            encode: computes the features of slices that are not kept; called once, or not at all.
        """
        distinct = list(dict.fromkeys(keys))
        unknown = [key for key in distinct if key not in self._features]
        found = dict(zip(unknown, encode(unknown), strict=True)) if unknown else {}
        found.update((key, self._features[key]) for key in distinct if key in self._features)
        for key in distinct:
            self._keep(key, found[key])
        return [found[key] for key in keys]

    def _keep(self, key: Key, features: LevelFeatures) -> None:
        if key not in self._features:
            # a copy: a slice of a batch would keep all of the batch
            self._features[key] = LevelFeatures._make(level.clone() for level in features)
            self.bytes += _size(features)
        self._features.move_to_end(key)
        while self.bytes > self.max_bytes and len(self._features) > self.at_least:
            self.bytes -= _size(self._features.popitem(last=False)[1])


class SliceCache:
    """Features of the slices of sliding windows, so that overlapping windows encode each slice once.

    A slice is known by its content (128 bits of an exact hash), so that any order of the windows works, mirrored along
    the slice axis or padded. When a weight changes, everything is dropped.

    Where a network is built in inference mode, torch does not count the changes of its weights: call :meth:`clear`
    after loading others.

    Args:
        max_bytes: bound on the memory of the features; on a GPU at most a quarter of its memory.
    """

    def __init__(self, max_bytes: int = MAX_BYTES):
        self.max_bytes = max_bytes
        self.clear()

    def clear(self) -> None:
        self._kept: FeatureCache[tuple[int, int]] = FeatureCache(self.max_bytes)
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
        """Return the features of ``slices``, calling ``encoder`` only for those that are not known.

        Args:
            slices: (N, C, H, W).
            encoder: (M, C, H, W) -> features of the M slices, each independent of the others.
            weights: that ``encoder`` computes with.
        """
        valid_for = (slices.device, slices.shape[1:], [(w.data_ptr(), _version(w)) for w in weights])
        if valid_for != self._valid_for:
            self.clear()
            self._valid_for = valid_for
        self._kept.max_bytes = bound_on(slices.device, self.max_bytes)
        keys = self._keys(slices)
        places = {key: place for place, key in reversed(list(enumerate(keys)))}

        def encode(unknown: Sequence[tuple[int, int]]) -> Iterable[LevelFeatures]:
            # where all are unknown they are in their order, and their numbers need not be copied to the device
            some = slices if len(unknown) == len(slices) else slices[[places[key] for key in unknown]]
            return map(LevelFeatures._make, zip(*encoder(some), strict=True))

        found = self._kept.get(keys, encode)
        return LevelFeatures._make(torch.stack(level) for level in zip(*found, strict=True))

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


def bound_on(device: torch.device, max_bytes: int = MAX_BYTES) -> int:
    """Return the bytes of features to keep on ``device``: ``max_bytes``, on a GPU at most a quarter of its memory."""
    if device.type != "cuda":
        return max_bytes
    return min(max_bytes, int(SHARE_OF_DEVICE * torch.cuda.get_device_properties(device).total_memory))


def _version(weight: torch.Tensor) -> int:
    """Number of changes of a weight that torch has counted."""
    return 0 if weight.is_inference() else weight._version


def _size(features: LevelFeatures) -> int:
    return sum(level.numel() * level.element_size() for level in features)
