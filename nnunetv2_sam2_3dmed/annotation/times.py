"""Times of a round: ``times.csv`` in its folder, with the seconds of machine and person per case, object and stage.

MedSAM2's main result of its rounds is the time that a lesion took (MedSAM2, Fig. 3). Commands and clients add to the
table under a lock, and a person may fill it in a spreadsheet.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.annotation.record import is_case_name
from nnunetv2_sam2_3dmed.csv_files import Row, read_csv
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.locks import held

FILE = "times.csv"
LOCK = ".times.lock"
PROMPT, OUTLINE, VOLUME, MANUAL = STAGES = ("prompt", "outline", "volume", "manual")
COLUMNS = ("case", "object", "stage", "slices", "machine_seconds", "person_seconds")
OPTIONAL = ("person_voxels",)


@dataclass(frozen=True)
class StageTime:
    """Time of an object in a stage.

    Attributes:
        case: case identifier.
        label: label value of the object.
        stage: one of :data:`STAGES`.
        slices: number of slices on which the model's mask has voxels; None where there is no mask.
        machine: seconds of the machine; None if not measured.
        person: seconds of the person; None if not measured, 0 if there was nothing to do.
        person_voxels: size of the person's mask, 0 if the object was erased or is not there; None where no client has
            written it.
        others: columns of the user's own.
    """

    case: str
    label: int
    stage: str
    slices: int | None = None
    machine: float | None = None
    person: float | None = None
    person_voxels: int | None = None
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str, int, str]:
        """Case, label and stage, of which a table has one row each."""
        return self.case, self.label, self.stage


@dataclass(frozen=True)
class Sitting:
    """A person's work on a case at one go.

    Attributes:
        person: seconds of the person, by label.
        machine: seconds in which the machine answered, by label, where any.
        number: that no other sitting at the case has, for a client that may send one again; None if it has no number.
    """

    person: Mapping[int, float]
    machine: Mapping[int, float] = field(default_factory=dict)
    number: int | None = None


def read_times(round_folder: Path) -> list[StageTime]:
    """Read the times of a round; empty if there are none.

    Raises:
        UserError: the table cannot be read, or has two rows for one object and stage.
    """
    file = round_folder / FILE
    if not file.is_file():
        return []
    found: dict[tuple[str, int, str], StageTime] = {}
    for row in read_csv(file, COLUMNS, OPTIONAL):
        one = _of_row(file, row)
        if one.place in found:
            raise UserError(
                f"line {row.number} of {file} is the second of {one.case}, object {one.label}, stage {one.stage}: "
                "delete one."
            )
        found[one.place] = one
    return list(found.values())


def add_person_seconds(round_folder: Path, case: str, label: int, stage: str, seconds: float) -> None:
    """Add a person's work to the times of a round.

    Args:
        round_folder: folder of the round.
        case: case identifier.
        label: label value of the object.
        stage: one of :data:`STAGES`.
        seconds: of this sitting; added to those of earlier ones.

    Raises:
        UserError: a value is not valid, the table cannot be read or written, or another process holds it for long.
    """
    add_sitting(round_folder, case, stage, Sitting({label: seconds}))


def add_sitting(
    round_folder: Path,
    case: str,
    stage: str,
    sitting: Sitting,
    voxels: Mapping[int, int] | None = None,
) -> None:
    """Add a person's work on the objects of a case to the times of a round, all of it or none.

    Args:
        round_folder: folder of the round.
        case: case identifier.
        stage: one of :data:`STAGES`.
        sitting: its seconds are added to those of earlier ones.
        voxels: size of the person's mask after it, by label, where that is known.

    Raises:
        UserError: as of :func:`add_person_seconds`.
    """
    for one in (*sitting.person.values(), *sitting.machine.values()):
        _check(f"the time of {case}", case, stage, one)
    with _changing(round_folder) as times:
        for label in dict.fromkeys((*sitting.person, *sitting.machine)):
            place = (case, int(label), stage)
            before = times.get(place, StageTime(*place))
            times[place] = replace(
                before,
                person=_sum(before.person, sitting.person.get(label)),
                machine=_sum(before.machine, sitting.machine.get(label)),
                person_voxels=before.person_voxels if voxels is None else voxels.get(label),
            )


def _sum(before: float | None, more: float | None) -> float | None:
    """Add seconds; None if neither was measured."""
    return before if more is None else (before or 0.0) + float(more)


def set_machine_seconds(round_folder: Path, case: str, stage: str, seconds: float, slices: Mapping[int, int]) -> None:
    """Write the machine's time for a case, in equal parts for its objects; it replaces that of an earlier run.

    Args:
        round_folder: folder of the round.
        case: case identifier.
        stage: one of :data:`STAGES`.
        seconds: for all objects of the case together.
        slices: number of slices with voxels in the model's mask, by object.

    Raises:
        UserError: as of :func:`add_person_seconds`.
    """
    _check(f"the time of {case}", case, stage, seconds)
    with _changing(round_folder) as times:
        for label, number in slices.items():
            place = (case, label, stage)
            before = times.get(place, StageTime(*place))
            times[place] = replace(before, slices=number, machine=seconds / len(slices))


def slices_of(labels: np.ndarray, objects: Iterable[int], axis: int) -> dict[int, int]:
    """Return the number of slices along ``axis`` on which each object of a label map (z, y, x) has voxels."""
    others = tuple(k for k in range(3) if k != axis)
    return {label: int((labels == label).any(axis=others).sum()) for label in objects}


@contextmanager
def _changing(round_folder: Path) -> Iterator[dict[tuple[str, int, str], StageTime]]:
    """Lock the table, yield its rows to be changed, and write them."""
    with held(round_folder / LOCK) as descriptor:
        if descriptor is None:
            raise UserError(f"another process is writing {round_folder / FILE}: try again.")
        times = {one.place: one for one in read_times(round_folder)}
        yield times
        write_text(round_folder / FILE, _as_csv(list(times.values())))


def _as_csv(times: list[StageTime]) -> str:
    own = list(dict.fromkeys(column for one in times for column in one.others))
    known = OPTIONAL if any(one.person_voxels is not None for one in times) else ()
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*COLUMNS, *known, *own])
    for one in times:
        seconds = ["" if value is None else f"{value:.2f}" for value in (one.machine, one.person)]
        slices, drawn = ("" if value is None else value for value in (one.slices, one.person_voxels))
        others = (one.others.get(column, "") for column in own)
        writer.writerow([*one.place, slices, *seconds, *([drawn] if known else []), *others])
    return stream.getvalue()


def _of_row(file: Path, row: Row) -> StageTime:
    where = f"line {row.number} of {file}"
    numbers: dict[str, float | None] = {}
    for column in ("object", "slices", "machine_seconds", "person_seconds", "person_voxels"):
        try:
            numbers[column] = float(row[column]) if row[column] else None
        except ValueError as error:
            raise UserError(f"{where} has the {column} {row[column]!r}, expected a number: correct it.") from error
    label = numbers["object"]
    if label is None or not label.is_integer():
        raise UserError(f"{where} has the object {row['object']!r}, expected a label value: correct it.")
    for column in ("machine_seconds", "person_seconds"):
        _check(where, row["case"], row["stage"], numbers[column] or 0.0)
    slices, drawn = (None if value is None else int(value) for value in (numbers["slices"], numbers["person_voxels"]))
    return StageTime(
        row["case"],
        int(label),
        row["stage"],
        slices,
        numbers["machine_seconds"],
        numbers["person_seconds"],
        drawn,
        row.others,
    )


def _check(where: str, case: str, stage: str, seconds: float) -> None:
    if not is_case_name(case):
        raise UserError(f"{where} has the case {case!r}, which is no file name: correct it.")
    if stage not in STAGES:
        raise UserError(f"{where} has the stage {stage!r}, expected one of {', '.join(STAGES)}: correct it.")
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UserError(f"{where} has {seconds:g} seconds, expected 0 or more: correct it.")
