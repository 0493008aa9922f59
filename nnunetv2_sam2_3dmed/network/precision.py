"""The one place that decides in which precision the network computes."""

from __future__ import annotations

import torch

PRECISIONS = ("auto", "bfloat16", "float32")


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 matrices in hardware (emulation is slower than float32)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # torch has no public question for this in the versions that nnU-Net allows
        return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return False


def autocast(device: torch.device, precision: str = "auto") -> torch.autocast:
    """A context in which the network runs: bfloat16 where that is native, float32 otherwise.

    It is entered inside the network's ``forward``, so that it replaces whatever autocast the caller is in
    (nnU-Net's is float16 on CUDA, none elsewhere), in training and in prediction alike.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, but must be one of {', '.join(PRECISIONS)}.")
    enabled = precision == "bfloat16" or (precision == "auto" and has_native_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def as_autocast_would(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` in the precision that autocast, where it is on, gives to products; to cast early, and only once."""
    device = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else tensor
