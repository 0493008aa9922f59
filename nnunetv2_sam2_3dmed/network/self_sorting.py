"""A memory rule that chooses slices by content instead of slice index, inspired by MedSAM-2.

It is rebuilt from the description of MedSAM-2 (arXiv 2408.00874), not from its code, and works without prompts: results
with it are not MedSAM-2's.

MedSAM-2 keeps in its memory bank slices that were segmented with confidence and differ from each other, whatever
their order, and then draws from the bank with weights by likeness to the slice at hand. Its confidence is the mask
quality that SAM 2 predicts; the networks here have no such head, so it is the IoU that the masks' own
probabilities expect. The draw is systematic instead of random, so that a prediction can be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from nnunetv2_sam2_3dmed.network.memory_rules import Memory

CONFIDENT = 0.5  # the expected IoU from which a slice is a candidate


class SliceSummary(NamedTuple):
    """Basis of the choice of a remembered slice.

    Attributes:
        descriptor: the direction of the slice's mean stride-16 feature, of length 1 (B, C).
        confidence: the :func:`expected_iou` of its masks (B,).
    """

    descriptor: torch.Tensor
    confidence: torch.Tensor

    @classmethod
    def of(cls, embedding: torch.Tensor, masks: torch.Tensor) -> SliceSummary:
        """Summarize a slice with features (B, C, H', W') and mask logits (B, K, H, W)."""
        return cls(_descriptor(embedding), expected_iou(masks))


def _descriptor(embedding: torch.Tensor) -> torch.Tensor:
    return F.normalize(embedding.detach().float().mean(dim=(-2, -1)), dim=-1)


def expected_iou(logits: torch.Tensor) -> torch.Tensor:
    """Expected IoU of each thresholded mask under its own probabilities: a confidence without a quality head.

    The sum of min(p, m) over the sum of max(p, m), where p are the probabilities and m the mask of p > 1/2, averaged
    over the masks that are not empty: that a class is absent says nothing of how well another was found. Where all
    are empty, the average over all; an empty mask that nothing speaks against has 1.

    Args:
        logits: (B, K, H, W).

    Returns:
        (B,), 0 to 1.
    """
    probabilities = torch.sigmoid(logits.detach().float())
    masks = (probabilities > 0.5).float()
    smaller = torch.minimum(probabilities, masks).sum(dim=(-2, -1))
    larger = torch.maximum(probabilities, masks).sum(dim=(-2, -1))
    overlap = (smaller + 1) / (larger + 1)  # (B, K)
    present = masks.amax(dim=(-2, -1))
    counted = torch.where(present.any(dim=1, keepdim=True), present, torch.ones_like(present))
    return (overlap * counted).sum(dim=1) / counted.sum(dim=1)


class SelfSorting:
    """Confident slices that differ from each other, drawn by likeness to the slice at hand.

    Ages are encoded as in SAM 2; slices older than its latest ones get the entry of its conditioning frame.
    """

    def summarize(self, embedding: torch.Tensor, masks: torch.Tensor) -> SliceSummary:
        """See ``MemoryRule.summarize``."""
        return SliceSummary.of(embedding, masks)

    def choose(
        self, memories: Sequence[Memory], embedding: torch.Tensor, age_encodings: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``MemoryRule.choose``; each stack of the batch has memories and ages of its own."""
        here, most = len(memories), len(age_encodings)
        chosen = memories_to_attend([memory.summary for memory in memories], embedding, most)
        spatial = torch.stack([memory.spatial for memory in memories])  # (N, B, M, H', W')
        tokens = spatial.flatten(3).permute(0, 3, 1, 2)  # (N, H'W', B, M)
        count, length, batch, width = len(chosen), *tokens.shape[1:]
        tokens = tokens.gather(0, chosen[:, None, :, None].expand(-1, length, -1, width))
        ages = age_encodings[(here - 1 - chosen).clamp(max=most - 1)].view(count, 1, batch, width)
        return tokens.flatten(0, 1), ages


def memories_to_attend(remembered: Sequence[SliceSummary], embedding: torch.Tensor, count: int) -> torch.Tensor:
    """Choose the memories that a slice attends to, independently for each stack of the batch.

    Args:
        remembered: N slices, in their order.
        embedding: (B, C, H', W'), stride-16 features of the slice at hand.
        count: how many memories to return.

    Returns:
        (min(count, N), B), indices into N, ascending; a memory that is much like the slice at hand may come
        several times.
    """
    descriptors = torch.stack([summary.descriptor for summary in remembered])  # (N, B, C)
    confidences = torch.stack([summary.confidence for summary in remembered])  # (N, B)
    likeness = (1 + (descriptors * _descriptor(embedding)).sum(dim=-1)) / 2
    bank = _bank(descriptors, confidences, min(count, len(remembered)))
    drawn = _systematic_draw((confidences * likeness).gather(0, bank))
    return bank.gather(0, drawn).sort(dim=0).values


def _bank(descriptors: torch.Tensor, confidences: torch.Tensor, size: int) -> torch.Tensor:
    """The ``size`` confident slices that differ most from the other confident ones; (size, B) indices.

    Where there are too few of them, the most confident of the rest follow.
    """
    confident = (confidences >= CONFIDENT).float()
    # no matrix products: in bfloat16 the differences between slices that are alike would be rounded away
    unlike = 1 - (descriptors[:, None] * descriptors).sum(dim=-1)  # (N, N, B)
    differences = (unlike * confident).sum(dim=1)
    largest = 2 * len(descriptors)  # no sum of differences is larger, so that confident ones come first
    return torch.where(confident > 0, largest + differences, confidences).topk(size, dim=0).indices


def _systematic_draw(weights: torch.Tensor) -> torch.Tensor:
    """Draw M of M weights (M, B) systematically: a share s is drawn floor(M s) or ceil(M s) times."""
    number, batch = weights.shape
    shares = (weights / weights.sum(dim=0)).cumsum(dim=0).t().contiguous()  # (B, M)
    marks = ((torch.arange(number, device=weights.device) + 0.5) / number).expand(batch, -1).contiguous()
    return torch.searchsorted(shares, marks).clamp(max=number - 1).t()  # rounding may leave the last share below 1
