"""An image as the network sees it: slices the same way up, in grey, encoded once."""

from __future__ import annotations

import numpy as np

from nnunetv2_sam2_3dmed.interactive.prompted_sam2 import PromptedSAM2
from nnunetv2_sam2_3dmed.interactive.slice_features import SliceFeatureCache
from nnunetv2_sam2_3dmed.interactive.volumes import Volume
from nnunetv2_sam2_3dmed.interactive.windows import Window
from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures


class ShownImage:
    """A volume, what of it is shown, and the features of its slices.

    Args:
        volume: the image.
        window: the intensities that are black and white.
        network: encodes slices.
        cache: for their features; emptied here.
        outside: voxels (z, y, x) that are black whatever the window, or None.
    """

    def __init__(
        self,
        volume: Volume,
        window: Window,
        network: PromptedSAM2,
        cache: SliceFeatureCache,
        outside: np.ndarray | None = None,
    ):
        self.volume = volume
        self.window = window
        self.outside = outside
        self._network = network
        self._cache = cache
        cache.clear()

    def grey(self, axis: int, index: int) -> np.ndarray:
        """Grey levels (rows, columns), uint8, of slice ``index`` of the array along ``axis``, in the view."""
        view, seen = self.volume.view(axis), self.seen_index(axis, index)
        grey = self.window.grey(view.of(self.volume.array)[seen])
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
        """Of a slice of the view; computed if they are not kept."""
        index = self.seen_index(axis, seen_index)
        return self._cache.get((axis, index), lambda: self._network.encode(self.grey(axis, index)))
