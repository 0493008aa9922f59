"""Colour jitter and greyscale conversion, on the device (MedSAM2, Training protocol).

MedSAM2 states no strengths: these are SAM 2's own (``sam2.1_hiera_b+_MOSE_finetune.yaml``), which jitters first all
frames of a clip alike, converts some clips to grey, and then jitters each frame by itself. On grey slices, saturation
and the conversion change nothing; SAM 2 leaves the hue alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from nnunetv2_sam2_3dmed.network.promptable_sam2 import copy_to

LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue, as in torchvision


class ColourJitter(NamedTuple):
    """Largest changes of brightness, contrast and saturation; 0.1 draws a factor between 0.9 and 1.1.

    Attributes:
        brightness: of all slices of a stack alike.
        contrast: of all slices of a stack alike.
        saturation: of all slices of a stack alike.
        slice_brightness: of each slice by itself.
        slice_contrast: of each slice by itself.
        slice_saturation: of each slice by itself.
        greyscale: share of stacks that are converted to grey.
    """

    brightness: float = 0.1
    contrast: float = 0.03
    saturation: float = 0.03
    slice_brightness: float = 0.1
    slice_contrast: float = 0.05
    slice_saturation: float = 0.05
    greyscale: float = 0.05

    def __call__(self, images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Return jittered images.

        As in torchvision, a factor of the brightness multiplies the slice, one of the contrast its distance from the
        slice's mean, and one of the saturation its distance from grey. torchvision draws their order; here it is this.

        Args:
            images: grey (B, D, H, W) or coloured (B, D, 3, H, W), 0 to 1.
            rng: draws the factors on the host.
        """
        stacks, slices = images.shape[:2]
        drawn = [
            1 + largest * rng.uniform(-1, 1, size=(stacks, count)).repeat(slices // count, axis=1)
            for largest, count in zip(self[:6], (1, 1, 1, slices, slices, slices), strict=True)
        ]
        to_grey = (rng.uniform(0, 1, size=(stacks, 1)) < self.greyscale).repeat(slices, axis=1)
        table = copy_to(np.stack([*drawn, to_grey]).astype(np.float32), images.device)
        *factors, grey = table.reshape(*table.shape, *[1] * (images.ndim - 2))
        images = _jittered(images, *factors[:3])
        if images.ndim == 5:
            images = torch.where(grey > 0, _grey(images), images)
        return _jittered(images, *factors[3:])


def _jittered(
    images: torch.Tensor, brightness: torch.Tensor, contrast: torch.Tensor, saturation: torch.Tensor
) -> torch.Tensor:
    images = (images * brightness).clamp(0, 1)
    mean = _grey(images).mean(dim=(-2, -1), keepdim=True)
    images = (mean + contrast * (images - mean)).clamp(0, 1)
    if images.ndim < 5:
        return images
    grey = _grey(images)
    return (grey + saturation * (images - grey)).clamp(0, 1)


def _grey(images: torch.Tensor) -> torch.Tensor:
    """Grey levels of coloured images, (B, D, 1, H, W); grey ones as they are."""
    if images.ndim < 5:
        return images
    red, green, blue = images.split(1, dim=2)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
