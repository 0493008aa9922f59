"""Our Dice and IoU against those that nnU-Net wrote into ``summary.json`` when it validated the same predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.evaluation.cases import Case
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.evaluation.summary import Scores

FILE = "summary.json"
TOLERANCE = 1e-6


@dataclass(frozen=True)
class SummaryCheck:
    """What the comparison of a method with its ``summary.json`` files found.

    Attributes:
        method: the method's name.
        n: number of cases of which at least one class was checked.
        differing: those in which a Dice or an IoU differs by more than :data:`TOLERANCE`.
        largest: the largest difference; 0 if nothing was checked.
        unreadable: ``summary.json`` files that could not be read.
    """

    method: str
    n: int
    differing: Sequence[str]
    largest: float
    unreadable: Sequence[Path] = ()

    @property
    def warning(self) -> str | None:
        """What is wrong, in one sentence; None if nothing is."""
        if self.differing:
            return (
                f"Dice or IoU of {len(self.differing)} of {self.n} cases of {self.method} (such as "
                f"{self.differing[0]}) differ by up to {self.largest:.2g} from nnU-Net's {FILE} beside the "
                "predictions: predictions or truth have changed since nnU-Net wrote it, or the truth is another."
            )
        if self.unreadable:
            return (
                f"{', '.join(map(str, self.unreadable))} cannot be read as nnU-Net's summary, so that the Dice of "
                f"{self.method} was not checked against it."
            )
        return None


def check_summaries(
    cases: Sequence[Case], scores: Scores, classes: Mapping[str, tuple[int, ...]]
) -> list[SummaryCheck]:
    """Compares the scores of each method with the ``summary.json`` beside its predictions; files are only read.

    Args:
        cases: the cases, with the files of their predictions.
        scores: our scores of them.
        classes: the label values of each class or region, by its name.

    Returns:
        One check for each method that has such a file.
    """
    checks = []
    for method, by_case in scores.items():
        summaries: dict[Path, dict[str, dict[tuple[int, ...], Any]] | None] = {}
        differences = {}
        for case in cases:
            file = case.predictions[method]
            if file.parent not in summaries and (file.parent / FILE).is_file():
                summaries[file.parent] = _read(file.parent / FILE)
            theirs = (summaries.get(file.parent) or {}).get(file.name)
            found = _differences(by_case[case.name], theirs, classes) if theirs else []
            if found:
                differences[case.name] = max(found)
        if summaries:
            checks.append(
                SummaryCheck(
                    method,
                    n=len(differences),
                    differing=[case for case, difference in differences.items() if difference > TOLERANCE],
                    largest=max(differences.values(), default=0.0),
                    unreadable=[folder / FILE for folder, content in summaries.items() if content is None],
                )
            )
    return checks


def _read(file: Path) -> dict[str, dict[tuple[int, ...], Any]] | None:
    """nnU-Net's metrics by the name of the prediction file and label values; None if it is no such file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {
            Path(entry["prediction_file"]).name: {
                _label_values(key): {metric: float(metrics[metric]) for metric in ("Dice", "IoU")}
                for key, metrics in entry["metrics"].items()
            }
            for entry in content["metric_per_case"]
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _label_values(key: str) -> tuple[int, ...]:
    """The label values that nnU-Net writes as ``1``, or for a region as ``(1, 2)``."""
    return tuple(int(part) for part in key.strip("()").split(",") if part.strip())


def _differences(
    ours: Mapping[str, MaskMetrics], theirs: Mapping[tuple[int, ...], Any], classes: Mapping[str, tuple[int, ...]]
) -> list[float]:
    differences = []
    for name, values in classes.items():
        if values in theirs:
            for value, metric in ((ours[name].dice, "Dice"), (ours[name].iou, "IoU")):
                # NaN says that both masks are empty, for which our score is 1
                expected = 1.0 if math.isnan(theirs[values][metric]) else theirs[values][metric]
                differences.append(abs(value - expected))
    return differences
