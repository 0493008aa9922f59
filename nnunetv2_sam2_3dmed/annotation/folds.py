"""Folds in which masks from rounds are never validated against."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import read_json
from nnunetv2_sam2_3dmed.nnunet.folds import Folds

FOLDS = 5  # nnU-Net's


def experts_folds(file: Path, cases: Sequence[str], new: Collection[str]) -> Folds:
    """The folds of ``splits_final.json``, or those that nnU-Net would draw of the cases by experts.

    Args:
        file: ``splits_final.json``; it may be missing, and is not written.
        cases: all training cases.
        new: those of them that came from rounds.

    Raises:
        UserError: the file holds no folds, there are too few others to draw any of, or a new case is validated against:
            a mask that began as a machine's favours that machine, and others like it, even where somebody has corrected
            it.
    """
    if file.is_file():
        folds: Folds = read_json(file)
        if not isinstance(folds, list) or not all(
            isinstance(fold, dict) and {"train", "val"} <= set(fold) for fold in folds
        ):
            raise UserError(f"{file} is no list of folds with train and val: let nnU-Net write it again.")
        _check_validation(file, folds, new)
        return folds
    others = sorted(set(cases) - set(new))
    if len(others) < FOLDS:
        raise UserError(
            f"there is no {file}, and {len(others)} cases by experts are too few to draw {FOLDS} folds of: write the "
            "file, with validation cases by experts alone."
        )
    return [{part: [str(case) for case in fold[part]] for part in fold} for fold in generate_crossval_split(others)]


def _check_validation(file: Path, folds: Folds, new: Collection[str]) -> None:
    for number, fold in enumerate(folds):
        inside = sorted(set(fold["val"]) & set(new))
        if inside:
            raise UserError(
                f"fold {number} in {file} validates against {inside[0]}, whose mask began as a machine's: draw folds "
                f"without such cases, `sam2_3dmed splits -d {file.parent.name} --group-by '(.+)' --force` (models "
                "trained on the old ones no longer match)."
            )
