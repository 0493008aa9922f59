"""Rules for the memories that a slice attends to: their interface and SAM 2's own (another: ``self_sorting``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from nnunetv2_sam2_3dmed.network.sam2_modules import get_1d_sine_pe


class Memory(NamedTuple):
    """Stored for each slice.

    Attributes:
        spatial: spatial memory (B, M, H', W').
        pointer: object pointer (B, C).
        summary: of :meth:`MemoryRule.summarize`.
    """

    spatial: torch.Tensor
    pointer: torch.Tensor
    summary: Any = None


class MemoryRule(Protocol):
    """Interface of the choice of spatial memories that condition a slice.

    A new rule is a class with these two methods, passed to ``MaskPropagation(rule=...)``.
    """

    def summarize(self, embedding: torch.Tensor, masks: torch.Tensor) -> Any:
        """Return tensors to keep in a slice's :class:`Memory` for later choices, or None.

        Args:
            embedding: (B, C, H', W'), the slice's stride-16 features.
            masks: (B, K, 4H', 4W'), its mask logits.
        """

    def choose(
        self, memories: Sequence[Memory], embedding: torch.Tensor, age_encodings: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose among the memories of all slices before this one.

        Args:
            memories: of slices 0 to i - 1, in this order; at least one.
            embedding: (B, C, H', W'), stride-16 features of slice i.
            age_encodings: (A, 1, 1, M), SAM 2's ``maskmem_tpos_enc``: entry a is for the memory of a slices earlier
                than the latest one, the last entry for the conditioning frame. A is the number of memories to choose.

        Returns:
            Spatial memories as tokens (N * H' W', B, M), and the entries for their ages (N, 1, 1 or B, M).
        """


class FirstAndLatest:
    """SAM 2's rule: the conditioning frame, which is slice 0, and the latest slices, oldest first."""

    def summarize(self, embedding: torch.Tensor, masks: torch.Tensor) -> None:
        """Return None: the rule goes by slice index alone."""

    def choose(
        self, memories: Sequence[Memory], embedding: torch.Tensor, age_encodings: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`MemoryRule.choose`."""
        here = len(memories)
        recent = range(max(here - len(age_encodings) + 1, 1), here)
        tokens = [memories[i].spatial.flatten(2).permute(2, 0, 1) for i in (0, *recent)]  # each (H'W', B, M)
        ages = torch.cat([age_encodings[-1:], age_encodings[: len(recent)].flip(0)])
        return torch.cat(tokens), ages


def pointer_tokens(
    memories: Sequence[Memory], depth: int, max_pointers: int, width: int, distance_projection: nn.Module | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Object pointers of slice 0 and of the slices before this one, newest first, cut into tokens as SAM 2 does.

    Args:
        memories: of slices 0 to i - 1, in this order.
        depth: D, slices in the stack; SAM 2 states the distance of a pointer relative to it.
        max_pointers: largest number of pointers.
        width: M, channels of a token.
        distance_projection: SAM 2.1's ``obj_ptr_tpos_proj``; None for SAM 2.0, which does not encode the distance.

    Returns:
        Tokens and their positional encodings, both (P * C / M, B, M).
    """
    here = len(memories)
    most = min(depth, max_pointers)
    chosen = [0, *range(here - 1, max(here - most, 0), -1)]
    pointers = torch.stack([memories[i].pointer for i in chosen])  # (P, B, C)
    count, batch, channels = pointers.shape
    if distance_projection is None:
        position = pointers.new_zeros(count, batch, width)
    else:
        # of slice 0, then of the others; made on the device, since a copy to it would wait for it
        distance = torch.arange(count, device=pointers.device)
        distance[0].fill_(here)
        encoded = get_1d_sine_pe(distance / (most - 1), dim=channels)
        position = distance_projection(encoded)[:, None].expand(-1, batch, -1)
    pieces = channels // width
    tokens = pointers.view(count, batch, pieces, width).transpose(1, 2).flatten(0, 1)
    return tokens, position.repeat_interleave(pieces, dim=0)
