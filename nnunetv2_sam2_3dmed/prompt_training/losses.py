"""What SAM 2's masks, its expectation of their quality, and of the object being there, are trained with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from nnunetv2_sam2_3dmed.network.promptable_sam2 import Answer
from nnunetv2_sam2_3dmed.network.resizing import at_image_size
from nnunetv2_sam2_3dmed.prompt_training.stacks import Objects

PixelLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
ALPHA, GAMMA = 0.25, 2.0  # of the focal loss, SAM 2's


class PromptLossTerms(NamedTuple):
    """The total and what it is made of, before weighting."""

    total: torch.Tensor
    pixels: torch.Tensor
    dice: torch.Tensor
    iou: torch.Tensor
    presence: torch.Tensor


def focal_loss(logits: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Focal loss of each mask, the mean over its counted pixels.

    Args:
        logits: (n, M, S, S).
        truth: (n, 1, S, S), 0 or 1.
        counted: (n, 1, S, S), 0 or 1.

    Returns:
        (n, M).
    """
    truth = truth.expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = logits.sigmoid()
    hit = probability * truth + (1 - probability) * (1 - truth)
    weight = ALPHA * truth + (1 - ALPHA) * (1 - truth)
    pixels = weight * (1 - hit) ** GAMMA * entropy * counted
    return pixels.flatten(2).sum(dim=2) / counted.flatten(2).sum(dim=2).clamp(min=1)


def entropy_loss(logits: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy, else as :func:`focal_loss`."""
    pixels = F.binary_cross_entropy_with_logits(logits, truth.expand_as(logits), reduction="none") * counted
    return pixels.flatten(2).sum(dim=2) / counted.flatten(2).sum(dim=2).clamp(min=1)


def dice_loss(logits: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """1 - (2 |P T| + 1) / (|P| + |T| + 1) of each mask; arguments and result as of :func:`focal_loss`."""
    probability = (logits.sigmoid() * counted).flatten(2)
    truth = (truth * counted).flatten(2)
    overlap = (probability * truth).sum(dim=2)
    return 1 - (2 * overlap + 1) / (probability.sum(dim=2) + truth.sum(dim=2) + 1)


def true_iou(logits: torch.Tensor, truth: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Intersection over union of each mask; arguments and result as of :func:`focal_loss`. Both empty: 0."""
    found, there = ((logits > 0) & (counted > 0)).flatten(2), ((truth > 0) & (counted > 0)).flatten(2)
    overlap, union = (found & there).sum(dim=2), (found | there).sum(dim=2)
    return overlap / union.clamp(min=1)


class PromptLoss:
    """20 focal + dice, as MedSAM2, and as in SAM 2 the L1 error of the expected IoU and the entropy of the presence.

    Of three candidate masks only the best one is trained; what IoU to expect is trained for all. Where an object is not
    on a slice, only that is trained, and not even that where a part of the slice is ignored: it may be there.

    Args:
        pixel_loss: focal or, for networks that know nothing yet, :func:`entropy_loss`: with focal loss, what is easy
            hardly counts, and three quarters of the rest are background.
        pixel_weight: of that, against 1 for each of the others.
    """

    def __init__(self, pixel_loss: PixelLoss = focal_loss, pixel_weight: float = 20.0):
        self.pixel_loss = pixel_loss
        self.pixel_weight = pixel_weight

    def __call__(self, answers: Sequence[Answer], objects: Objects) -> PromptLossTerms:
        """The means over all objects on all slices that were answered (``presence``), and on those that show them."""
        size = objects.prompts.images.shape[-1]
        parts = [self._of(answer, objects, size) for answer in answers]
        there, known, pixels, dice, iou, presence = (torch.cat(values) for values in zip(*parts))
        pixels, dice, iou = (_mean(value, there) for value in (pixels, dice, iou))
        presence = _mean(presence, known)
        return PromptLossTerms(self.pixel_weight * pixels + dice + iou + presence, pixels, dice, iou, presence)

    def _of(self, answer: Answer, objects: Objects, size: int) -> tuple[torch.Tensor, ...]:
        """For n objects on one slice each: whether they are there, whether that is known, four losses; each (n,)."""
        truth = at_image_size(objects.prompts.truth[answer.objects, answer.slices], size)
        counted = at_image_size(objects.prompts.counted[answer.objects, answer.slices], size)
        there = (truth.flatten(1).sum(dim=1) > 0).float()
        known = torch.maximum(there, counted.flatten(1).amin(dim=1))
        pixels = self.pixel_loss(answer.candidates, truth, counted)
        dice = dice_loss(answer.candidates, truth, counted)
        best = (self.pixel_weight * pixels + dice).argmin(dim=1, keepdim=True)
        expected = (answer.expected_iou - true_iou(answer.candidates, truth, counted)).abs().mean(dim=1)
        presence = F.binary_cross_entropy_with_logits(answer.presence[:, 0], there, reduction="none")
        return there, known, pixels.gather(1, best)[:, 0], dice.gather(1, best)[:, 0], expected, presence


def _mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Of those with weight 1, not of those with 0; without any, 0."""
    return (values * weights).sum() / weights.sum().clamp(min=1)
