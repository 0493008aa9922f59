"""Memory of a training step: counted without computing anything, expected by a formula, and not enough."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.checkpointing import RECOMPUTED_PIXELS
from nnunetv2_sam2_3dmed.training.losses import LOGITS_AT_ONCE

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

GIB = 2**30
_BLOCK = 512  # bytes of which CUDA's allocator gives multiples
# of each trunk, its parameters, and GiB that it keeps of a slice of 256 x 256 pixels where it trains
_TRUNKS = {
    "tiny": (26_849_472, 0.076),
    "small": (33_947_328, 0.095),
    "base_plus": (68_675_712, 0.155),
    "large": (212_149_296, 0.259),
}
_FROZEN_SHARE = 0.66  # of what a trunk that trains keeps, where gradients pass through a frozen one


@dataclass(frozen=True)
class TrainingStep:
    """A step whose memory is to be expected.

    Attributes:
        batch_size: stacks on one GPU.
        patch_size: (D, H, W) in voxels.
        image_size: S.
        num_masks: K, foreground classes or regions.
        backbone: a key of ``sam2_modules.BACKBONES``.
        checkpointing: with activation checkpointing.
        trunk_trains: the trunk trains too.
        channels: of the images. Other than 1 and 3, they are mixed by weights in front of the trunk, so that gradients
            pass through it.
    """

    batch_size: int
    patch_size: tuple[int, int, int]
    image_size: int
    num_masks: int
    backbone: str = "sam2.1_hiera_tiny"
    checkpointing: bool = False
    trunk_trains: bool = False
    channels: int = 1

    def expected_bytes(self) -> int:
        """Peak of the tensors of a step of ``SAM2_3dMedTrainer``, to about a tenth.

        A formula whose terms are known and whose factors were fitted to counts by :func:`step_bytes` with bfloat16, all
        three losses and binary cross entropy. ``benchmarks/memory.py`` compares it with counts.
        """
        depth = self.patch_size[0]
        pixels = (self.image_size / 256) ** 2  # of a slice, in units of 256 x 256
        slices = self.batch_size * depth * pixels
        memories = sum(min(index, 7) for index in range(depth)) / depth  # that a slice attends to, on average
        parameters, kept_by_trunk = _TRUNKS[self.backbone.split("_hiera_")[1]]
        weights = 0.33 + 0.0043 * self.num_masks + parameters * (16 if self.trunk_trains else 4) / GIB
        voxels = self.batch_size * prod(self.patch_size)
        losses = 36 * min(voxels * self.num_masks, max(LOGITS_AT_ONCE, voxels)) / GIB
        through_trunk = self.trunk_trains or self.channels not in (1, 3)
        if not self.trunk_trains:
            kept_by_trunk *= _FROZEN_SHARE
        if not self.checkpointing:
            kept = slices * (0.057 + 0.0047 * memories + 0.0004 * self.num_masks)
            trunk = slices * kept_by_trunk if through_trunk else 0.0
            return int((weights + kept + trunk + losses) * GIB)
        kept = slices * (0.0082 + 0.00003 * self.num_masks)
        one_slice = self.batch_size * pixels * (0.036 + 0.0008 * self.num_masks)
        peak = kept + max(one_slice, losses)
        if through_trunk:
            # by then, backward has freed part of what was kept
            again = min(slices, RECOMPUTED_PIXELS / 256**2)
            peak = max(peak, 0.0055 * slices + again * kept_by_trunk)
        return int((weights + 0.04 + peak) * GIB)


class PeakBytes(TorchDispatchMode):
    """Count the bytes of all tensors made within this mode, and their peak.

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
        """Count a tensor's storage, once."""
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
    """Replace a network's parameters and buffers by ones without memory, in place; within :func:`fake_tensors`."""
    fakes: dict[int, torch.Tensor] = {}  # by the original's id: branches may share parameters
    kept: list[torch.Tensor] = []  # so that no id is given twice
    for module in network.modules():
        tables: list[dict[str, Any]] = [module._parameters, module._buffers]
        for tensors in tables:
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in fakes:
                    fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
                    is_parameter = isinstance(tensor, nn.Parameter)
                    fakes[id(tensor)] = nn.Parameter(fake, requires_grad=tensor.requires_grad) if is_parameter else fake
                    kept.append(tensor)
                tensors[name] = fakes[id(tensor)]


def step_bytes(network: nn.Module, losses: Callable[[Any], torch.Tensor], batch: Callable[[], Any]) -> int:
    """Return the peak memory of the tensors of a training step with AdamW, its moments included.

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


@contextmanager
def out_of_memory_explained(trainer: nnUNetTrainer, architecture: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """A context that names the options that need less memory.

    Args:
        trainer: in whose step the context is.
        architecture: returns the arguments of its network; called only when memory ran out.

    Raises:
        UserError: the memory ran out.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        plan, dataset = trainer.configuration_manager, trainer.plans_manager.dataset_name
        arguments = architecture()
        checkpointing = arguments.get("activation_checkpointing", False)
        raise UserError(
            f"the memory of {trainer.device} is not enough for a step of {type(trainer).__name__} with "
            f"{plan.batch_size} stacks of {plan.patch_size[0]} slices of {arguments['image_size']} pixels: "
            f"repeat your `sam2_3dmed plan -d {dataset} ...` "
            f"{'' if checkpointing else 'with --checkpointing on (slower), or '}"
            "with a smaller --gpu-memory, --batch-size or --image-size."
        ) from error
