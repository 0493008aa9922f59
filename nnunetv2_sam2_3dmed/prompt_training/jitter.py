"""Colour jitter of grey slices, on the device (MedSAM2, Training protocol).

MedSAM2 states no strengths: these are SAM 2's own (``sam2.1_hiera_b+_MOSE_finetune.yaml``), which jitters first all
frames of a clip alike and then each by itself. On grey slices, saturation, hue and the conversion to greyscale change
nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from nnunetv2_sam2_3dmed.network.promptable_sam2 import copy_to


class ColourJitter(NamedTuple):
    """Largest changes of brightness and contrast; 0.1 draws a factor between 0.9 and 1.1.

    Attributes:
        brightness: of all slices of a stack alike.
        contrast: of all slices of a stack alike.
        slice_brightness: of each slice by itself.
        slice_contrast: of each slice by itself.
    """

    brightness: float = 0.1
    contrast: float = 0.03
    slice_brightness: float = 0.1
    slice_contrast: float = 0.05

    def __call__(self, grey: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Return jittered grey levels.

        As in torchvision, a factor of the brightness multiplies the slice, and one of the contrast its distance from
        the slice's mean. torchvision draws which of both comes first; here it is the brightness.

        Args:
            grey: (B, D, H, W), 0 to 1.
            rng: draws the factors on the host.
        """
        stacks, slices = grey.shape[:2]
        drawn = [
            1 + largest * rng.uniform(-1, 1, size=(stacks, count)).repeat(slices // count, axis=1)
            for largest, count in zip(self, (1, 1, slices, slices), strict=True)
        ]
        factors = copy_to(np.stack(drawn).astype(np.float32), grey.device)[..., None, None]
        for brightness, contrast in (factors[:2], factors[2:]):
            grey = (grey * brightness).clamp(0, 1)
            mean = grey.mean(dim=(2, 3), keepdim=True)
            grey = (mean + contrast * (grey - mean)).clamp(0, 1)
        return grey
