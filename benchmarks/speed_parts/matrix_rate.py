"""The rate at which the device multiplies matrices: what any network's rate is held against."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from time import perf_counter
from typing import Any

import torch

from speed_parts.record import Run
from speed_parts.timing import synchronize

REPEATS = 15


def measure_matrix_rate(run: Run) -> Iterator[dict[str, Any]]:
    """TFLOP per second of products of square matrices, the fastest of several sizes, medians, for each precision."""
    rates = {}
    for precision in precisions(run.device):
        by_size = {n: rate_of(n, precision, run.device) for n in run.setting.matrix_sizes}
        rates[precision] = {
            "tflop_per_second": round(max(by_size.values()) / 1e12, 4),
            "by_size": {str(n): round(rate / 1e12, 4) for n, rate in by_size.items()},
        }
        yield rates


def precisions(device: torch.device) -> tuple[str, ...]:
    """On a CPU, float16 is what nobody here computes in."""
    return ("float32", "bfloat16", "float16") if device.type == "cuda" else ("float32", "bfloat16")


def rate_of(n: int, precision: str, device: torch.device) -> float:
    """Operations per second of the product of two n x n matrices."""
    a, b = (torch.randn(n, n, device=device).to(getattr(torch, precision)) for _ in range(2))
    seconds = []
    for _ in range(REPEATS + 2):
        synchronize(device)
        begun = perf_counter()
        torch.mm(a, b)
        synchronize(device)
        seconds.append(perf_counter() - begun)
    return 2 * n**3 / median(seconds[2:])
