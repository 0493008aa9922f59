"""Which device belongs to which process, on one machine or on several, and what one process finds out for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist

from nnunetv2_sam2_3dmed.errors import UserError, in_one_sentence

T = TypeVar("T")


def device_of_this_process(requested: torch.device) -> torch.device:
    """The device of a process of the group.

    Whoever launches the processes, nnU-Net on one machine or ``sam2_3dmed train`` under torchrun on several, has
    set the current CUDA device before the trainer is made; the global rank is that device on the first machine only.

    Args:
        requested: its kind; the index is of no matter.
    """
    return torch.device("cuda", torch.cuda.current_device()) if requested.type == "cuda" else requested


def asked_once(question: Callable[[], T], is_ddp: bool) -> T:
    """The answer to a question that only the first process of a group is asked, or the only one there is.

    Args:
        question: asks.
        is_ddp: as the trainer has it.

    Raises:
        UserError: the question raised something; in all processes, so that none waits for another.
    """
    if not is_ddp:
        return question()
    said: list = [None, None]  # the answer, or the reason why there is none
    if dist.get_rank() == 0:
        try:
            said[0] = question()
        except Exception as error:  # whatever it is, the others wait for an answer
            said[1] = in_one_sentence(error)
    dist.broadcast_object_list(said, src=0)
    if said[1] is not None:
        raise UserError(said[1])
    return said[0]
