"""The scores of a comparison as arrays, and which of its cases to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics, average
from nnunetv2_sam2_3dmed.evaluation.summary import FOREGROUND, Comparison


@dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
        name: as in tables.
        attribute: of ``MaskMetrics`` and of ``Row``.
        digits: after the point, as in comparison.md.
        unit: "" or "mm".
        larger_is_better: whether a larger score is a better one.
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


METRICS = (
    Metric("Dice", "dice", 3, "", True),
    Metric("IoU", "iou", 3, "", True),
    Metric("NSD", "nsd", 3, "", True),
    Metric("HD95", "hd95_mm", 2, "mm", False),
)


def case_scores(comparison: Comparison, method: str, metric: Metric, class_name: str = FOREGROUND) -> np.ndarray:
    """One score per case, in the order of ``comparison.cases``; NaN where a case has none."""
    by_case = comparison.scores[method].values()
    return np.array([getattr(_of_class(by_class, class_name), metric.attribute) for by_class in by_case], float)


def _of_class(by_class: Mapping[str, MaskMetrics], class_name: str) -> MaskMetrics:
    return average(list(by_class.values())) if class_name == FOREGROUND else by_class[class_name]


def class_names(comparison: Comparison) -> list[str]:
    """The classes, then the foreground mean where there is more than one class."""
    names = list(comparison.classes)
    return [*names, FOREGROUND] if len(names) > 1 else names


@dataclass(frozen=True)
class ChosenCase:
    """A case to show: ``why`` is ``best``, ``median`` or ``worst``, ``dice`` its foreground mean Dice."""

    why: str
    case: str
    dice: float


def choose_cases(comparison: Comparison, method: str) -> list[ChosenCase]:
    """The best, the median and the worst case of a method by foreground mean Dice, each case once.

    Of an even number of cases, the median case is the better of the two in the middle. Equal scores are ordered by
    name. With two cases there is no median, with one only the best.
    """
    dice = case_scores(comparison, method, METRICS[0])
    order = sorted(range(len(dice)), key=lambda i: (-dice[i], comparison.cases[i]))
    places = {"best": 0, "median": (len(order) - 1) // 2, "worst": len(order) - 1}
    chosen: dict[int, ChosenCase] = {}
    for why in ("best", "worst", "median"):
        index = order[places[why]]
        chosen.setdefault(index, ChosenCase(why, comparison.cases[index], float(dice[index])))
    return sorted(chosen.values(), key=lambda c: list(places).index(c.why))
