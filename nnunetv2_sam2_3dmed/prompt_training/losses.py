"""Losses of SAM 2's masks, predicted IoU and object score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from nnunetv2_sam2_3dmed.network.promptable_sam2 import Answer
from nnunetv2_sam2_3dmed.network.resizing import at_image_size
from nnunetv2_sam2_3dmed.prompt_training.stacks import TrainingPrompts

PixelLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
ALPHA, GAMMA = 0.25, 2.0  # SAM 2's focal loss


class PromptLossTerms(NamedTuple):
    """The weighted sum and its terms before weighting."""

    total: torch.Tensor
    pixels: torch.Tensor
    dice: torch.Tensor
    iou: torch.Tensor
    presence: torch.Tensor


def focal_loss(logits: torch.Tensor, gt: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Focal loss of each mask, averaged over its counted pixels.

    Args:
        logits: (n, M, S, S).
        gt: ground truth (n, 1, S, S), 0 or 1.
        counted: (n, 1, S, S), 0 for ignored pixels, else 1.

    Returns:
        (n, M).
    """
    gt = gt.expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, gt, reduction="none")
    probability = logits.sigmoid()
    hit = probability * gt + (1 - probability) * (1 - gt)
    weight = ALPHA * gt + (1 - ALPHA) * (1 - gt)
    pixels = weight * (1 - hit) ** GAMMA * entropy * counted
    return pixels.flatten(2).sum(dim=2) / counted.flatten(2).sum(dim=2).clamp(min=1)


def bce_loss(logits: torch.Tensor, gt: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy of each mask; arguments and result as of :func:`focal_loss`."""
    pixels = F.binary_cross_entropy_with_logits(logits, gt.expand_as(logits), reduction="none") * counted
    return pixels.flatten(2).sum(dim=2) / counted.flatten(2).sum(dim=2).clamp(min=1)


def dice_loss(logits: torch.Tensor, gt: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """1 - (2 |P G| + 1) / (|P| + |G| + 1) of each mask; arguments and result as of :func:`focal_loss`."""
    probability = (logits.sigmoid() * counted).flatten(2)
    gt = (gt * counted).flatten(2)
    overlap = (probability * gt).sum(dim=2)
    return 1 - (2 * overlap + 1) / (probability.sum(dim=2) + gt.sum(dim=2) + 1)


def true_iou(logits: torch.Tensor, gt: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Intersection over union of each mask; arguments and result as of :func:`focal_loss`. 0 if both are empty."""
    found, there = ((logits > 0) & (counted > 0)).flatten(2), ((gt > 0) & (counted > 0)).flatten(2)
    overlap, union = (found & there).sum(dim=2), (found | there).sum(dim=2)
    return overlap / union.clamp(min=1)


class PromptLoss:
    """20 focal + Dice loss as in MedSAM2; L1 loss of the predicted IoU and BCE of the presence as in SAM 2.

    Of three candidate masks only the best one is trained; the predicted IoU is trained for all of them. On slices
    without the object only the presence is trained, and nothing if a part of the slice is ignored, where the object may
    be.

    Args:
        pixel_loss: :func:`focal_loss` or, for random initial weights, :func:`bce_loss`: the focal loss nearly ignores
            easy pixels, and three quarters of the weight of the others are on the background.
        pixel_weight: weight of the pixel loss; the other terms have weight 1.
    """

    def __init__(self, pixel_loss: PixelLoss = focal_loss, pixel_weight: float = 20.0):
        self.pixel_loss = pixel_loss
        self.pixel_weight = pixel_weight

    def __call__(self, answers: Sequence[Answer], objects: TrainingPrompts) -> PromptLossTerms:
        """Means over all objects on all segmented slices (``presence``), and on those that show the object (others)."""
        size = objects.prompts.images.shape[-1]
        parts = [self._of(answer, objects, size) for answer in answers]
        there, known, pixels, dice, iou, presence = (torch.cat(values) for values in zip(*parts))
        pixels, dice, iou = (_mean(value, there) for value in (pixels, dice, iou))
        presence = _mean(presence, known)
        return PromptLossTerms(self.pixel_weight * pixels + dice + iou + presence, pixels, dice, iou, presence)

    def _of(self, answer: Answer, objects: TrainingPrompts, size: int) -> tuple[torch.Tensor, ...]:
        """Compare n objects on one slice each: present or not, presence known or not, and four losses; each (n,)."""
        gt = at_image_size(objects.prompts.gt[answer.objects, answer.slices], size)
        counted = at_image_size(objects.prompts.counted[answer.objects, answer.slices], size)
        there = (gt.flatten(1).sum(dim=1) > 0).float()
        known = torch.maximum(there, counted.flatten(1).amin(dim=1))
        pixels = self.pixel_loss(answer.candidates, gt, counted)
        dice = dice_loss(answer.candidates, gt, counted)
        best = (self.pixel_weight * pixels + dice).argmin(dim=1, keepdim=True)
        expected = (answer.expected_iou - true_iou(answer.candidates, gt, counted)).abs().mean(dim=1)
        presence = F.binary_cross_entropy_with_logits(answer.presence[:, 0], there, reduction="none")
        return there, known, pixels.gather(1, best)[:, 0], dice.gather(1, best)[:, 0], expected, presence


def _mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean of the values with weight 1; 0 if there are none."""
    return (values * weights).sum() / weights.sum().clamp(min=1)
