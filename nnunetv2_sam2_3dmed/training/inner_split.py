"""A part of a fold's training cases, set aside to stop early by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import write_text

FILE = "inner_split.json"  # beside the checkpoints of a fold
SHARE = 5  # one in five cases is set aside
_SEED = 12345  # nnU-Net's for its folds


class InnerSplit(NamedTuple):
    """The training cases of a fold, in two parts.

    Attributes:
        train: names of the cases that are trained on, sorted.
        val: names of the cases that the pseudo Dice is of, sorted.
    """

    train: list[str]
    val: list[str]

    def write(self, folder: Path) -> None:
        """Write the split to the folder of the fold, in the form of an entry of nnU-Net's ``splits_final.json``."""
        write_text(folder / FILE, json.dumps(self._asdict(), indent=2) + "\n")


def inner_split(cases: Sequence[str]) -> InnerSplit:
    """Set a fifth of the cases aside, at least one; the same ones whenever the cases are the same.

    Args:
        cases: training cases of the fold, in any order.

    Raises:
        UserError: there are fewer than two.
    """
    if len(cases) < 2:
        raise UserError(
            f"the fold has {len(cases)} training case(s), but an inner split needs two or more: use a trainer without "
            "_innerSplit."
        )
    drawn = np.random.default_rng(_SEED).permutation(sorted(cases)).tolist()
    aside = max(1, len(cases) // SHARE)
    return InnerSplit(train=sorted(drawn[aside:]), val=sorted(drawn[:aside]))
