"""Which device belongs to which process, on one machine or on several."""

from __future__ import annotations

import torch


def device_of_this_process(requested: torch.device) -> torch.device:
    """The device of a process of the group.

    Whoever launches the processes, nnU-Net on one machine or ``sam2_3dmed train`` under torchrun on several, has
    set the current CUDA device before the trainer is made; the global rank is that device on the first machine only.

    Args:
        requested: its kind; the index is of no matter.
    """
    return torch.device("cuda", torch.cuda.current_device()) if requested.type == "cuda" else requested
