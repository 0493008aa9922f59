"""A GPU that need not be there: tensors that have a device, but no content."""

from __future__ import annotations

import copy

import pytest
import torch
from packaging.version import Version
from torch._subclasses.fake_tensor import FakeTensorMode

GPU = torch.device("cuda", 0)


def skip_where_fake_tensors_need_a_driver() -> None:
    """Before version 2.10, torch asked CUDA's driver about tensors that only pretend to be on a GPU."""
    if Version(torch.__version__) < Version("2.10"):
        pytest.skip(f"torch {torch.__version__} cannot pretend that there is a GPU")


class NoWaiting(torch.utils._python_dispatch.TorchDispatchMode):
    """Guard against copies between host and GPU that make the host wait; counts the others.

    Who asks a fake tensor for its numbers (item, nonzero, a boolean index) fails anyway.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copies = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet is torch.ops.aten._to_copy:
            self._check(args[0].device, torch.device(kwargs.get("device") or args[0].device), kwargs)
        if packet is torch.ops.aten.copy_:
            self._check(args[1].device, args[0].device, {"non_blocking": args[2:] == (True,), **kwargs})
        return func(*args, **kwargs)

    def _check(self, source: torch.device, target: torch.device, options: dict) -> None:
        if source.type == target.type:
            return
        if target.type == "cpu" or not options.get("non_blocking"):
            raise AssertionError(f"a copy from {source} to {target} is waited for")
        self.copies += 1


def fake_copy(model: torch.nn.Module, mode: FakeTensorMode, device: torch.device = GPU) -> torch.nn.Module:
    """The model with tensors that have a device, but no content."""
    skip_where_fake_tensors_need_a_driver()
    model = copy.deepcopy(model)
    with torch.no_grad(), mode:
        for module in model.modules():
            for tensors in (module._parameters, module._buffers, vars(module)):
                for name, tensor in tensors.items():
                    if isinstance(tensor, torch.Tensor):
                        fake = torch.empty_like(tensor.detach(), device=device)
                        is_parameter = tensors is module._parameters
                        tensors[name] = torch.nn.Parameter(fake, tensor.requires_grad) if is_parameter else fake
    model.to = lambda device: model  # modules do not know how to move such tensors
    return model
