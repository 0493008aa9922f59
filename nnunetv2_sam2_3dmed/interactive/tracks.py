"""Prompts, masks and memories of one object along one axis.

All of it is in the host's memory, that of earlier steps too, so that undo moves nothing. A step copies to the device
what SAM 2's attention reaches from its slice. Slice indices are those of ``planes.Planes``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch

from nnunetv2_sam2_3dmed.interactive.prompts import SlicePrompt
from nnunetv2_sam2_3dmed.network.resizing import logits_at

HOST = torch.device("cpu")
DRAWN = 10.0  # SAM 2's logit of a mask that was drawn


class SliceOutput(NamedTuple):
    """SAM 2's output for N objects on one slice; of each 0.2 MB at S = 512, two thirds of it spatial memory.

    Attributes:
        logits: (N, 1, S/4, S/4), float32.
        pointer: object pointers (N, C).
        presence: logits of the objects being on the slice (N, 1).
        quality: predicted IoU of the masks (N,); 1 for a mask that the user drew.
        memory: spatial memory (N, M, S/16, S/16), bfloat16 as SAM 2 keeps it; None until the slice is remembered.
    """

    logits: torch.Tensor
    pointer: torch.Tensor
    presence: torch.Tensor
    quality: torch.Tensor
    memory: torch.Tensor | None = None

    def load(self) -> SliceOutput:
        """Return the output itself; see :class:`KeptOutput`."""
        return self

    def of(self, number: int) -> SliceOutput:
        """Return the output for one of the N objects alone."""
        return SliceOutput._make(None if tensor is None else tensor[number : number + 1] for tensor in self)

    def to(self, device: torch.device) -> SliceOutput:
        """Return the output with its tensors on ``device``; those that are there already are not copied."""
        # copies to the host are read at once, and so have to be waited for
        return SliceOutput._make(None if t is None else t.to(device, non_blocking=device.type == "cuda") for t in self)


class KeptOutput(Protocol):
    """Output of a slice, in memory or elsewhere."""

    def load(self) -> SliceOutput:
        """Return the output."""


def join(outputs: list[SliceOutput]) -> SliceOutput:
    """Join the remembered outputs for several objects on one slice."""
    return outputs[0] if len(outputs) == 1 else SliceOutput._make(map(torch.cat, zip(*outputs, strict=True)))


@dataclass(frozen=True)
class Track:
    """One object along one axis. Never changed: a step makes another, so that undo keeps this one.

    Successive tracks share the outputs that are the same in them.

    Attributes:
        prompts: by slice.
        unanswered: slices whose prompts SAM 2 has not seen yet.
        answered: outputs for slices with prompts that are not memories yet (SAM 2's temporary outputs).
        conditioning: outputs with memories for slices with prompts, which every propagation attends to.
        tracked: outputs with memories for the slices that propagation reached.
        reverse: for each slice of the latest propagations, True if that went towards slice 0.
    """

    prompts: dict[int, SlicePrompt] = field(default_factory=dict)
    unanswered: frozenset[int] = frozenset()
    answered: dict[int, SliceOutput] = field(default_factory=dict)
    conditioning: dict[int, SliceOutput] = field(default_factory=dict)
    tracked: dict[int, KeptOutput] = field(default_factory=dict)
    reverse: dict[int, bool] = field(default_factory=dict)

    def prompted(self, index: int, prompt: SlicePrompt) -> Track:
        """Return the track with this prompt on slice ``index`` instead of any other."""
        return replace(self, prompts={**self.prompts, index: prompt}, unanswered=self.unanswered | {index})

    def with_answer(self, index: int, output: SliceOutput) -> Track:
        """Return the track with SAM 2's answer to the prompts on slice ``index``."""
        return replace(self, answered={**self.answered, index: output}, unanswered=self.unanswered - {index})

    def with_conditioning(self, remembered: dict[int, SliceOutput]) -> Track:
        """Return the track with all answers as conditioning memories."""
        tracked = {i: output for i, output in self.tracked.items() if i not in remembered}
        # SAM 2 attends to them in this order
        ordered = dict(sorted({**self.conditioning, **remembered}.items()))
        return replace(self, answered={}, conditioning=ordered, tracked=tracked)

    def with_visit(self, index: int, reverse: bool, output: KeptOutput | None) -> Track:
        """Return the track after a propagation's visit of a slice; there is no output if the slice has prompts."""
        tracked = self.tracked if output is None else {**self.tracked, index: output}
        return replace(self, tracked=tracked, reverse={**self.reverse, index: reverse})

    def without(self, index: int) -> Track:
        """Return the track as if no propagation had reached slice ``index``."""
        tracked = {i: output for i, output in self.tracked.items() if i != index}
        return replace(self, tracked=tracked, reverse={i: way for i, way in self.reverse.items() if i != index})

    def output(self, index: int) -> SliceOutput | None:
        """Return the latest output for slice ``index``."""
        kept: KeptOutput | None = None
        for outputs in (self.tracked, self.conditioning, self.answered):
            kept = outputs.get(index, kept)
        return None if kept is None else kept.load()

    def sources(self) -> list[int]:
        """Slices from which a propagation can start."""
        return sorted({*self.answered, *self.conditioning, *self.unanswered})

    def has_prompts_elsewhere(self, index: int) -> bool:
        """True if a slice other than ``index`` has prompts."""
        return any(other != index for other in self.prompts)

    def drawn(self, index: int) -> np.ndarray | None:
        """The mask that the user drew on a slice, where no later prompt replaced it."""
        prompt = self.prompts.get(index)
        return None if prompt is None or index in self.unanswered else prompt.mask

    def masks(
        self, shape: tuple[int, int], indices: list[int] | None = None, bounded: bool = False
    ) -> dict[int, np.ndarray]:
        """Logits (rows, columns) by slice.

        A drawn mask is returned as it was drawn, not at SAM 2's resolution.

        Args:
            shape: rows and columns.
            indices: of slices, those without an output are left out; default: all that have one.
            bounded: for averages: logits no larger than those of drawn masks, and where the object is not on the slice
                that of its presence, instead of SAM 2's -1024, which would outvote all others.
        """
        found = {}
        for index in sorted({*self.answered, *self.conditioning, *self.tracked}) if indices is None else indices:
            output, drawn = self.output(index), self.drawn(index)
            if output is not None and drawn is not None:
                found[index] = np.where(drawn, np.float32(DRAWN), np.float32(-DRAWN))
            elif output is not None:
                found[index] = logits_at(output.logits, shape)[0, 0].numpy()
                if bounded:
                    presence = float(output.presence.flatten()[0])
                    lowest = -DRAWN if presence > 0 else max(presence, -DRAWN)
                    found[index] = found[index].clip(lowest, DRAWN)
        return found


class Key(NamedTuple):
    """An object along an axis, where it has memories of its own."""

    object_id: int
    axis: int


@dataclass(frozen=True)
class PromptPlace:
    """A slice of an object."""

    key: Key
    index: int
