"""An image as SAM 2 sees it: slices along an axis, the same way up, in grey, encoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nnunetv2_sam2_3dmed.images.volumes import Volume
from nnunetv2_sam2_3dmed.images.windows import AUTO, Window, choose_window
from nnunetv2_sam2_3dmed.interactive.engine import Engine
from nnunetv2_sam2_3dmed.interactive.intensities import ShownAs
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError, check_slice
from nnunetv2_sam2_3dmed.network.slice_cache import FeatureCache, LevelFeatures

Cache = FeatureCache[tuple[int, int]]  # by axis and slice index


class ShownImage(NamedTuple):
    """A volume and its grey levels.

    Attributes:
        volume: the image.
        window: the intensities that are black and white.
        outside: voxels (z, y, x) that are black whatever the window, or None.
        inverted: low intensities are bright.
    """

    volume: Volume
    window: Window
    outside: np.ndarray | None = None
    inverted: bool = False


def show(volume: Volume, window: str | tuple[float, float], learned: ShownAs | None) -> ShownImage:
    """Choose the grey levels of a volume.

    Args:
        volume: the image.
        window: see ``InteractiveSession.set_image``.
        learned: how a model trained within nnU-Net expects images; None for other models.

    Raises:
        UserError: there is no such window.
    """
    if window == AUTO and learned is not None:
        # a trained model's window is one of values, however they are meant to be displayed
        return ShownImage(volume, learned.window(volume.array), learned.outside(volume.array))
    return ShownImage(volume, choose_window(volume.array, window, volume.modality), None, volume.inverted)


class AxisSlices:
    """The slices along one axis, in the orientation in which SAM 2 sees them.

    Slice indices count in that orientation; :meth:`turned` converts them from and to indices of the array.

    Args:
        image: with the slices.
        axis: of the array (z, y, x).
        engine: encodes slices.
        cache: of their features.

    Attributes:
        axis: of the array.
        view: the orientation.
        depth: number of slices.
        shape: rows and columns.
    """

    def __init__(self, image: ShownImage, axis: int, engine: Engine, cache: Cache):
        self.axis = axis
        self.view = image.volume.view(axis)
        self.depth, *plane = self.view.shape(image.volume.shape)
        self.shape = (plane[0], plane[1])
        self._image = image
        self._engine = engine
        self._cache = cache
        self._array = self.view.of(image.volume.array)
        self._outside = None if image.outside is None else self.view.of(image.outside)

    def turned(self, index: int) -> int:
        """Convert the slice index of the array to that of the view, or the other way round."""
        return self.depth - 1 - index if self.view.flips[0] else index

    def check_index(self, index: int) -> int:
        """Return a slice index of the array.

        Raises:
            PromptError: there is no such slice.
        """
        return check_slice(index, self._image.volume.shape, self.axis)

    def points(self, voxels: np.ndarray) -> np.ndarray:
        """Convert voxels (N, 3) of the array to rows and columns (N, 2)."""
        return self.view.points(voxels, self._image.volume.shape)[:, 1:]

    def grey(self, index: int) -> np.ndarray:
        """Grey levels (rows, columns) of a slice, uint8."""
        grey = self._image.window.grey(self._array[index])
        if self._image.inverted:
            grey = 255 - grey
        if self._outside is not None:
            grey[self._outside[index]] = 0
        return grey

    def check_shows(self, index: int) -> None:
        """Check that a slice shows something.

        Raises:
            PromptError: all of it has the same grey level.
        """
        grey = self.grey(index)
        if grey.min() == grey.max():
            window = self._image.window
            raise PromptError(
                f"slice {self.turned(index)} along axis {self.axis} shows nothing: all of it has the grey level "
                f"{grey.flat[0]} in the window from {window.low:g} to {window.high:g}; choose another slice or window."
            )

    def features(self, index: int) -> LevelFeatures:
        """Features of a slice; computed if they are not kept."""
        return self._known([index])[0]

    def features_along(self, indices: Sequence[int]) -> Iterator[LevelFeatures]:
        """Yield the features of slices, encoded ahead in batches where they are not kept.

        Beside what is kept, the features of one batch are in memory.
        """
        at_once = self._engine.slices_at_once
        for k in range(0, len(indices), at_once):
            yield from self._known(indices[k : k + at_once])

    def prepare(self) -> None:
        """Encode the slices in batches.

        Where not all of them fit into the cache, those that are there stay, and of the others the first ones of the
        array are encoded until it is full: encoding more would only drop slices encoded before.
        """
        indices = [self.turned(index) for index in range(self.depth)]
        kept = [index for index in indices if (self.axis, index) in self._cache] or indices[:1]
        most = self._cache.capacity(self._known(kept)[-1])  # all slices take the same
        unknown = [index for index in indices if (self.axis, index) not in self._cache]
        for _ in self.features_along(unknown[: max(0, most - len(kept))]):
            pass

    def _known(self, indices: Sequence[int]) -> list[LevelFeatures]:
        keys = [(self.axis, index) for index in indices]
        return self._cache.get(keys, self._encode)

    def _encode(self, unknown: Sequence[tuple[int, int]]) -> list[LevelFeatures]:
        return self._engine.encode([self.grey(index) for _, index in unknown])
