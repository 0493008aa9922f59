"""The table of all scores of a comparison, from which its statistics, tests, ranks and plots are derived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics

FOREGROUND = "foreground mean"


@dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
        name: as in tables.
        attribute: of ``MaskMetrics``; also the column of the score table and the key in comparison.json.
        digits: decimals in tables.
        unit: "" or "mm".
        larger_is_better: false for distances.
    """

    name: str
    attribute: str
    digits: int
    unit: str
    larger_is_better: bool

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


METRICS = DICE, IOU, NSD, HD95 = (
    Metric("Dice", "dice", 3, "", True),
    Metric("IoU", "iou", 3, "", True),
    Metric("NSD", "nsd", 3, "", True),
    Metric("HD95", "hd95_mm", 2, "mm", False),
)
COLUMNS = [metric.attribute for metric in METRICS]


def score_table(scores: Mapping[str, Mapping[str, Mapping[str, MaskMetrics]]]) -> pd.DataFrame:
    """Tabulate scores, with the mean over the classes of each case as the class :data:`FOREGROUND`.

    A foreground mean is missing where the score of any class is: it would be one of the easier classes.

    Args:
        scores: by method, case and class; every method has the same cases and classes.

    Returns:
        One row per method, case and class, in that order. The columns ``method``, ``case`` and ``class`` are
        categorical, so that groups come in the given order; :data:`COLUMNS` hold the scores, NaN for a missing HD95.
    """
    methods = list(scores)
    cases = list(scores[methods[0]])
    classes = list(scores[methods[0]][cases[0]])
    values = np.array(
        [[[[getattr(scores[m][c][k], a) for a in COLUMNS] for k in classes] for c in cases] for m in methods], float
    )
    values = np.concatenate([values, values.mean(axis=2, keepdims=True)], axis=2)  # methods, cases, classes, metrics
    levels = {"method": methods, "case": cases, "class": [*classes, FOREGROUND]}
    index = pd.MultiIndex.from_product(levels.values(), names=list(levels))
    table = pd.DataFrame(values.reshape(-1, len(COLUMNS)), index, COLUMNS).reset_index()
    return table.assign(**{name: pd.Categorical(table[name], level) for name, level in levels.items()})


def foreground_by_case(table: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """Foreground mean of each case (rows) and method (columns)."""
    foreground = table[table["class"] == FOREGROUND]
    return foreground.pivot(index="case", columns="method", values=metric.attribute)
