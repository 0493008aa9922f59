"""Memory of a training step, counted without computing anything."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

_BLOCK = 512  # bytes of which CUDA's allocator gives multiples


class PeakBytes(TorchDispatchMode):
    """Follows what the tensors that are made within it take, and the most that lives at a time.

    Attributes:
        now: bytes that live.
        peak: the most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                self.add(value)
        return result

    def add(self, tensor: torch.Tensor) -> None:
        """Counts a tensor's storage, once."""
        storage = tensor.untyped_storage()
        key = id(storage)
        known = self._known.get(key)
        if known is not None and known() is storage:
            return
        size = -(-storage.nbytes() // _BLOCK) * _BLOCK
        self._known[key] = weakref.ref(storage, lambda _: self._free(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _free(self, key: int, size: int) -> None:
        self.now -= size
        self._known.pop(key, None)


@contextmanager
def fake_tensors() -> Iterator[FakeTensorMode]:
    """A context whose tensors have a shape, a precision and a device, but no memory."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


def make_fake(network: nn.Module, device: torch.device) -> None:
    """Replaces a network's parameters and buffers by ones without memory, in place; within :func:`fake_tensors`."""
    for module in network.modules():
        tables: list[dict[str, Any]] = [module._parameters, module._buffers]
        for tensors in tables:
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
                is_parameter = isinstance(tensor, nn.Parameter)
                tensors[name] = nn.Parameter(fake, requires_grad=tensor.requires_grad) if is_parameter else fake


def step_bytes(network: nn.Module, losses: Callable[[Any], torch.Tensor], batch: Callable[[], Any]) -> int:
    """The peak of the memory that tensors take in a training step with AdamW, its moments included.

    Counted on tensors of the CPU without memory, whose attention and autocast keep what CUDA's fused ones keep, up to
    a few per cent. Not counted is what is no tensor: the CUDA context, workspaces of cuDNN and cuBLAS, and what the
    allocator cannot use between blocks.

    Args:
        network: in training mode; unusable afterwards.
        losses: of the network's output, to their sum.
        batch: makes the network's input.
    """
    with fake_tensors():
        make_fake(network, torch.device("cpu"))
        with PeakBytes() as memory:
            for tensor in [*network.parameters(), *network.buffers()]:
                memory.add(tensor)
            trained = [p for p in network.parameters() if p.requires_grad]
            moments = [torch.empty_like(p) for p in trained for _ in range(2)]
            losses(network(batch())).backward()
            del moments
    return memory.peak
