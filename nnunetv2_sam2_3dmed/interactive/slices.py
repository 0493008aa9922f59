"""An image as SAM 2 sees it: slices along an axis, the same way up, in grey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from nnunetv2_sam2_3dmed.images.volumes import Volume
from nnunetv2_sam2_3dmed.images.windows import AUTO, Window, choose_window
from nnunetv2_sam2_3dmed.interactive.engine import Engine
from nnunetv2_sam2_3dmed.interactive.intensities import ShownAs
from nnunetv2_sam2_3dmed.interactive.planes import Cache, Planes
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.network.resizing import as_images


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
    if window == AUTO and learned is not None and not learned.pictures:
        # a trained model's window is one of values, however they are meant to be displayed
        return ShownImage(volume, learned.window(volume.array), learned.outside(volume.array))
    return ShownImage(volume, choose_window(volume.array, window, volume.modality), None, volume.inverted)


class AxisSlices(Planes):
    """The slices of a volume along one axis.

    Args:
        image: with the slices.
        axis: of the array (z, y, x).
        engine: encodes slices.
        cache: of their features.
    """

    def __init__(self, image: ShownImage, axis: int, engine: Engine, cache: Cache):
        super().__init__(axis, image.volume.view(axis), image.volume.shape, engine, cache)
        self._image = image
        self._array = self.view.of(image.volume.array)
        self._outside = None if image.outside is None else self.view.of(image.outside)

    def picture(self, index: int) -> np.ndarray:
        """Grey levels (rows, columns) of a slice, uint8."""
        grey = self._image.window.grey(self._array[index])
        if self._image.inverted:
            grey = 255 - grey
        if self._outside is not None:
            grey[self._outside[index]] = 0
        return grey

    def images(self, indices: Sequence[int]) -> torch.Tensor:
        """Return slices as images (n, 3, S, S), resized as ``SAM2ImagePredictor`` does."""
        greys = np.stack([self.picture(index) for index in indices])
        return as_images(torch.from_numpy(greys).to(self._engine.device).float() / 255, self._engine.image_size)

    def check_shows(self, index: int) -> None:
        """Check that a slice shows something.

        Raises:
            PromptError: all of it has the same grey level.
        """
        grey = self.picture(index)
        if grey.min() == grey.max():
            window = self._image.window
            raise PromptError(
                f"slice {self.turned(index)} along axis {self.axis} shows nothing: all of it has the grey level "
                f"{grey.flat[0]} in the window from {window.low:g} to {window.high:g}; choose another slice or window."
            )
