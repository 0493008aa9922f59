"""Initialisation of a Hiera trunk that learns from random weights; SAM 2's code relies on a checkpoint.

A checkpoint that is loaded afterwards overwrites the embeddings. The windows are left alone unless asked for,
because with SAM 2's weights the network must compute what SAM 2 does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

import torch

from nnunetv2_sam2_3dmed.network.sam2_modules import Hiera

# about as large as the fresh patch embeddings that they are added to
_AMPLITUDE = 0.3
# root mean square of features; that of what memory attention gives, which normalises, and of encoded places is about 1
_LARGEST_SIZE = 1.0
_SIZE_WEIGHT = 0.1


def sine_embedding(channels: int, height: int, width: int, wavelengths: tuple[float, float]) -> torch.Tensor:
    """Sines and cosines of the place: (1, channels, height, width), between -1 and 1.

    Args:
        channels: a multiple of 4: sine and cosine along y, then along x.
        height: in places.
        width: in places.
        wavelengths: the shortest and the longest, in places; the others lie between in equal ratios.
    """
    shortest, longest = wavelengths
    frequencies = 2 * math.pi / torch.logspace(math.log10(shortest), math.log10(longest), channels // 4)
    y = torch.arange(height)[:, None] * frequencies
    x = torch.arange(width)[:, None] * frequencies
    along_y = torch.cat([y.sin(), y.cos()], dim=1)[:, None].expand(-1, width, -1)
    along_x = torch.cat([x.sin(), x.cos()], dim=1)[None].expand(height, -1, -1)
    return torch.cat([along_y, along_x], dim=2).permute(2, 0, 1)[None]


@torch.no_grad()
def initialise_positions(trunk: Hiera) -> None:
    """Fill the position embeddings, which SAM 2's code leaves at zero: attention then cannot tell places apart.

    The coarse embedding, which is stretched over the image, gets long waves, that of the places within a window
    gets short ones.
    """
    for embedding, wavelengths in ((trunk.pos_embed, (4.0, 16.0)), (trunk.pos_embed_window, (2.5, 16.0))):
        _, channels, height, width = embedding.shape
        embedding.copy_(_AMPLITUDE * sine_embedding(channels, height, width, wavelengths))


def fit_windows(trunk: Hiera, image_size: int) -> None:
    """Shrink attention windows that are larger than the whole grid of their level to that grid.

    SAM 2 pads the grid to the window with zeros, which a window of 14 places over a grid of 6 pays with five times
    the work, and whose attention mostly looks at padding.

    Args:
        trunk: changed in place; no parameter depends on the size of a window.
        image_size: side of the square images in pixels.
    """
    grid = image_size // 4
    for index, block in enumerate(trunk.blocks):
        # a block that pools works on the finer grid before it
        block.window_size = min(block.window_size, grid)
        if index in trunk.q_pool_blocks:
            grid //= 2


def keep_steady(features: Iterable[torch.Tensor], scale: Callable[[torch.Tensor], torch.Tensor] | None = None) -> None:
    """Modify the gradients of the encoder's features so that features neither become constant nor grow.

    The first steps mostly fit constants, such as the object's frequency. Every layer of a fresh trunk takes part in
    that, and after a hundred steps of Adam the features of all places differ by a tenth of their size only
    (``benchmarks/prompt_following.py``), too little for attention, LayerNorm and prompts. The heads can learn constants
    by themselves: the mean over a batch's images and places is removed from the gradients.

    Nothing penalises growing features, since later layers normalise them. But memory attention adds its result to the
    features, and next to features of a hundred times their initial size that result is lost. So the gradient of
    ``0.1 * max(0, mean square - 1)`` is added.

    Args:
        features: each (N, C, h, w); those without gradients are left alone.
        scale: scales a gradient as the losses are scaled, for float16 (``GradScaler.scale``); None: they are not.
    """
    for level in features:
        if level.requires_grad:
            level.register_hook(partial(_steadied, level.detach(), scale))


def _steadied(
    features: torch.Tensor, scale: Callable[[torch.Tensor], torch.Tensor] | None, gradient: torch.Tensor
) -> torch.Tensor:
    features = features.float()
    excess = (features.square().mean() > _LARGEST_SIZE**2) * (2 * _SIZE_WEIGHT / features.numel()) * features
    if scale is not None:
        excess = scale(excess)
    return gradient - gradient.mean(dim=(0, 2, 3), keepdim=True) + excess.to(gradient.dtype)
