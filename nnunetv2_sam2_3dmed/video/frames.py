"""Frames of a video as SAM 2 sees them, encoded once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from nnunetv2_sam2_3dmed.images.orientation import View
from nnunetv2_sam2_3dmed.interactive.engine import Engine
from nnunetv2_sam2_3dmed.interactive.planes import Cache, Planes
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.network.slice_encoder import IMAGENET_MEAN, IMAGENET_STD
from nnunetv2_sam2_3dmed.video.video import Video

AS_STORED = View((0, 1, 2), (False, False, False))  # frames are shown as they are: nothing says which way is up


class Frames(Planes):
    """The frames of a video.

    Args:
        video: with the frames.
        engine: encodes them.
        cache: of their features.
    """

    def __init__(self, video: Video, engine: Engine, cache: Cache):
        super().__init__(0, AS_STORED, video.shape, engine, cache)
        self._video = video

    def picture(self, index: int) -> np.ndarray:
        """Colours (rows, columns, 3) of a frame, uint8."""
        return self._video.frame(index)

    def images(self, indices: Sequence[int]) -> torch.Tensor:
        """Return frames as images (n, 3, S, S), as the loader of ``SAM2VideoPredictor`` makes them.

        That one lets Pillow resize colours of 8 bits by bicubic interpolation, other than ``SAM2ImagePredictor``.
        """
        size = (self._engine.image_size,) * 2
        resized = np.stack([np.array(Image.fromarray(self._video.frame(index)).resize(size)) for index in indices])
        colours = torch.from_numpy(resized).to(self._engine.device).permute(0, 3, 1, 2).float() / 255
        channels = [(colours[:, k] - mean) / std for k, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD))]
        return torch.stack(channels, dim=1)

    def check_index(self, index: float) -> int:
        """Return the index of a frame.

        Raises:
            PromptError: there is no such frame.
        """
        if index != int(index) or not 0 <= index < self.depth:
            raise PromptError(
                f"frame {index:g} does not exist: {self._video.name} has {self.depth} frames, 0 to {self.depth - 1}."
            )
        return int(index)

    def check_shows(self, index: int) -> None:
        """Check that a frame shows something.

        Raises:
            PromptError: all of it has the same colour.
        """
        frame = self._video.frame(index)
        if (frame == frame[0, 0]).all():
            colour = ", ".join(map(str, frame[0, 0]))
            raise PromptError(
                f"frame {index} shows nothing: all of it has the colour ({colour}); choose another frame."
            )
