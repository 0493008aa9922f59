"""Groups of a fold's validation cases: those that flatter or chose a method, and the two sides of a subject.

Two things make MSD hippocampus's own folds easier than new patients. Cases 2k - 1 and 2k look like the two sides of one
subject, and nnU-Net draws folds over cases, so that a subject can be trained on with one side and scored on the other.
And ``learning.py`` chose the recipe for random weights by the first validation cases of fold 0. Both sides of a subject
are not independent of each other, whatever the fold: :func:`gain_texts` tests over subjects.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from nnunetv2_sam2_3dmed.evaluation.statistics import mean_interval, paired_test, wilcoxon_p
from nnunetv2_sam2_3dmed.evaluation.tables import Table, interval, number, p_value, text_rows
from nnunetv2_sam2_3dmed.nnunet.folds import PAIRS, group_cases

CASES_OF_LEARNING = 8  # learning.py's default


def groups_of(fold: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return validation cases by the name of their group.

    Args:
        fold: ``train`` and ``val`` of ``splits_final.json``.
    """
    val, train = sorted(fold["val"]), set(fold["train"])
    subjects = group_cases([*val, *train], PAIRS).values()
    apart = {case for cases in subjects if train.isdisjoint(cases) for case in cases}
    fresh = val[CASES_OF_LEARNING:]
    return {
        "all": val,
        "not used by learning.py": fresh,
        "no other side of the subject in training": [case for case in val if case in apart],
        "neither": [case for case in fresh if case in apart],
    }


def group_table(scores: pd.DataFrame, fold: dict[str, list[str]], reference: str, repeated: Sequence[str]) -> Table:
    """Return a table with a row per group: Dice of the reference, of each repetition, and the paired difference.

    Args:
        scores: ``per_case.csv`` of ``sam2_3dmed compare``.
        fold: see :func:`groups_of`.
        reference: method that was trained once.
        repeated: methods that differ in their seed alone.
    """
    dice = scores.groupby(["method", "case"])["dice"].mean()
    rows = []
    for name, cases in groups_of(fold).items():
        of = {method: dice[method].loc[cases] for method in (reference, *repeated)}
        test = paired_test("Dice", "", "", (sum(of[m] for m in repeated) / len(repeated) - of[reference]).to_numpy())
        each = ", ".join(number(float(of[method].mean()), 3) for method in repeated)
        rows.append(
            [
                name,
                str(len(cases)),
                number(float(of[reference].mean()), 3),
                each,
                f"{number(test.mean_difference, 3, sign=True)} {interval(test.low, test.high, 3, sign=True)}",
                p_value(test.p, test.n),
            ]
        )
    columns = ["validation cases", "n", reference, "each seed of ours", "difference (95 % interval over cases)", "p"]
    note = "Dice, the mean over the classes; difference: of the mean over the seeds; Wilcoxon's p, not corrected"
    return Table("Groups of cases", columns, text_rows(rows), note)


def by_subject(scores: pd.Series) -> pd.Series:
    """Return the mean over the cases of each subject.

    Args:
        scores: by case.
    """
    subjects = {case: name for name, cases in group_cases(list(scores.index), PAIRS).items() for case in cases}
    return scores.groupby(subjects).mean()


def gain_texts(differences: pd.Series, digits: int) -> list[str]:
    """Return the mean over cases with its interval over subjects, and Wilcoxon's p over subjects.

    Args:
        differences: paired, by case; where one of a pair is missing, NaN.
        digits: of the mean and the interval.
    """
    present = differences.dropna()
    subjects = by_subject(present).to_numpy()
    bounds = interval(*mean_interval(subjects), digits, sign=True)
    mean = number(float(present.mean()), digits, sign=True)
    return [f"{mean} {bounds}".rstrip(), p_value(wilcoxon_p(subjects), len(subjects))]


def gain_note(cases: pd.Index) -> str:
    """Explain :func:`gain_texts`.

    Args:
        cases: all that are compared.
    """
    count = len(group_cases(list(cases), PAIRS))
    return (
        f"mean over cases; 95 % bootstrap interval and Wilcoxon's p over n = {count} subjects, of each the mean over "
        "its cases; p not corrected for several tests"
    )
