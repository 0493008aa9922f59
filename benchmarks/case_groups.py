"""Dice of groups of a fold's validation cases: without those that flatter a method, and without those that chose it.

Two things make MSD hippocampus's own folds easier than new patients. Cases 2k - 1 and 2k look like the two sides of one
subject, and nnU-Net draws folds over cases, so that a subject can be trained on with one side and scored on the other.
And ``learning.py`` chose the recipe for random weights by the first validation cases of fold 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from nnunetv2_sam2_3dmed.evaluation.statistics import paired_test
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
