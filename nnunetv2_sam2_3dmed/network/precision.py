"""Numerical precision of the network on each device."""

from __future__ import annotations

import torch

PRECISIONS = ("auto", "bfloat16", "float16", "float32")
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_AMPERE = 8  # compute capability of the first NVIDIA GPUs with bfloat16


def check_precision(precision: str) -> None:
    """Refuse an unknown precision.

    Raises:
        ValueError: it is none of :data:`PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, but must be one of {', '.join(PRECISIONS)}.")


def has_native_bfloat16(device: torch.device) -> bool:
    """Return True if ``device`` multiplies bfloat16 matrices in hardware (emulation is slower than float32)."""
    if device.type == "cuda":
        # not torch.cuda.is_bf16_supported, which asks the current device
        return torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= _AMPERE
    if device.type == "cpu":
        # torch has no public question for this in the versions that nnU-Net allows
        return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return False


def dtype_for(device: torch.device, precision: str = "auto") -> torch.dtype:
    """Return the precision of matrix products on ``device``.

    "auto" is bfloat16 where that is native, float16 on other CUDA devices (T4, RTX 20xx), float32 elsewhere.
    """
    check_precision(precision)
    if precision != "auto":
        return _DTYPES[precision]
    if has_native_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32


def autocast(device: torch.device, precision: str = "auto") -> torch.autocast:
    """A context in which the network runs, in the precision that :func:`dtype_for` gives.

    It is entered inside the network's ``forward``, so that it replaces whatever autocast the caller is in
    (nnU-Net's is float16 on CUDA, none elsewhere), in training and in prediction alike.
    """
    dtype = dtype_for(device, precision)
    reduced = dtype != torch.float32
    return torch.autocast(device.type, dtype=dtype if reduced else torch.bfloat16, enabled=reduced)


def as_autocast_would(tensor: torch.Tensor) -> torch.Tensor:
    """Cast ``tensor`` to the precision of autocast, where it is on: early, and once for several uses."""
    device = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else tensor
