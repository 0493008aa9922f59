"""Assertions that hold for everything that runs on a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from torch.utils._pytree import tree_leaves

from tests.fake_cuda.gpu import Watch


def check(watch: Watch, dtype: torch.dtype, waits: Iterable[str] = (), copies: Iterable[str] = ()) -> None:
    """Assert that a step never waits for the device, so that the processor is free to prepare the next one.

    Args:
        watch: of the step.
        dtype: of matrix products, convolutions and attention.
        waits: the functions that may wait, each as often as it is named.
        copies: the functions that may copy to the device, without waiting.
    """
    check_operations(watch, dtype)
    assert not watch.on_cpu
    assert Counter(watch.waits) == Counter(waits)
    assert Counter(watch.copies) == Counter(copies)


def check_operations(watch: Watch, dtype: torch.dtype) -> None:
    """Assert where and in which precision operations ran."""
    assert not watch.elsewhere, f"not on {watch.device}: {watch.elsewhere}"
    assert {"convolution", "addmm"} <= set(watch.products)
    wrong = {name: dtypes for name, dtypes in watch.products.items() if dtypes != {dtype}}
    assert not wrong, f"not in {dtype} alone: {wrong}"
    assert watch.attention
    for call in watch.attention:
        assert call.dtypes == {dtype}
        # what fused kernels take: (batch, heads, tokens, channels), up to 256 channels, dense; those for 256 channels
        # on GPUs of compute capability 8.6, 8.9 and 12.0 give no gradient with dropout
        assert all(len(shape) == 4 and shape[-1] <= 256 for shape in call.shapes), call
        assert call.last_strides == {1} and call.dropout == 0, call


def check_results(results, device: torch.device) -> None:
    """Assert that all tensors in ``results`` are on the device, and that all but indices are float32."""
    tensors = [t for t in tree_leaves(results) if isinstance(t, torch.Tensor)]
    assert tensors
    for tensor in tensors:
        assert tensor.device == device
        assert tensor.dtype == torch.float32 or not tensor.is_floating_point()
