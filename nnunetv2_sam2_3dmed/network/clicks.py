"""Simulated clicks on errors, drawn on the device without waiting for it."""

from __future__ import annotations

import torch

NO_POINT = -1  # SAM 2's label
DRAWS = 2**62  # so many more than a slice has voxels that their remainders are equally likely


def random_clicks(
    gt: torch.Tensor, found: torch.Tensor, draws: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clicks on errors as ``simulated.random_click`` draws them, but on the device, without waiting for it.

    Args:
        gt: (n, H, W), bool, none of them empty.
        found: (n, H, W), bool.
        draws: (n,), int64, random numbers below :data:`DRAWS`: of k places in the order of rows and columns, the one
            of index draw modulo k is taken.

    Returns:
        Rows, columns and labels (1 inside the object, 0 outside), each (n,), int64.
    """
    errors = (gt ^ found).flatten(1)
    inside = gt.flatten(1)
    numbered = torch.where(errors.any(dim=1, keepdim=True), errors, inside).cumsum(dim=1)
    wanted = draws % numbered[:, -1]
    place = (numbered <= wanted[:, None]).sum(dim=1)
    width = gt.shape[-1]
    return place // width, place % width, inside.gather(1, place[:, None])[:, 0].long()
