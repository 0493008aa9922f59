"""Masks at the resolution of the image: a small U-Net on each slice, fed by SAM 2's mask decoder. Ours, not the paper's.

SAM 2 decodes masks at a quarter of the image's resolution, from features whose finest level has stride 4, and its trunk
learns slowly from random weights. Convolutions that see the slice itself learn edges and textures within a hundred
steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

_FINE, _HALF = 16, 32  # channels at the image's resolution and at half of it


def _convolutions(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Two convolutions, as nnU-Net has them."""
    layers: list[nn.Module] = []
    for number in range(2):
        layers += [
            nn.Conv2d(outputs if number else inputs, outputs, 3, 1 if number else stride, 1, bias=False),
            nn.InstanceNorm2d(outputs, affine=True),
            nn.LeakyReLU(0.01),
        ]
    return nn.Sequential(*layers)


class MaskRefinement(nn.Module):
    """Add to SAM 2's masks what convolutions on the slice find, at the slice's own resolution.

    The decoder's pixel features are enlarged twice, each time joined with features of the slice. What comes out is
    weighted by the same hypernetworks as the decoder's own pixel features. Its last layer starts at zero: a fresh
    refinement gives SAM 2's masks, enlarged.

    Args:
        channels: of the decoder's pixel features, SAM 2's C/8.
    """

    def __init__(self, channels: int = 32):
        super().__init__()
        self.fine = _convolutions(3, _FINE)
        self.half = _convolutions(_FINE, _HALF, stride=2)
        self.join_half = _convolutions(channels + _HALF, _HALF)
        self.join_fine = _convolutions(_HALF + _FINE, _HALF)
        self.last = nn.Conv2d(_HALF, channels, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self, masks: torch.Tensor, pixels: torch.Tensor, weights: torch.Tensor, images: torch.Tensor
    ) -> torch.Tensor:
        """Refine the masks of N slices.

        Args:
            masks: (N, K, S/4, S/4), the decoder's logits: ``weights`` times ``pixels``.
            pixels: (N, C/8, S/4, S/4), the decoder's pixel features.
            weights: (N, K, C/8), of the K masks.
            images: (N, 3, S, S), the slices as the image encoder gets them.

        Returns:
            (N, K, S, S), logits in float32.
        """
        fine = self.fine(images)
        half = self.half(fine)
        joined = self.join_half(torch.cat([_enlarged(pixels, half), half], dim=1))
        joined = self.join_fine(torch.cat([_enlarged(joined, fine), fine], dim=1))
        found = torch.einsum("nkc,nchw->nkhw", weights, self.last(joined))
        return _enlarged(masks.float(), found) + found.float()


def _enlarged(features: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)
