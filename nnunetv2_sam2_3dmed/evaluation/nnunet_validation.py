"""Consistency with nnU-Net's own validation: its ``summary.json``, and the cases that chose the model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nnunetv2_sam2_3dmed.evaluation.cases import ComparedCase
from nnunetv2_sam2_3dmed.evaluation.scores import DICE, IOU, Metric
from nnunetv2_sam2_3dmed.training import inner_split

FILE = "summary.json"
TOLERANCE = 1e-6


@dataclass(frozen=True)
class SummaryCheck:
    """Agreement of our Dice and IoU of a method with its ``summary.json`` files.

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
        """One sentence on a disagreement or an unreadable file; None if there is neither."""
        if self.differing:
            return (
                f"Dice or IoU of {len(self.differing)} of {self.n} cases of {self.method} (such as "
                f"{self.differing[0]}) differ by up to {self.largest:.2g} from nnU-Net's {FILE} beside the "
                "predictions: predictions or ground truth have changed since nnU-Net wrote it, or are others."
            )
        if self.unreadable:
            return (
                f"{', '.join(map(str, self.unreadable))} cannot be read as nnU-Net's summary, so that the Dice of "
                f"{self.method} was not checked against it."
            )
        return None


def check_summaries(
    cases: Sequence[ComparedCase], scores: pd.DataFrame, classes: Mapping[str, tuple[int, ...]]
) -> list[SummaryCheck]:
    """Compare the scores of each method with the ``summary.json`` beside its predictions; files are only read.

    Args:
        cases: the cases, with the files of their predictions.
        scores: the table of our scores.
        classes: the label values of each class or region, by its name.

    Returns:
        One check for each method that has such a file.
    """
    checks = []
    ours = scores.set_index(["method", "case", "class"])[[DICE.attribute, IOU.attribute]].to_dict("index")
    for method in scores["method"].unique():
        summaries: dict[Path, dict[str, dict[tuple[int, ...], dict[Metric, float]]] | None] = {}
        differences = {}
        for case in cases:
            file = case.predictions[method]
            if file.parent not in summaries and (file.parent / FILE).is_file():
                summaries[file.parent] = _read(file.parent / FILE)
            theirs = (summaries.get(file.parent) or {}).get(file.name)
            found = [
                # NaN says that both masks are empty, for which our score is 1
                abs(ours[method, case.name, name][metric.attribute] - (1.0 if math.isnan(value) else value))
                for name, values in classes.items()
                for metric, value in ((theirs or {}).get(values) or {}).items()
            ]
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


def _read(file: Path) -> dict[str, dict[tuple[int, ...], dict[Metric, float]]] | None:
    """nnU-Net's metrics by the name of the prediction file and label values; None if it is no such file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {
            Path(entry["prediction_file"]).name: {
                _label_values(key): {metric: float(metrics[metric.name]) for metric in (DICE, IOU)}
                for key, metrics in entry["metrics"].items()
            }
            for entry in content["metric_per_case"]
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _label_values(key: str) -> tuple[int, ...]:
    """The label values that nnU-Net writes as ``1``, or for a region as ``(1, 2)``."""
    return tuple(int(part) for part in key.strip("()").split(",") if part.strip())


def chosen_by_scored_cases(methods: Mapping[str, Sequence[Path]]) -> list[str]:
    """Names of the methods whose folds were validated by nnU-Net without an inner split.

    nnU-Net computes the pseudo Dice on the validation cases of a fold, whose segmentations it then writes to the folder
    ``validation``. A copy beside it, such as ``validation_last``, counts as well. A training with an inner split has
    left a record of it there.

    Args:
        methods: the folders of each method's predictions, by its name.
    """
    return [name for name, folders in methods.items() if any(map(_by_validation_cases, folders))]


def _by_validation_cases(folder: Path) -> bool:
    fold = Path(folder).parent
    in_fold = Path(folder).name.startswith("validation") and fold.name.startswith("fold_")
    return in_fold and not (fold / inner_split.FILE).is_file()


def selection_note(methods: Sequence[str]) -> str:
    """Sentence on models that were chosen by the cases that are scored.

    Args:
        methods: names from :func:`chosen_by_scored_cases`, at least one.
    """
    return (
        "Early stopping (in SAM2-3dMed's trainers) and checkpoint_best (validated with --val_best) go by the pseudo "
        f"Dice on the fold's validation cases, which are scored here, for {', '.join(methods)}; only trainers with an "
        "inner split (SAM2_3dMedTrainer_innerSplit) go by other cases."
    )
