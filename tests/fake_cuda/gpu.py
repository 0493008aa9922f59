"""A GPU that is not there: tensors without numbers on a CUDA device, and a watch over all that is done with them."""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nnunetv2_sam2_3dmed.training.memory import make_fake
from tests.fake_cuda.backward import walk_back

GIB = 2**30
aten = torch.ops.aten
PRODUCTS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.convolution, aten.convolution_backward}
# code whose functions are named where something waits or goes astray
OURS = ("nnunetv2_sam2_3dmed", "nnunetv2", "sam2")


class _FakeTensors(FakeTensorMode):
    """torch's, which must not look for a driver although ``torch.cuda.is_available`` says that there is one."""

    avoid_device_init = True


class Attention(NamedTuple):
    """A call of ``scaled_dot_product_attention``, after autocast.

    Attributes:
        shapes: of queries, keys and values.
        dtypes: theirs.
        last_strides: of their last axes; fused kernels take 1 alone.
        dropout: share of the weights that is dropped.
    """

    shapes: list[tuple[int, ...]]
    dtypes: set[torch.dtype]
    last_strides: set[int]
    dropout: float


class Watch:
    """Record of the operations on a device.

    Attributes:
        products: precisions of matrix products and convolutions, by the operation.
        attention: all calls.
        elsewhere: what was made on another GPU, and by which operation and function.
        on_cpu: the same of the CPU.
        waits: functions that made the processor wait for the device, or the device for a copy; in their order.
        copies: functions that copied to the device without waiting.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.products: dict[str, set[torch.dtype]] = defaultdict(set)
        self.attention: list[Attention] = []
        self.elsewhere: list[str] = []
        self.on_cpu: list[str] = []
        self.waits: list[str] = []
        self.copies: list[str] = []

    def saw(self, func: Any, args: tuple, kwargs: dict[str, Any], results: Any) -> None:
        """Takes note of an operation."""
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        made = [t for t in tree_leaves(results) if isinstance(t, torch.Tensor)]
        packet = func.overloadpacket
        if packet in PRODUCTS:
            self.products[packet.__name__] |= {t.dtype for t in (*given, *made) if t.is_floating_point()}
        if packet in (aten.index_put, aten.index_put_) and any(t.dtype == torch.bool for t in given[1:-1]):
            self.waits.append(place())  # for how many they are; fake tensors find that out for reading alone
        if packet in (aten._to_copy, aten.copy_):
            self._saw_copy(packet, given, made, kwargs, args)
            return
        if any(t.device.type == "cpu" and t.ndim for t in given) and any(t.device == self.device for t in made):
            self.waits.append(place())  # indices, which are copied
        for device in {t.device for t in made} - {self.device}:
            (self.on_cpu if device.type == "cpu" else self.elsewhere).append(f"{packet.__name__} in {place()}")

    def _saw_copy(self, packet: Any, given: list, made: list, kwargs: dict[str, Any], args: tuple) -> None:
        source, target = (given[1], given[0]) if packet is aten.copy_ else (given[0], made[0])
        if source.device == target.device:
            return
        if target.device.type == "cuda" and target.device != self.device:
            self.elsewhere.append(f"{packet.__name__} in {place()}")
        not_blocking = kwargs.get("non_blocking", False) or (packet is aten.copy_ and len(args) > 2 and args[2])
        (self.copies if not_blocking and target.device == self.device else self.waits).append(place())


def place() -> str:
    """The innermost function of the code under test that is running, as ``module.function``."""
    for frame in reversed(traceback.extract_stack(limit=80)):
        parts = frame.filename.removesuffix(".py").replace("\\", "/").split("/")
        if any(part in OURS for part in parts[:-1]) and "fake_cuda" not in parts:
            return f"{parts[-1]}.{frame.name}"
    return "a test"


class _Operations(TorchDispatchMode):
    def __init__(self, watch: Watch):
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        self.watch.saw(func, args, kwargs or {}, results)
        return results


class _Calls(TorchFunctionMode):
    """Sees what never becomes an operation, and answers for numbers that fake tensors do not have.

    All are 1, but for those that ``numbers`` has for the function that asks.
    """

    READING = (
        torch.Tensor.numpy,
        torch.Tensor.tolist,
        torch.Tensor.item,
        torch.Tensor.__bool__,
        torch.Tensor.__int__,
        torch.Tensor.__float__,
    )

    def __init__(self, watch: Watch, numbers: dict[str, int]):
        super().__init__()
        self.watch = watch
        self.numbers = numbers

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.tensor, torch.as_tensor) and (kwargs or {}).get("device") is not None:
            self.watch.waits.append(place())  # a copy to the device that the processor waits for
        if func is torch.Tensor.backward:
            return walk_back(args[0])
        if func in self.READING and isinstance(args[0], FakeTensor):
            return self._read(func, args[0])
        return func(*args, **(kwargs or {}))

    def _read(self, func: Any, tensor: FakeTensor) -> Any:
        where = place()
        if tensor.device.type != "cpu":
            self.watch.waits.append(where)
        dtype = str(tensor.dtype).removeprefix("torch.")
        numbers = np.full(tensor.shape, self.numbers.get(where, 1), dtype)
        return numbers if func is torch.Tensor.numpy else getattr(numbers, func.__name__)()


class FakeGPU:
    """A device of a compute capability, and what tests do on it.

    Args:
        device: with its number.
        capability: of the GPU; 8.0 has bfloat16, 7.5 has not.
        current: number of the current device, where "cuda" without a number is.

    Attributes:
        numbers: that are read instead of 1, by the function that reads.
    """

    def __init__(self, device: torch.device, capability: tuple[int, int] = (8, 0), current: int = 0):
        self.device = device
        self.capability = capability
        self.tensors = _FakeTensors(allow_non_fake_inputs=True)
        self.memory = 16 * GIB
        self.numbers: dict[str, int] = {}
        self.watch = Watch(device)
        self.current = current

    @contextmanager
    def running(self, *trackers: AbstractContextManager) -> Iterator[Watch]:
        """Watches what is done in this context.

        Args:
            *trackers: dispatch modes that see the same operations, such as one that follows the memory.
        """
        self.watch = Watch(self.device)
        with ExitStack() as stack:
            stack.enter_context(self.tensors)
            for tracker in trackers:
                stack.enter_context(tracker)
            stack.enter_context(_Operations(self.watch))
            stack.enter_context(_Calls(self.watch, self.numbers))
            yield self.watch

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32, device: Any = None) -> torch.Tensor:
        """A tensor on this GPU, or on another device."""
        with self.tensors:
            return torch.empty(shape, dtype=dtype, device=self.device if device is None else device)

    def hold(self, network: nn.Module) -> nn.Module:
        """Put a network, built as usual, on this GPU: parameters and buffers become fake ones, in place."""
        with self.tensors:
            make_fake(network, self.device)

        def to(device: Any) -> nn.Module:  # torch cannot move fake parameters, not even to where they are
            assert torch.device(device) == self.device, f"moved to {device} instead of {self.device}"
            return network

        network.to = to  # type: ignore[method-assign, assignment]
        return network

    # ---- torch's questions

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let torch believe that this GPU is there, beside another one that nobody asked for."""
        answers = {
            "is_available": lambda: True,
            "device_count": lambda: 2,
            "current_device": lambda: self.current,
            "is_bf16_supported": lambda *_, **__: True,  # torch counts emulation
            "is_current_stream_capturing": lambda: False,
            "empty_cache": lambda: None,
            "get_device_capability": self._asked(self.capability),
            "get_device_properties": self._asked(SimpleNamespace(total_memory=self.memory)),
            "mem_get_info": self._asked((self.memory, self.memory)),
            "memory_reserved": self._asked(0),
            "memory_allocated": self._asked(0),
            "max_memory_allocated": self._asked(GIB),
            "reset_peak_memory_stats": self._asked(None),
        }
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, answer)

    def _asked(self, answer: Any) -> Any:
        def question(device: Any = None) -> Any:
            assert device is not None and torch.device(device) == self.device, f"{device} was asked, not {self.device}"
            return answer

        return question


@contextmanager
def fused_attention(gpu: FakeGPU) -> Iterator[None]:
    """Attention by fused kernels, as on a GPU; torch itself, asked for a device that is not there, takes products."""

    def attend(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        three = (query, key, value)
        shapes, dtypes = [tuple(t.shape) for t in three], {t.dtype for t in three}
        gpu.watch.attention.append(Attention(shapes, dtypes, {t.stride(-1) for t in three}, dropout_p))
        if attn_mask is None and query.dtype != torch.float32:
            return aten._scaled_dot_product_flash_attention(*three, dropout_p, is_causal, scale=scale)[0]
        bias = attn_mask
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            bias = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask, float("-inf"))
        if bias is not None:
            bias = bias.expand(*query.shape[:3], key.shape[2])
        keep = torch.is_grad_enabled()
        return aten._scaled_dot_product_efficient_attention(*three, bias, keep, dropout_p, is_causal, scale=scale)[0]

    library = torch.library.Library("aten", "IMPL")
    try:
        for key in ("AutogradCUDA", "CUDA"):  # below autocast, which thus casts as it does on a GPU
            library.impl("scaled_dot_product_attention", attend, key)
        yield
    finally:
        library._destroy()
