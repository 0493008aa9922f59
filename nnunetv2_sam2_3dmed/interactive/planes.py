"""Pictures along one axis of an image as SAM 2 sees them, encoded once; slices of a volume and frames of a video."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from nnunetv2_sam2_3dmed.images.orientation import View
from nnunetv2_sam2_3dmed.interactive.engine import Engine
from nnunetv2_sam2_3dmed.interactive.prompts import check_slice
from nnunetv2_sam2_3dmed.network.slice_cache import FeatureCache, LevelFeatures

Cache = FeatureCache[tuple[int, int]]  # by axis and index


class Planes(ABC):
    """The pictures along one axis, in the orientation in which SAM 2 sees them.

    Indices count in that orientation; :meth:`turned` converts them from and to indices of the array.

    Args:
        axis: of the array.
        view: the orientation.
        image_shape: of the array.
        engine: encodes pictures.
        cache: of their features.

    Attributes:
        axis: of the array.
        view: the orientation.
        depth: number of pictures.
        shape: rows and columns.
    """

    def __init__(self, axis: int, view: View, image_shape: tuple[int, int, int], engine: Engine, cache: Cache):
        self.axis = axis
        self.view = view
        self.depth, *plane = view.shape(image_shape)
        self.shape = (plane[0], plane[1])
        self._image_shape = image_shape
        self._engine = engine
        self._cache = cache

    @abstractmethod
    def picture(self, index: int) -> np.ndarray:
        """Return a picture for the eye, uint8: grey levels (rows, columns) or colours (rows, columns, 3)."""

    @abstractmethod
    def images(self, indices: Sequence[int]) -> torch.Tensor:
        """Return pictures as images (n, 3, S, S) for SAM 2's encoder, normalised."""

    @abstractmethod
    def check_shows(self, index: int) -> None:
        """Check that a picture shows something.

        Raises:
            PromptError: all of it is the same.
        """

    def check_index(self, index: float) -> int:
        """Return the index of a picture in the array.

        Raises:
            PromptError: there is no such picture.
        """
        return check_slice(index, self._image_shape, self.axis)

    def turned(self, index: int) -> int:
        """Convert an index of the array to that of the view, or the other way round."""
        return self.depth - 1 - index if self.view.flips[0] else index

    def points(self, voxels: np.ndarray) -> np.ndarray:
        """Convert voxels (N, 3) of the array to rows and columns (N, 2)."""
        return self.view.points(voxels, self._image_shape)[:, 1:]

    def features(self, index: int) -> LevelFeatures:
        """Features of a picture; computed if they are not kept."""
        return self._known([index])[0]

    def features_along(self, indices: Sequence[int]) -> Iterator[LevelFeatures]:
        """Yield features, encoded ahead in batches where they are not kept.

        Beside what is kept, the features of one batch are in memory.
        """
        at_once = self._engine.slices_at_once
        for k in range(0, len(indices), at_once):
            yield from self._known(indices[k : k + at_once])

    def prepare(self) -> None:
        """Encode the pictures in batches.

        Where not all of them fit into the cache, those that are there stay, and of the others the first ones of the
        array are encoded until it is full: encoding more would only drop those encoded before.
        """
        indices = [self.turned(index) for index in range(self.depth)]
        kept = [index for index in indices if (self.axis, index) in self._cache] or indices[:1]
        most = self._cache.capacity(self._known(kept)[-1])  # all take the same
        unknown = [index for index in indices if (self.axis, index) not in self._cache]
        for _ in self.features_along(unknown[: max(0, most - len(kept))]):
            pass

    def _known(self, indices: Sequence[int]) -> list[LevelFeatures]:
        keys = [(self.axis, index) for index in indices]
        return self._cache.get(keys, self._encode)

    def _encode(self, unknown: Sequence[tuple[int, int]]) -> list[LevelFeatures]:
        return self._engine.encode(self.images([index for _, index in unknown]))
