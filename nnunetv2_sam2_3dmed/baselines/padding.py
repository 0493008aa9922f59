"""Padding of patches to the multiples that a network needs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


def padded_size(size: Sequence[int], step: int) -> list[int]:
    """Return the size, in voxels per axis, to which an input of ``size`` is padded.

    The next multiple of ``step`` on each axis. Where the deepest grid (one voxel per ``step``) would be a single
    voxel, it is two steps on each axis: instance normalisation over one voxel fails.
    """
    grid = [-(-n // step) for n in size]
    if math.prod(grid) == 1:
        grid = [2] * len(grid)
    return [n * step for n in grid]


def deep_supervision_size(size: Sequence[int], level: int) -> list[int]:
    """Return the target's size at ``level`` of deep supervision: a patch of ``size``, halved ``level`` times."""
    return [max(1, round(n / 2**level)) for n in size]


class PaddedNetwork(nn.Module):
    """Pad the input with zeros on both sides, as nnU-Net does at the border of a volume, and crop the output.

    Where the voxels missing on an axis are an odd number, one more is added behind than before.

    Args:
        network: from (B, C, D, H, W), sizes as :func:`padded_size` gives them, to logits (B, K, D, H, W), or to a
            sequence of logits, of which each has half the size of the one before.
        step: in voxels; the network needs multiples of it.
    """

    def __init__(self, network: nn.Module, step: int):
        super().__init__()
        self.network = network
        self.step = step

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Map (B, C, *size) to (B, K, *size); with deep supervision to a list that continues with the coarse outputs.

        Coarse outputs have the sizes of :func:`deep_supervision_size`; those that were interpolated are float32.
        """
        size = x.shape[2:]
        padded = padded_size(size, self.step)
        before = [(new - old) // 2 for new, old in zip(padded, size)]
        after = [new - old - first for new, old, first in zip(padded, size, before)]
        # F.pad begins with the last axis
        pads = [n for pair in zip(reversed(before), reversed(after)) for n in pair]
        output = self.network(F.pad(x, pads) if any(pads) else x)
        if isinstance(output, torch.Tensor):
            return _crop(output, pads)
        coarse = [_resample(level, before, size, padded, n) for n, level in enumerate(output[1:], start=1)]
        return [_crop(output[0], pads), *coarse]


def _crop(output: torch.Tensor, pads: list[int]) -> torch.Tensor:
    return F.pad(output, [-n for n in pads]) if any(pads) else output


def _resample(
    output: torch.Tensor, before: Sequence[int], size: Sequence[int], padded: Sequence[int], level: int
) -> torch.Tensor:
    """Return the patch's part of a coarse output, linearly interpolated at the centres of the target's voxels.

    A coarse grid starts with the padding, the target's with the patch, so that they may differ by half a voxel.
    """
    target = deep_supervision_size(size, level)
    if list(size) == list(padded) and list(output.shape[2:]) == target:
        return output
    axes = []
    for n, first, old, new in zip(target, before, size, padded):
        centres = first + (torch.arange(n, device=output.device) + 0.5) * (old / n)  # in voxels of the padded patch
        axes.append(2 * centres / new - 1)
    # grid_sample wants the last axis first
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)
    # in float32: the 11 bits of float16 are too few for positions
    return F.grid_sample(
        output.float(), grid.expand(output.shape[0], *grid.shape), padding_mode="border", align_corners=False
    )
