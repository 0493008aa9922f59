"""Choice of the attention kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch.backends.cuda import enable_flash_sdp, flash_sdp_enabled  # despite its name, for every device

from nnunetv2_sam2_3dmed.shared_context import SharedContext

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
        return _plain_products
    return nullcontext()


@contextmanager
def _without_fused_kernel() -> Iterator[None]:
    before = flash_sdp_enabled()
    enable_flash_sdp(False)
    try:
        yield
    finally:
        enable_flash_sdp(before)


# torch's switch is one for the whole process; its own `sdpa_kernel` is not made for threads that overlap
_plain_products = SharedContext(_without_fused_kernel)
