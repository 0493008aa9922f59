"""Targets of the losses, made on the device from nnU-Net's target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

PADDING_LABEL = -1


class Targets(NamedTuple):
    """Targets of a batch of stacks.

    Attributes:
        masks: (B, K, D, H, W), 0 or 1, float.
        counted: (B, 1, D, H, W), bool; False where the label is the ignore label.
        slices: (B, D), bool; False for slices that are entirely padding.
    """

    masks: torch.Tensor
    counted: torch.Tensor
    slices: torch.Tensor


class TargetMaker:
    """Splits nnU-Net's target into masks, counted voxels and existing slices.

    Args:
        foreground_labels: the K labels; empty when training with regions.
        ignore_label: its value, or None.
        regions: the target has a channel per region, then one for the ignore label if there is one, then (in
            training) one for padding; otherwise it is one label map, in which padding is -1.
        num_regions: K when training with regions.
    """

    def __init__(
        self, foreground_labels: Sequence[int], ignore_label: int | None, regions: bool = False, num_regions: int = 0
    ):
        self._labels = torch.tensor(list(foreground_labels)).view(1, -1, 1, 1, 1)
        self.ignore_label = ignore_label
        self.regions = regions
        self.num_masks = num_regions if regions else len(foreground_labels)

    def __call__(self, target: torch.Tensor, classes: slice = slice(None)) -> Targets:
        """Split a target.

        Args:
            target: (B, 1 or more, D, H, W).
            classes: those of the K whose masks are wanted.

        Returns:
            Masks of these classes, which voxels count, which slices exist.
        """
        if self.regions:
            masks = target[:, : self.num_masks][:, classes]
            ignored = target[:, self.num_masks, None].bool() if self.ignore_label is not None else None
        else:
            if self._labels.device != target.device:
                # copied once, and without waiting for it
                self._labels = self._labels.to(target.device, non_blocking=True)
            masks = target == self._labels[:, classes]
            ignored = target == self.ignore_label if self.ignore_label is not None else None
        counted = ~ignored if ignored is not None else torch.ones_like(target[:, :1], dtype=torch.bool)
        return Targets(masks.float(), counted, self.slices(target))

    def slices(self, target: torch.Tensor) -> torch.Tensor:
        """Return the slices (B, D) that are not entirely padding."""
        return ~self.padding(target).flatten(3).all(dim=3)[:, 0]

    def padding(self, target: torch.Tensor) -> torch.Tensor:
        """Return the voxels (B, 1, D, H, W) outside the image; none where the target does not mark them."""
        if not self.regions:
            return target == PADDING_LABEL
        if target.shape[1] > self.num_masks + (self.ignore_label is not None):
            return target[:, -1:].bool()
        return torch.zeros_like(target[:, :1], dtype=torch.bool)


def touched_by(voxels: torch.Tensor) -> torch.Tensor:
    """The voxels given (B, C, D, H, W, bool) and their eight neighbours within the slice."""
    slices = voxels.flatten(0, 1).float()  # (B * C, D, H, W): max_pool2d treats D as channels
    return (F.max_pool2d(slices, kernel_size=3, stride=1, padding=1) > 0).view_as(voxels)


def boundary_of(masks: torch.Tensor) -> torch.Tensor:
    """In-plane morphological gradient of binary masks: 3 x 3 dilation minus 3 x 3 erosion.

    Args:
        masks: (B, K, D, H, W), 0 or 1. Outside the patch nothing is assumed: its edge is no boundary.

    Returns:
        The same shape, 1 on the voxels on both sides of each class's edge within a slice.
    """
    slices = masks.flatten(0, 1)
    dilated = F.max_pool2d(slices, kernel_size=3, stride=1, padding=1)
    eroded = -F.max_pool2d(-slices, kernel_size=3, stride=1, padding=1)
    return (dilated - eroded).view_as(masks)
