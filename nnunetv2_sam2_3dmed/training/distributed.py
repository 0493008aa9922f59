"""Groups of processes: each one's device and share of the batch, and answers that one finds for all."""

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
    """Ask the first process of a group, or the only one there is, and give its answer to all.

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


def check_shares(batch_size: int, processes: int, trainer: str, over_the_batch: bool, dataset: str) -> None:
    """Refuse a batch that cannot be shared by the processes of a group.

    Args:
        batch_size: of the plan, over all processes.
        processes: in the group.
        trainer: its name, for messages.
        over_the_batch: its loss is over the whole batch, to which all must contribute alike.
        dataset: its name, for messages.

    Raises:
        UserError: a process would have no stack, or another number than the others where that matters.
    """
    if batch_size < processes:
        raise UserError(
            f"the batch size in the plan is {batch_size}, but {processes} processes need at least one stack each: "
            f"repeat your `sam2_3dmed plan -d {dataset} ...` with --batch-size {processes} or more, or use fewer GPUs."
        )
    if batch_size % processes and over_the_batch:
        raise UserError(
            f"the batch of {batch_size} in the plan cannot be shared evenly by {processes} processes, but "
            f"{trainer}'s Dice loss is over the whole batch: repeat your `sam2_3dmed plan -d {dataset} ...` with "
            f"--batch-size {processes * max(1, batch_size // processes)}."
        )
