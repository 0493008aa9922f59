"""Cross-validation folds: nnU-Net's ``splits_final.json``, and folds that keep all cases of a subject together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import read_json

FILE = "splits_final.json"  # in a dataset's folder in nnUNet_preprocessed
PAIRS = "pairs"
NUMBER_OF_FOLDS = 5  # nnU-Net's
Folds = list[dict[str, list[str]]]


def read_folds(file: Path) -> Folds:
    """Read ``splits_final.json``.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    folds: Folds = read_json(file)
    sound = isinstance(folds, list) and all(
        isinstance(fold, dict) and all(isinstance(fold.get(part), list) for part in ("train", "val")) for fold in folds
    )
    if not sound:
        raise UserError(f"{file} is no list of folds with 'train' and 'val': let nnU-Net write it again.")
    return folds


def folds_without_validating(file: Path, cases: Sequence[str], only_trained_on: Collection[str]) -> Folds:
    """Return the folds of ``splits_final.json``, or else those that nnU-Net would draw from the other cases.

    Args:
        file: ``splits_final.json``; it may be missing, and is not written.
        cases: all training cases.
        only_trained_on: cases that must not be validated against. A mask that began as a model's prediction favours
            that model and similar ones, even after an annotator has corrected it.

    Raises:
        UserError: the file holds no folds or validates against such a case, or too few other cases are left to draw
            folds from.
    """
    if file.is_file():
        folds = read_folds(file)
        for number, fold in enumerate(folds):
            inside = sorted(set(fold["val"]) & set(only_trained_on))
            if inside:
                raise UserError(
                    f"fold {number} in {file} validates against {inside[0]}, whose mask began as a model's "
                    f"prediction: draw folds without such cases, `sam2_3dmed splits -d {file.parent.name} --group-by "
                    "'(.+)' --force` (models trained on the old ones no longer match)."
                )
        return folds
    others = sorted(set(cases) - set(only_trained_on))
    if len(others) < NUMBER_OF_FOLDS:
        raise UserError(
            f"there is no {file}, and {len(others)} cases labelled by experts are too few to draw {NUMBER_OF_FOLDS} "
            "folds from: write the file, with only such cases as validation cases."
        )
    return [{part: [str(case) for case in fold[part]] for part in fold} for fold in generate_crossval_split(others)]


def group_cases(cases: Sequence[str], group_by: str) -> dict[str, list[str]]:
    """Return the sorted cases of each subject.

    Args:
        cases: case identifiers.
        group_by: ``pairs``: the cases numbered 2k - 1 and 2k belong together (MSD hippocampus, where they look like
            the two sides of one subject); otherwise a regular expression whose first group, searched for in the
            identifier, is the subject.

    Raises:
        UserError: the expression is not valid or has no group, or an identifier does not match.
    """
    try:
        expression = re.compile(r"^(.*?)(\d+)$" if group_by == PAIRS else group_by)
    except re.error as error:
        raise UserError(f"--group-by {group_by!r} is not a regular expression ({error}).") from error
    if expression.groups < 1:
        raise UserError(f"--group-by {group_by!r} has no group in parentheses: put them around the subject's name.")
    subjects: dict[str, list[str]] = defaultdict(list)
    for case in sorted(cases):
        match = expression.search(case)
        if match is None:
            raise UserError(f"--group-by {group_by!r} does not match the case {case!r}: it must match every case.")
        subject = f"{match[1]}{(int(match[2]) + 1) // 2}" if group_by == PAIRS else match[1]
        subjects[subject].append(case)
    return dict(subjects)


def separated(folds: Folds, groups: dict[str, list[str]]) -> list[str]:
    """Return the subjects of which, in any fold, some cases are trained on and others validated against."""
    apart = set()
    for fold in folds:
        train, val = set(fold["train"]), set(fold["val"])
        apart |= {subject for subject, cases in groups.items() if train & set(cases) and val & set(cases)}
    return sorted(apart)


def grouped_folds(
    groups: dict[str, list[str]], folds: int = NUMBER_OF_FOLDS, only_trained_on: Collection[str] = ()
) -> Folds:
    """Draw nnU-Net's own seeded split over subjects instead of cases.

    Args:
        groups: cases by subject.
        folds: number of folds.
        only_trained_on: cases that are in no validation part, and in every training part except those of folds that
            validate another case of the same subject.

    Raises:
        UserError: there are fewer subjects than folds.
    """
    others = {subject: [case for case in cases if case not in only_trained_on] for subject, cases in groups.items()}
    subjects = sorted(subject for subject, cases in others.items() if cases)
    if not 2 <= folds <= len(subjects):
        raise UserError(
            f"{folds} folds cannot be made of {len(subjects)} subjects: expected 2 to {len(subjects)}; change --folds "
            "or --group-by."
        )
    made = []
    for split in generate_crossval_split(subjects, n_splits=folds):
        validated = set(split["val"])
        train = [case for subject, cases in groups.items() if subject not in validated for case in cases]
        made.append({"train": sorted(train), "val": sorted(case for s in validated for case in others[s])})
    return made
