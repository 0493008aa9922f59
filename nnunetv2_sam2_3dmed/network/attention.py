"""Choice of the attention kernels."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

# tokens of a slice up to which plain matrix products beat the fused kernel on a CPU, training step included:
# by 11 % at 36 tokens (96 pixels) and 6 % at 64 (128 pixels); their memory grows with the square of it
_FEW_TOKENS = 64


def attention_kernels(device: torch.device, tokens: int) -> AbstractContextManager:
    """A context for the forward pass: plain matrix products for small images on a CPU, torch's choice elsewhere.

    Args:
        device: where the network runs.
        tokens: stride-16 features of a slice.
    """
    if device.type == "cpu" and tokens <= _FEW_TOKENS:
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()
