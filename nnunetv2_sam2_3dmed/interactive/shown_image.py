"""An image as the network sees it: slices the same way up, in grey, encoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nnunetv2_sam2_3dmed.images.volumes import Volume
from nnunetv2_sam2_3dmed.images.windows import Window
from nnunetv2_sam2_3dmed.interactive.slice_features import SliceFeatureCache
from nnunetv2_sam2_3dmed.network.prompted_sam2 import PromptedSAM2
from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures


class ShownImage:
    """A volume, what of it is shown, and the features of its slices.

    Args:
        volume: the image.
        window: the intensities that are black and white.
        network: encodes slices.
        cache: for their features, by axis and index in the array; emptied here.
        outside: voxels (z, y, x) that are black whatever the window, or None.
        inverted: low intensities are bright.
    """

    def __init__(
        self,
        volume: Volume,
        window: Window,
        network: PromptedSAM2,
        cache: SliceFeatureCache[tuple[int, int]],
        outside: np.ndarray | None = None,
        inverted: bool = False,
    ):
        self.volume = volume
        self.window = window
        self.outside = outside
        self.inverted = inverted
        self._network = network
        self._cache = cache
        cache.clear()

    def grey(self, axis: int, index: int) -> np.ndarray:
        """Grey levels (rows, columns), uint8, of slice ``index`` of the array along ``axis``, in the view."""
        view, seen = self.volume.view(axis), self.seen_index(axis, index)
        grey = self.window.grey(view.of(self.volume.array)[seen])
        if self.inverted:
            grey = 255 - grey
        if self.outside is not None:
            grey[view.of(self.outside)[seen]] = 0
        return grey

    def seen_index(self, axis: int, index: int) -> int:
        """A slice's index in the array -> in the view, and the other way round."""
        return self.volume.view(axis).slice_index(index, self.volume.shape)

    def seen_points(self, axis: int, voxels: np.ndarray) -> np.ndarray:
        """Voxels (N, 3) -> row and column (N, 2) in the view."""
        return self.volume.view(axis).points(voxels, self.volume.shape)[:, 1:]

    def seen_shape(self, axis: int) -> tuple[int, int, int]:
        """Slices, rows and columns of the view."""
        return self.volume.view(axis).shape(self.volume.shape)

    def features(self, axis: int, seen_index: int) -> LevelFeatures:
        """Features of a slice of the view; computed if they are not kept."""
        return self._known([(axis, self.seen_index(axis, seen_index))])[0]

    def features_along(self, axis: int, seen_indices: Sequence[int]) -> Iterator[LevelFeatures]:
        """Features of slices of the view one after the other, encoded ahead in batches where they are not kept.

        Beside what is kept, the features of one batch are in memory.
        """
        keys = [(axis, self.seen_index(axis, seen_index)) for seen_index in seen_indices]
        for some in self._batches(keys):
            yield from self._known(some)

    def prepare(self, axis: int) -> None:
        """Encode the slices along an axis in batches.

        Where not all of them fit into the cache, those that are there stay, and of the others the first ones of the
        array are encoded until it is full: what would push out slices encoded before would be wasted.
        """
        keys = [(axis, index) for index in range(self.volume.shape[axis])]
        kept = [key for key in keys if key in self._cache] or keys[:1]
        most = self._cache.capacity(self._known(kept)[-1])  # all slices take the same
        unknown = [key for key in keys if key not in self._cache]
        for some in self._batches(unknown[: max(0, most - len(kept))]):
            self._known(some)

    def _batches(self, keys: Sequence[tuple[int, int]]) -> Iterator[Sequence[tuple[int, int]]]:
        """Keys in batches, as many at once as the network encodes."""
        count = self._network.slices_at_once
        return (keys[k : k + count] for k in range(0, len(keys), count))

    def _known(self, keys: Sequence[tuple[int, int]]) -> list[LevelFeatures]:
        """Features of slices by axis and index in the array, computed if they are not kept."""
        return self._cache.get(keys, lambda unknown: self._network.encode([self.grey(*key) for key in unknown]))
