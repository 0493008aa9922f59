"""GPUs that are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import torch

pytest.register_assert_rewrite("tests.fake_cuda.checks")

from tests.fake_cuda.gpu import FakeGPU, fused_attention  # noqa: E402
from tests.interactive.fake_gpu import skip_where_fake_tensors_need_a_driver  # noqa: E402


@pytest.fixture
def make_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[Callable[..., FakeGPU]]:
    """Factory of the GPU that torch believes in for the length of a test; arguments as for FakeGPU."""
    skip_where_fake_tensors_need_a_driver()
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # fake tensors have no such operation
    with ExitStack() as stack:

        def make(device: str = "cuda:0", **options) -> FakeGPU:
            gpu = FakeGPU(torch.device(device), **options)
            gpu.install(monkeypatch)
            stack.enter_context(fused_attention(gpu))
            return gpu

        yield make
