"""Choice of the attention kernels."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from threading import Lock

import torch
from torch.backends.cuda import enable_flash_sdp, flash_sdp_enabled  # despite its name, for every device

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


class _PlainProducts(AbstractContextManager):
    """The fused kernel switched off while any thread is inside.

    torch's switch is one for the whole process. Were it set and restored by each thread for itself, as torch's
    ``sdpa_kernel`` does, two threads whose contexts overlap would leave it off for good.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._before = True

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = flash_sdp_enabled()
                enable_flash_sdp(False)
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                enable_flash_sdp(self._before)


_plain_products = _PlainProducts()
