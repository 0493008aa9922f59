"""The record of who made which label of a dataset: ``annotations.csv`` beside its ``dataset.json``."""

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
MACHINE, CONFIRMED, CORRECTED = SOURCES = ("machine", "confirmed", "corrected")  # by how much was looked at


class Annotation(NamedTuple):
    """A case that came from a round; training cases without one are the experts'.

    Attributes:
        case: its identifier.
        source: "machine" (as the model made it), "confirmed" (the same, and somebody agreed) or "corrected".
        round: name of the round's folder.
        round_id: of the round, wherever its folder lies.
        model: that segmented it.
        model_sha256: of the model's file.
        annotator: who corrected or confirmed; empty where nobody is named.
        date: on which it was taken, ISO 8601.
        disagreement: of the model with itself, 0 to 1.
        dice: of the machine's mask and the one that was taken, the mean over their labels.
        label_sha256: of the label's voxels as they were written, see :func:`voxels_sha256`.
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
    """The record of a dataset by case; empty where there is none.

    Args:
        dataset_folder: in nnUNet_raw.

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
            raise UserError(f"{file} has a line of {row.case} that ends too early: mend it.")
        if not is_case_name(row.case):
            raise UserError(f"{file} has the case {row.case!r}, which is no name of a file: mend it.")
        if row.source not in SOURCES:
            raise UserError(
                f"{file} says {row.source!r} of {row.case}, but a source must be one of {', '.join(SOURCES)}: mend it."
            )
        if row.case in record:
            raise UserError(f"{file} has two lines of {row.case}: take one out.")
        record[row.case] = row
    return record


def write_record(dataset_folder: Path, record: Mapping[str, Annotation]) -> None:
    """Replaces the record of a dataset."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([Annotation._fields, *record.values()])
    write_text(dataset_folder / FILE, stream.getvalue())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Has a dataset's folder for this process alone.

    Args:
        folder: that of the record, or the one of the same dataset in nnUNet_preprocessed.

    Raises:
        UserError: another process has it.
    """
    with held(folder / LOCK) as descriptor:
        if descriptor is None:
            raise UserError(f"another `sam2_3dmed annotate` is changing {folder}: wait until it has ended.")
        yield


def is_case_name(name: str) -> bool:
    """Whether files may be called so: no path, and not hidden."""
    return bool(name) and Path(name).name == name and not name.startswith(".")


def voxels_sha256(labels: np.ndarray) -> str:
    """SHA-256 of the shape and the values of a label map (z, y, x), whatever its type and its file's compression."""
    digest = hashlib.sha256(repr(tuple(int(length) for length in labels.shape)).encode())
    for plane in labels:
        digest.update(plane.astype("<f4").tobytes())  # exact for all labels; of one slice at a time
    return digest.hexdigest()


def check_recorded(label: Path, annotation: Annotation) -> None:
    """That the label of a case is the one that was recorded.

    Args:
        label: a file that is there.
        annotation: of the case.

    Raises:
        UserError: it has other voxels.
    """
    if voxels_sha256(read_volume(label).array) != annotation.label_sha256:
        raise UserError(
            f"{label} is not the label that {FILE} records: if somebody edited it, move it into a folder and take it "
            "from there with --corrected; if `loop take` was interrupted, delete it; then run the same `loop take` "
            "again."
        )
