"""The record of who made which label of a dataset: ``annotations.csv`` beside its ``dataset.json``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import write_text

FILE = "annotations.csv"
MACHINE, CONFIRMED, CORRECTED = SOURCES = ("machine", "confirmed", "corrected")  # by how much was looked at


class Annotation(NamedTuple):
    """A case that came from a round; training cases without one are the experts'.

    Attributes:
        case: its identifier.
        source: "machine" (as the model made it), "confirmed" (the same, and somebody agreed) or "corrected".
        round: name of the round.
        model: that segmented it.
        model_sha256: of the model's file.
        annotator: who corrected or confirmed; empty where nobody is named.
        date: on which it was taken, ISO 8601.
        disagreement: of the model with itself, 0 to 1.
        dice: of the machine's mask and the one that was taken, the mean over their labels.
    """

    case: str
    source: str
    round: str
    model: str
    model_sha256: str
    annotator: str
    date: str
    disagreement: str
    dice: str


def read_record(dataset_folder: Path) -> dict[str, Annotation]:
    """The record of a dataset by case; empty where there is none.

    Args:
        dataset_folder: in nnUNet_raw.

    Raises:
        UserError: the file is damaged.
    """
    file = dataset_folder / FILE
    if not file.is_file():
        return {}
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = [Annotation(**row) for row in csv.DictReader(stream)]
    except (TypeError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} must have the columns {', '.join(Annotation._fields)}: mend it ({error}).") from error
    strange = [row for row in rows if row.source not in SOURCES]
    if strange:
        raise UserError(
            f"{file} says {strange[0].source!r} of {strange[0].case}, but a source must be one of "
            f"{', '.join(SOURCES)}: mend it."
        )
    return {row.case: row for row in rows}


def write_record(dataset_folder: Path, record: Mapping[str, Annotation]) -> None:
    """Replaces the record of a dataset."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([Annotation._fields, *record.values()])
    write_text(dataset_folder / FILE, stream.getvalue())
