"""Folds that keep all cases of a subject together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence

from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunetv2_sam2_3dmed.errors import UserError

PAIRS = "pairs"
Folds = list[dict[str, list[str]]]


def group_cases(cases: Sequence[str], group_by: str) -> dict[str, list[str]]:
    """The cases of each subject.

    Args:
        cases: case identifiers.
        group_by: ``pairs``: the cases numbered 2k - 1 and 2k belong together (MSD hippocampus, where they look like
            the two sides of one subject); otherwise a regular expression whose first group, searched for in the
            identifier, is the subject.

    Returns:
        Sorted cases by subject.

    Raises:
        UserError: the expression is not valid or has no group, or an identifier does not match.
    """
    try:
        expression = re.compile(r"^(.*?)(\d+)$" if group_by == PAIRS else group_by)
    except re.error as error:
        raise UserError(f"--group-by {group_by!r} is not a regular expression ({error}).") from error
    if expression.groups < 1:
        raise UserError(f"--group-by {group_by!r} has no group in parentheses: put them around what names the subject.")
    subjects: dict[str, list[str]] = defaultdict(list)
    for case in sorted(cases):
        match = expression.search(case)
        if match is None:
            raise UserError(f"--group-by {group_by!r} does not match the case {case!r}: it must match every case.")
        if group_by == PAIRS:
            subjects[f"{match[1]}{(int(match[2]) + 1) // 2}"].append(case)
        else:
            subjects[match[1]].append(case)
    return dict(subjects)


def separated(folds: Folds, groups: dict[str, list[str]]) -> list[str]:
    """The subjects some of whose cases are trained on and others validated on, in any fold."""
    apart = set()
    for fold in folds:
        train, val = set(fold["train"]), set(fold["val"])
        apart |= {subject for subject, cases in groups.items() if train & set(cases) and val & set(cases)}
    return sorted(apart)


def grouped_folds(groups: dict[str, list[str]], folds: int = 5, only_trained_on: Collection[str] = ()) -> Folds:
    """nnU-Net's own seeded split, made over subjects instead of cases.

    Args:
        groups: cases by subject.
        folds: how many.
        only_trained_on: cases that are in no validation part, and in every training part but those of folds that
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
