"""The three losses of SAM2-3dMed and their sum (paper, equations 2, 5 and 6)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch.utils.checkpoint import checkpoint

from nnunetv2_sam2_3dmed.network.sam2_3dmed import TrainingOutput, at_patch_size
from nnunetv2_sam2_3dmed.training.targets import TargetMaker, Targets, boundary_of, touched_by

# logits of voxels and classes that the losses work on at once: 256 MiB in float32
LOGITS_AT_ONCE = 2**26

SegmentationLoss = Callable[[torch.Tensor, Targets], torch.Tensor]


def bce_loss(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
    """L_seg: binary cross entropy, the mean over classes and counted voxels.

    Args:
        logits: (B, K, D, H, W), foreground only.
        targets: their targets.
    """
    voxelwise = F.binary_cross_entropy_with_logits(logits, targets.masks, reduction="none")
    counted = targets.counted.expand_as(voxelwise)
    return (voxelwise * counted).sum() / counted.sum().clamp(min=1)


class DiceBCELoss:
    """L_seg plus nnU-Net's soft Dice loss on the sigmoids.

    Args:
        batch_dice: pool the batch before the ratio is taken (nnU-Net's plan says so per configuration).
        ddp: pool over processes too.
    """

    def __init__(self, batch_dice: bool, ddp: bool = False):
        self.dice = MemoryEfficientSoftDiceLoss(
            apply_nonlin=torch.sigmoid, batch_dice=batch_dice, do_bg=True, smooth=1e-5, ddp=ddp
        )

    def __call__(self, logits: torch.Tensor, targets: Targets) -> torch.Tensor:
        return bce_loss(logits, targets) + self.dice(logits, targets.masks, loss_mask=targets.counted)


def srpp_loss(offsets: torch.Tensor, slices: torch.Tensor, slice_distance: float = 1.0) -> torch.Tensor:
    """L_srpp (equation 2): mean over ordered pairs i != j of (P_ij - (j - i))^2, in slices squared.

    Args:
        offsets: (B, D, D), predicted P.
        slices: (B, D), bool; pairs with a slice that is not there do not count.
        slice_distance: from one slice to the next, in the unit of P; 1 if P counts slices. The error is stated in
            slices whatever the unit, so that its weight means the same for thin and for thick slices.
    """
    index = torch.arange(offsets.shape[1], device=offsets.device)
    gt = (index[None, :] - index[:, None]).to(offsets.dtype)
    pairs = slices[:, :, None] & slices[:, None, :] & (index[None, :] != index[:, None])
    return ((offsets / slice_distance - gt).square() * pairs).sum() / pairs.sum().clamp(min=1)


def boundary_loss(logits: torch.Tensor, targets: Targets, share: torch.Tensor | None = None) -> torch.Tensor:
    """L_bd (equation 5) divided by N: cross entropy in which the rarer kind of voxel weighs more.

    The sum is divided by the number of voxels N, so that its size does not depend on the resolution.

    Args:
        logits: (B, K, D, H, W), boundary logits.
        targets: their masks; the boundaries are made from them.
        share: N_bd / N, where these are only some of the classes that it is taken over.
    """
    gt, counted = _boundary_and_counted(targets)
    counted = counted.to(gt.dtype)
    total = counted.sum().clamp(min=1)
    if share is None:
        share = (gt * counted).sum() / total
    weight = torch.where(gt > 0, 1 - share, share) * counted
    voxelwise = F.binary_cross_entropy_with_logits(logits, gt, reduction="none")
    return (voxelwise * weight).sum() / total


def _boundary_and_counted(targets: Targets) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ground truth boundaries (B, K, D, H, W) and the counted voxels, none next to an ignored one."""
    gt = boundary_of(targets.masks)
    return gt, ~touched_by(~targets.counted).expand_as(gt)


class LossTerms(NamedTuple):
    """The total and what it is made of, before weighting; a term that a variant lacks is None."""

    total: torch.Tensor
    segmentation: torch.Tensor
    srpp: torch.Tensor | None
    boundary: torch.Tensor | None


class SAM2_3dMedLoss:
    """L = L_seg + lambda_1 L_srpp + lambda_2 L_bd (equation 6).

    Args:
        make_targets: splits nnU-Net's target.
        segmentation_loss: L_seg, a mean over classes, so that it can be taken over some of them at a time.
        srpp_weight: lambda_1.
        boundary_weight: lambda_2.
        slice_distance: between neighbouring slices, in the unit in which SRPP states offsets.
    """

    def __init__(
        self,
        make_targets: TargetMaker,
        segmentation_loss: SegmentationLoss = bce_loss,
        srpp_weight: float = 0.01,
        boundary_weight: float = 0.1,
        slice_distance: float = 1.0,
    ):
        self.make_targets = make_targets
        self.segmentation_loss = segmentation_loss
        self.srpp_weight = srpp_weight
        self.boundary_weight = boundary_weight
        self.slice_distance = slice_distance

    def terms(self, output: TrainingOutput, target: torch.Tensor) -> LossTerms:
        """Compute all terms of the loss of the network's output in training mode.

        Args:
            output: of a batch of B stacks.
            target: nnU-Net's target, (B, 1 or number of regions, D, H, W).
        """
        segmentation = self._mean_over_classes(
            output.masks, 2, lambda masks: at_patch_size(masks, _slice_size(target)), target
        )
        total, srpp, boundary = segmentation, None, None
        if output.offsets is not None:
            srpp = srpp_loss(output.offsets, self.make_targets.slices(target), self.slice_distance)
            total = total + self.srpp_weight * srpp
        if output.boundaries is not None:
            boundary = self._boundary(output.boundaries, target)
            total = total + self.boundary_weight * boundary
        return LossTerms(total, segmentation, srpp, boundary)

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute L_seg alone, of the network's output in eval mode (nnU-Net's ``validation_step``).

        Args:
            logits: (B, number of heads, D, H, W).
            target: nnU-Net's target, (B, 1 or number of regions, D, H, W).
        """
        # without the constant background head, where there is one
        foreground = logits[:, logits.shape[1] - self.make_targets.num_masks :]
        return self._mean_over_classes(foreground, 1, lambda logits: logits, target)

    def _mean_over_classes(
        self,
        masks: torch.Tensor,
        dim: int,
        logits_of: Callable[[torch.Tensor], torch.Tensor],
        target: torch.Tensor,
    ) -> torch.Tensor:
        """L_seg of masks with their classes in ``dim``; ``logits_of`` some of them are (B, classes, D, H, W)."""

        def part(classes: slice, some: torch.Tensor) -> torch.Tensor:
            targets = self.make_targets(target, classes)
            loss = self.segmentation_loss(logits_of(some), targets)
            return loss * (targets.masks.shape[1] / self.make_targets.num_masks)

        return self._over_classes(part, target, masks, dim)

    def _boundary(self, boundaries: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """L_bd of boundary logits (B, D, K, S/4, S/4)."""

        def numbers(classes: slice, _: torch.Tensor) -> torch.Tensor:
            gt, counted = _boundary_and_counted(self.make_targets(target, classes))
            return torch.stack([(gt * counted).sum(), counted.sum()])

        with torch.no_grad():
            on_boundary, total = self._over_classes(numbers, target, boundaries, 2)
            share = on_boundary / total.clamp(min=1)

        def part(classes: slice, some: torch.Tensor) -> torch.Tensor:
            targets = self.make_targets(target, classes)
            loss = boundary_loss(at_patch_size(some, _slice_size(target)), targets, share)
            # as many voxels count in each class
            return loss * (targets.masks.shape[1] / self.make_targets.num_masks)

        return self._over_classes(part, target, boundaries, 2)

    def _over_classes(
        self, part: Callable[[slice, torch.Tensor], torch.Tensor], target: torch.Tensor, masks: torch.Tensor, dim: int
    ) -> torch.Tensor:
        """The sum of ``part(classes, masks of these)`` over groups of classes whose logits fit into a bounded memory.

        Where there are several groups, each is computed a second time in backward: what is kept of a voxel and class
        for it would be some twenty bytes. The masks are split once, so that their gradients are joined once; sliced in
        each group, they would get a gradient of the size of all classes from each.
        """
        count = self.make_targets.num_masks
        at_once = max(1, LOGITS_AT_ONCE // target[:, 0].numel())
        if at_once >= count:
            return part(slice(0, count), masks)
        groups = [slice(start, min(start + at_once, count)) for start in range(0, count, at_once)]
        pairs = zip(groups, masks.split(at_once, dim), strict=True)
        again = torch.is_grad_enabled()
        # losses draw no random numbers, whose state a CUDA graph cannot set in all versions
        recomputed = partial(checkpoint, part, use_reentrant=False, preserve_rng_state=False)
        parts = [(recomputed if again else part)(*pair) for pair in pairs]
        return torch.stack(parts).sum(dim=0)


def _slice_size(target: torch.Tensor) -> tuple[int, int]:
    return target.shape[-2], target.shape[-1]
