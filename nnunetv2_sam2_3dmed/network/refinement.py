"""Masks at the resolution of the image: a small U-Net on each slice, joined with SAM 2's mask decoder (ours).

SAM 2 decodes masks at a quarter of the image's resolution, from features whose finest level has stride 4, and its trunk
learns slowly from random weights. Convolutions that see the slice itself learn edges and textures within a hundred
steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

_WIDTHS = (16, 32, 64, 128)  # channels at the image's resolution, at half of it, and so on
_LEVEL_OF_PIXELS = 2  # the decoder's features have stride 4
MAX_LEVELS = len(_WIDTHS)


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
    """Add to SAM 2's masks what a U-Net finds on the slice, at the slice's own resolution.

    The decoder's pixel features join the U-Net's at their own resolution, or the nearest that it has. What comes out
    is weighted by the same hypernetworks as the decoder's own pixel features. Its last layer starts at zero: a fresh
    refinement gives SAM 2's masks, enlarged.

    Args:
        levels: resolutions of the U-Net, 1 to 4: the image's, half of it, and so on.
        channels: of the decoder's pixel features, SAM 2's C/8.
    """

    def __init__(self, levels: int, channels: int = 32):
        super().__init__()
        widths = _WIDTHS[:levels]
        self.joined_at = min(_LEVEL_OF_PIXELS, levels - 1)
        self.down = nn.ModuleList(
            _convolutions(widths[level - 1] if level else 3, width, 2 if level else 1)
            for level, width in enumerate(widths)
        )
        ups = [max(width, channels) for width in widths]
        inputs = [
            width + (ups[level + 1] if level + 1 < levels else 0) + (channels if level == self.joined_at else 0)
            for level, width in enumerate(widths)
        ]
        self.up = nn.ModuleList(_convolutions(*sizes) for sizes in zip(inputs, ups, strict=True))
        self.last = nn.Conv2d(ups[0], channels, 1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

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
        skipped = []
        features = images
        for convolutions in self.down:
            features = convolutions(features)
            skipped.append(features)
        found: list[torch.Tensor] = []  # of the level below
        for level in reversed(range(len(skipped))):
            joined = [*found, pixels] if level == self.joined_at else found
            same = [skipped[level], *(_resized(each, skipped[level]) for each in joined)]
            found = [self.up[level](torch.cat(same, dim=1))]
        added = torch.einsum("nkc,nchw->nkhw", weights, self.last(found[0])).float()
        return _resized(masks.float(), added) + added


def _resized(features: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)
