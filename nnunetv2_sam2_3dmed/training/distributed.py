"""Which device belongs to which process, on one machine or on several."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist


def device_of_this_process(requested: torch.device) -> torch.device:
    """The device of a process of the group.

    ``torchrun`` says which process on its machine this is (``LOCAL_RANK``); nnU-Net's own launcher, which knows
    one machine only, does not: there it is the rank.

    Args:
        requested: its kind; the index is of no matter.
    """
    if requested.type != "cuda":
        return requested
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", dist.get_rank())))
