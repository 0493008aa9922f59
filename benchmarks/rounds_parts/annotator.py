"""An annotator who knows the ground truth: revises 2D masks and volumes, and takes a stated time for it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.annotation.outlines import TABLE, table_rows
from nnunetv2_sam2_3dmed.annotation.rounds import Round
from nnunetv2_sam2_3dmed.annotation.times import MANUAL, OUTLINE, PROMPT, VOLUME, add_person_seconds, read_times
from nnunetv2_sam2_3dmed.files import copy_file, write_text
from nnunetv2_sam2_3dmed.images.volumes import read_volume, write_segmentation
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import extent_of

SECONDS_PER_BOX, SECONDS_PER_SLICE, VOXELS_PER_SECOND = 5.0, 2.0, 20.0
BY_HAND = 5  # cases that are segmented without the model, as many as in MedSAM2's study


def seconds(slices: int, voxels: int) -> float:
    """Return the time to look at slices and to change voxels."""
    return SECONDS_PER_SLICE * slices + voxels / VOXELS_PER_SECOND


def revise_outlines(folder: Path, truth: Path, revised: Path, by_hand: bool = False) -> None:
    """Write the true 2D masks, and fill in first and last slice of the round's table; repeated, it changes nothing.

    Args:
        folder: of the round.
        truth: folder of the ground truth.
        revised: folder for the masks.
        by_hand: also note the time of some cases without the model.
    """
    made = Round.read(folder)
    rows = table_rows(made)
    for number, (name, case) in enumerate(made.outlines.items()):
        file = truth / made.outline(name).name
        labels = read_volume(file).array
        found = read_volume(made.outline(name)).array
        gt, machine = (np.moveaxis(array, case.axis, 0) for array in (labels, found))
        drawn = np.zeros_like(labels)
        for one in case.objects:
            here = gt[one.index] == one.label
            np.moveaxis(drawn, case.axis, 0)[one.index][here] = one.label
            wrong = int((here ^ (machine[one.index] == one.label)).sum())
            first, last = extent_of(gt == one.label)
            for row in rows:
                if row["where"].startswith(f"outlines/{file.name}@") and int(row["object"]) == one.label:
                    row["first"], row["last"] = str(first), str(last)
            _note(folder, name, one.label, PROMPT, SECONDS_PER_BOX)
            _note(folder, name, one.label, OUTLINE, seconds(3, wrong))  # its own slice, the first and the last
            if by_hand and number < BY_HAND:
                own = gt == one.label
                _note(folder, name, one.label, MANUAL, seconds(last - first + 1, int(own.sum())))
        if not (revised / file.name).is_file():
            write_segmentation(revised / file.name, drawn, read_volume(Path(case.image)))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(dict.fromkeys(column for row in rows for column in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / TABLE, stream.getvalue())


def revise_volumes(folder: Path, truth: Path, corrected: Path) -> None:
    """Copy the true volumes, and note the time to correct the model's; repeated, it changes nothing.

    Args:
        folder: of the round.
        truth: folder of the ground truth.
        corrected: folder for the volumes.
    """
    made = Round.read(folder)
    for name, case in made.cases.items():
        file = truth / made.mask(name).name
        gt, machine = read_volume(file).array, read_volume(made.mask(name)).array
        axis = made.outlines[name].axis
        for scored in case.objects:
            own = gt == scored.label
            first, last = extent_of(np.moveaxis(own, axis, 0))
            wrong = int((own ^ (machine == scored.label)).sum())
            _note(folder, name, scored.label, VOLUME, seconds(last - first + 1, wrong))
        if not (corrected / file.name).is_file():
            copy_file(file, corrected / file.name)


def _note(folder: Path, case: str, label: int, stage: str, duration: float) -> None:
    """Note a time, unless it was noted before an interruption."""
    known = {one.place: one.person for one in read_times(folder)}
    if known.get((case, label, stage)) is None:
        add_person_seconds(folder, case, label, stage, duration)
