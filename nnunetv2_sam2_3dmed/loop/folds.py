"""Folds in which masks from rounds are trained on, and never validated against."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import read_json, write_text
from nnunetv2_sam2_3dmed.folds import Folds

FOLDS = 5  # nnU-Net's


def extended(folds: Folds, new: Sequence[str]) -> Folds:
    """The folds with ``new`` cases in the training part of each; validation stays as it was.

    A mask that began as a machine's favours that machine, and others like it, even where somebody has corrected it.

    Raises:
        UserError: one of these cases is validated against already.
    """
    for number, fold in enumerate(folds):
        inside = sorted(set(fold["val"]) & set(new))
        if inside:
            raise UserError(
                f"fold {number} validates against {inside[0]}, whose mask began as a machine's: take it out of the "
                "validation cases in splits_final.json (models trained on that fold no longer match it)."
            )
    return [
        {"train": [*fold["train"], *sorted(set(new) - set(fold["train"]))], "val": list(fold["val"])} for fold in folds
    ]


def folds_with(file: Path, cases: Sequence[str], new: Sequence[str]) -> Folds:
    """The folds of ``splits_final.json``, or those that nnU-Net would draw of all other cases, extended by ``new``.

    Args:
        file: ``splits_final.json``; it may be missing.
        cases: all training cases.
        new: those of them that came from rounds.

    Raises:
        UserError: there are too few others to draw folds of; or see :func:`extended`.
    """
    if file.is_file():
        return extended(read_json(file), new)
    others = sorted(set(cases) - set(new))
    if len(others) < FOLDS:
        raise UserError(
            f"there is no {file}, and {len(others)} cases by experts are too few to draw {FOLDS} folds of: write the "
            "file, with validation cases by experts alone."
        )
    drawn = [{part: [str(case) for case in fold[part]] for part in fold} for fold in generate_crossval_split(others)]
    return extended(drawn, new)


def write_folds(file: Path, folds: Folds) -> None:
    """Writes ``splits_final.json`` in nnU-Net's layout, if it says something else."""
    if not file.is_file() or read_json(file) != folds:
        write_text(file, json.dumps(folds, indent=4))
