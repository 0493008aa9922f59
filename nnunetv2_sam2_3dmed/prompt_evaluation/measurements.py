"""Measurements of the prompt benchmark, and the files that store them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.files import read_json, write_text

SCORES, INTERACTIONS, SUMMARY = "per_case.csv", "interactions.csv", "prompt_benchmark.json"


@dataclass(frozen=True)
class Score:
    """Metrics of the final mask of an object, regardless of other objects in its voxels.

    Attributes:
        protocol: protocol name.
        case: case identifier.
        class_name: class or region.
        area: "all" slices, or the "salient" ones.
        metrics: metrics against the ground truth.
        prompts: number of accepted prompts.
        rejected: number of prompts in which SAM 2 saw no object.
        seconds: duration of all interactions.
    """

    protocol: str
    case: str
    class_name: str
    area: str
    metrics: MaskMetrics
    prompts: int
    rejected: int
    seconds: float


@dataclass(frozen=True)
class Interaction:
    """Dice of an object after a turn, regardless of other objects in its voxels.

    Attributes:
        protocol: protocol name.
        case: case identifier.
        class_name: class or region.
        number: number of the turn, from 1.
        prompts: number of accepted prompts so far.
        rejected: number of prompts so far in which SAM 2 saw no object.
        dice: Dice of the volume.
        slice_dice: Dice of the middle slice.
        seconds: duration of this turn.
    """

    protocol: str
    case: str
    class_name: str
    number: int
    prompts: int
    rejected: int
    dice: float
    slice_dice: float
    seconds: float


@dataclass
class Measured:
    """All measurements of a run.

    Attributes:
        scores: metrics of the final mask of each object.
        interactions: Dice after each turn.
        encoding_seconds: duration of encoding the slices of each case, before any prompt; these cases are finished.
        absent: classes that a case does not have.
        failed: error messages of the cases that are left out.
    """

    scores: list[Score] = field(default_factory=list)
    interactions: list[Interaction] = field(default_factory=list)
    encoding_seconds: dict[str, float] = field(default_factory=dict)
    absent: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def leave_out(self, case: str) -> None:
        """Remove the rows of an unfinished case."""
        self.scores = [score for score in self.scores if score.case != case]
        self.interactions = [turn for turn in self.interactions if turn.case != case]
        self.absent.pop(case, None)


def as_csv(measured: Measured) -> str:
    """Table with a row per protocol, case, class and area; a missing HD95 is empty."""
    header = ["protocol", "case", "class", "slices", "dice", "iou", "nsd", "hd95_mm", "prompts", "rejected", "seconds"]
    rows = [
        [s.protocol, s.case, s.class_name, s.area, s.metrics.dice, s.metrics.iou, s.metrics.nsd]
        + ["" if s.metrics.failed else s.metrics.hd95_mm, s.prompts, s.rejected, round(s.seconds, 4)]
        for s in measured.scores
    ]
    return _csv(header, rows)


def as_interactions_csv(measured: Measured) -> str:
    """Table with a row per turn."""
    header = ["protocol", "case", "class", "round", "prompts", "rejected", "dice", "dice_of_the_slice", "seconds"]
    rows = [
        [t.protocol, t.case, t.class_name, t.number, t.prompts, t.rejected, t.dice, t.slice_dice, round(t.seconds, 4)]
        for t in measured.interactions
    ]
    return _csv(header, rows)


def of_cases(measured: Measured) -> dict[str, Any]:
    """Part of the summary about single cases."""
    return {
        "encoding_seconds": measured.encoding_seconds,
        "absent_classes": measured.absent,
        "failed_cases": measured.failed,
    }


def write_rows(folder: Path, measured: Measured, summary: str) -> None:
    """Write the files that :func:`read_rows` reads.

    Args:
        folder: output folder.
        measured: measurements so far.
        summary: JSON that includes :func:`of_cases`. It is written last, so that the tables have all rows of the cases
            that it names.
    """
    write_text(folder / SCORES, as_csv(measured))
    write_text(folder / INTERACTIONS, as_interactions_csv(measured))
    write_text(folder / SUMMARY, summary)


def read_rows(folder: Path) -> Measured:
    """Read the finished cases of an interrupted run.

    Raises:
        UserError: the files are damaged.
    """
    if not (folder / SUMMARY).is_file():
        return Measured()
    summary = read_json(folder / SUMMARY)
    try:
        measured = Measured(
            [_score(row) for row in _rows(folder / SCORES)],
            [_interaction(row) for row in _rows(folder / INTERACTIONS)],
            summary["encoding_seconds"],
            summary["absent_classes"],
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"the earlier run in {folder} is damaged ({error!r}): give another -o.") from error
    done = measured.encoding_seconds
    measured.scores = [score for score in measured.scores if score.case in done]
    measured.interactions = [turn for turn in measured.interactions if turn.case in done]
    return measured


def _score(row: Mapping[str, str]) -> Score:
    hd95 = float(row["hd95_mm"]) if row["hd95_mm"] else math.nan
    metrics = MaskMetrics(float(row["dice"]), float(row["iou"]), float(row["nsd"]), hd95)
    return Score(
        protocol=row["protocol"],
        case=row["case"],
        class_name=row["class"],
        area=row["slices"],
        metrics=metrics,
        prompts=int(row["prompts"]),
        rejected=int(row["rejected"]),
        seconds=float(row["seconds"]),
    )


def _interaction(row: Mapping[str, str]) -> Interaction:
    return Interaction(
        protocol=row["protocol"],
        case=row["case"],
        class_name=row["class"],
        number=int(row["round"]),
        prompts=int(row["prompts"]),
        rejected=int(row["rejected"]),
        dice=float(row["dice"]),
        slice_dice=float(row["dice_of_the_slice"]),
        seconds=float(row["seconds"]),
    )


def _rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    return text.getvalue()
