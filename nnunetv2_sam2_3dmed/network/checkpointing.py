"""Activation checkpointing: less memory for backward, more time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

import torch
from torch.utils.checkpoint import checkpoint

from nnunetv2_sam2_3dmed.network.attention import attention_kernels

# pixels of images whose trunk activations are computed again at once: a GiB with the tiny trunk
RECOMPUTED_PIXELS = 4 * 512 * 512

Result = TypeVar("Result")


def recomputed(function: Callable[[], Result], tensor: torch.Tensor, tokens: int, draws: bool = True) -> Result:
    """Run ``function()`` under activation checkpointing: backward runs it a second time.

    Args:
        function: a closure over its tensors.
        tensor: any of them: torch repeats the random numbers, dropout's, of the devices on which it sees arguments.
        tokens: stride-16 features of a slice, by which ``attention_kernels`` chooses; the second time must choose as
            the first.
        draws: it draws random numbers, whose state is set back for the second time.
    """
    return checkpoint(
        lambda _: function(),
        tensor,
        use_reentrant=False,
        preserve_rng_state=draws,
        context_fn=lambda: (nullcontext(), attention_kernels(tensor.device, tokens)),
    )


def recomputed_parts(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Split images (N, 3, S, S) into parts that are recomputed one after the other."""
    return images.split(recomputed_at_once(images.shape[-1]))


def recomputed_at_once(image_size: int) -> int:
    """Slices of ``image_size`` pixels that are recomputed at once."""
    return max(1, RECOMPUTED_PIXELS // image_size**2)
