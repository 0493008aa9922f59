"""Record of the labels that came from rounds: ``annotations.csv`` beside a dataset's ``dataset.json``."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnunetv2_sam2_3dmed.csv_files import read_csv
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.images.volumes import read_volume
from nnunetv2_sam2_3dmed.locks import held

FILE = "annotations.csv"
LOCK = ".annotations.lock"
MACHINE, CONFIRMED, CORRECTED = SOURCES = ("machine", "confirmed", "corrected")  # by the extent of the review


class Annotation(NamedTuple):
    """A case that came from a round; training cases without one were labelled by experts.

    Attributes:
        case: case identifier.
        source: "machine" (the model's mask, not reviewed), "confirmed" (the model's mask, reviewed) or "corrected".
        round: name of the round's folder.
        round_id: identifier of the round, independent of its folder.
        model: the model that segmented the case.
        model_sha256: checksum of the model's file.
        annotator: name of the annotator who corrected or confirmed; may be empty.
        date: date on which it was taken, ISO 8601.
        disagreement: disagreement of the model with itself, 0 to 1.
        dice: mean Dice over labels between the model's mask and the label.
        label_sha256: checksum of the label's voxels, see :func:`voxels_sha256`.
    """

    case: str
    source: str
    round: str
    round_id: str
    model: str
    model_sha256: str
    annotator: str
    date: str
    disagreement: str
    dice: str
    label_sha256: str


def read_record(dataset_folder: Path) -> dict[str, Annotation]:
    """Read the record of a dataset by case; empty if there is none.

    Args:
        dataset_folder: the dataset's folder in nnUNet_raw.

    Raises:
        UserError: the file is damaged.
    """
    file = dataset_folder / FILE
    if not file.is_file():
        return {}
    record: dict[str, Annotation] = {}
    for line in read_csv(file, Annotation._fields, allow_others=False):
        row = Annotation(**line.values)
        if line.ends_early:
            raise UserError(f"{file} has an incomplete row of {row.case}: correct it.")
        if not is_case_name(row.case):
            raise UserError(f"{file} has the case {row.case!r}, which is no file name: correct it.")
        if row.source not in SOURCES:
            raise UserError(
                f"{file} has the source {row.source!r} of {row.case}, expected one of {', '.join(SOURCES)}: correct it."
            )
        if row.case in record:
            raise UserError(f"{file} has two rows of {row.case}: delete one.")
        record[row.case] = row
    return record


def write_record(dataset_folder: Path, record: Mapping[str, Annotation]) -> None:
    """Replace the record of a dataset."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([Annotation._fields, *record.values()])
    write_text(dataset_folder / FILE, stream.getvalue())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a dataset's folder for this process.

    Args:
        folder: the dataset's folder in nnUNet_raw or nnUNet_preprocessed.

    Raises:
        UserError: another process has locked it.
    """
    with held(folder / LOCK) as descriptor:
        if descriptor is None:
            raise UserError(f"another `sam2_3dmed annotate` is changing {folder}: wait until it has ended.")
        yield


def is_case_name(name: str) -> bool:
    """Return if a name can be that of a file: neither a path nor hidden."""
    return bool(name) and Path(name).name == name and not name.startswith(".")


def voxels_sha256(labels: np.ndarray) -> str:
    """SHA-256 of shape and values of a label map (z, y, x), independent of data type and compression."""
    digest = hashlib.sha256(repr(tuple(int(length) for length in labels.shape)).encode())
    for plane in labels:
        digest.update(plane.astype("<f4").tobytes())  # exact for all labels; one slice at a time
    return digest.hexdigest()


def check_recorded(label: Path, annotation: Annotation) -> None:
    """Check that the label of a case is the recorded one.

    Args:
        label: an existing file.
        annotation: the recorded row of the case.

    Raises:
        UserError: the label has other voxels.
    """
    if voxels_sha256(read_volume(label).array) != annotation.label_sha256:
        raise UserError(
            f"{label} is not the label that {FILE} records: if it was edited, move it into a folder and take it from "
            "there with --corrected; if `annotate take` was interrupted, delete it and run the same command again."
        )
