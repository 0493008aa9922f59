"""What a session knows of an object: prompts, the masks of slices, and the memories that SAM 2 attends to.

All of it rests in the memory of the host, that of the past too, and so nothing has to be moved for undo. A step takes
to the device what SAM 2's attention reaches from its slice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from nnunetv2_sam2_3dmed.interactive.prompts import SlicePrompt

HOST = torch.device("cpu")


class SliceOutput(NamedTuple):
    """What SAM 2 gave for N objects on one slice; of each 0.2 MB at S = 512, two thirds of it spatial memory.

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

    def of(self, number: int) -> SliceOutput:
        """The output for one of the N objects alone."""
        one = slice(number, number + 1)
        memory = None if self.memory is None else self.memory[one]
        return SliceOutput(self.logits[one], self.pointer[one], self.presence[one], self.quality[one], memory)

    def to(self, device: torch.device) -> SliceOutput:
        """The output with its tensors on ``device``; those that are there already are not copied."""
        # what comes to the host is read at once, and so has to be waited for
        return SliceOutput._make(None if t is None else t.to(device, non_blocking=device.type == "cuda") for t in self)

    def for_sam2(self, places: torch.Tensor | None) -> dict[str, Any]:
        """As ``SAM2Base`` has it in its dictionaries; ``places`` (1, M, S/16, S/16) encodes those in ``memory``."""
        return {
            "pred_masks": self.logits,
            "obj_ptr": self.pointer,
            "object_score_logits": self.presence,
            "maskmem_features": self.memory,
            "maskmem_pos_enc": [None if places is None else places.expand(len(self.logits), -1, -1, -1)],
        }


def join(outputs: list[SliceOutput]) -> SliceOutput:
    """Outputs for several objects on one slice, as one of all of them."""
    if len(outputs) == 1:
        return outputs[0]
    memories = [output.memory for output in outputs if output.memory is not None]
    return SliceOutput(
        torch.cat([output.logits for output in outputs]),
        torch.cat([output.pointer for output in outputs]),
        torch.cat([output.presence for output in outputs]),
        torch.cat([output.quality for output in outputs]),
        torch.cat(memories) if len(memories) == len(outputs) else None,
    )


@dataclass(frozen=True)
class Track:
    """One object along one axis; by slice of the view. Never changed: a step makes another, so that undo keeps this.

    Tracks of several times share the outputs that are the same in them. All outputs are in the host's memory.

    Attributes:
        prompts: what the user said.
        unanswered: slices whose prompts SAM 2 has not seen yet.
        answered: masks of slices with prompts that are not memories yet (SAM 2's temporary outputs).
        conditioning: memories of slices with prompts, which every propagation attends to.
        tracked: masks and memories of the slices that propagation reached.
        reverse: for each slice of the latest propagations, whether it went towards slice 0.
    """

    prompts: dict[int, SlicePrompt] = field(default_factory=dict)
    unanswered: frozenset[int] = frozenset()
    answered: dict[int, SliceOutput] = field(default_factory=dict)
    conditioning: dict[int, SliceOutput] = field(default_factory=dict)
    tracked: dict[int, SliceOutput] = field(default_factory=dict)
    reverse: dict[int, bool] = field(default_factory=dict)

    def prompted(self, index: int, prompt: SlicePrompt) -> Track:
        """With this as all that is said of slice ``index``."""
        return replace(self, prompts={**self.prompts, index: prompt}, unanswered=self.unanswered | {index})

    def with_answer(self, index: int, output: SliceOutput) -> Track:
        """With SAM 2's answer to the prompts on slice ``index``."""
        return replace(self, answered={**self.answered, index: output}, unanswered=self.unanswered - {index})

    def with_conditioning(self, remembered: dict[int, SliceOutput]) -> Track:
        """With all answers as conditioning memories."""
        tracked = {i: output for i, output in self.tracked.items() if i not in remembered}
        conditioning = {**self.conditioning, **remembered}
        # SAM 2 attends to them in this order
        ordered = dict(sorted(conditioning.items()))
        return replace(self, answered={}, conditioning=ordered, tracked=tracked)

    def with_tracked(self, outputs: dict[int, SliceOutput], visited: dict[int, bool]) -> Track:
        """With what a propagation found, instead of what an earlier one did there."""
        return replace(self, tracked={**self.tracked, **outputs}, reverse={**self.reverse, **visited})

    def output(self, index: int) -> SliceOutput | None:
        """The latest mask of slice ``index``."""
        for outputs in (self.answered, self.conditioning, self.tracked):
            if index in outputs:
                return outputs[index]
        return None

    def slices(self) -> list[int]:
        """All slices that have a mask."""
        return sorted({*self.answered, *self.conditioning, *self.tracked})

    def sources(self) -> list[int]:
        """Slices from which a propagation can start."""
        return sorted({*self.answered, *self.conditioning, *self.unanswered})
