"""Takes chosen masks of a round into the dataset."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nnunetv2_sam2_3dmed.annotation.choosing import labels_of
from nnunetv2_sam2_3dmed.annotation.raw_dataset import RawDataset
from nnunetv2_sam2_3dmed.annotation.record import FILE, read_record, write_record
from nnunetv2_sam2_3dmed.annotation.replacing import Taken
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import copy_file, read_json, write_text
from nnunetv2_sam2_3dmed.images.exact_paths import check_no_twin
from nnunetv2_sam2_3dmed.images.volumes import read_volume, write_segmentation

STAGED = ".taking"  # a folder beside the files: nnU-Net takes nothing in there for a case


def take(dataset: RawDataset, chosen: Sequence[Taken]) -> None:
    """Writes images and labels beside the dataset's, then the record, moves the files, and counts the cases last.

    If a file cannot be written, the dataset stays as it was. Whenever it is killed, no machine's mask is there without
    its line in the record. Either way it can be run again.

    Raises:
        UserError: a file cannot be written, or another one would be read in its place.
    """
    _clean(dataset)  # what one that was killed has left
    for taken in chosen:
        for target in (dataset.image(taken.case), dataset.label(taken.case)):
            check_no_twin(target)
    try:
        staged = [(_staged(target), target) for taken in chosen for target in _write_beside(dataset, taken)]
        if chosen:
            new = {taken.case: taken.annotation for taken in chosen}
            known = read_record(dataset.folder)
            files = [*staged, (_staged(dataset.folder / FILE), dataset.folder / FILE)]
            with _all_or_none(files):
                write_record(dataset.folder, {**known, **new})
                for file, target in staged:
                    os.replace(file, target)
    finally:
        _clean(dataset)
    content = read_json(dataset.json_file, "mend it")
    if content.get("numTraining") != len(dataset.cases()):
        content["numTraining"] = len(dataset.cases())
        write_text(dataset.json_file, json.dumps(content, indent=4))


@contextmanager
def _all_or_none(files: Sequence[tuple[Path, Path]]) -> Iterator[None]:
    """Puts back what was there if not all of the files (staged, target) can be put in place."""
    before = {}
    for file, target in files:
        if target.exists():
            before[target] = file.with_name(f"{file.name}.before")
            copy_file(target, before[target])
    try:
        yield
    except (OSError, UserError):
        for _, target in reversed(files):
            if target in before:
                os.replace(before[target], target)
            else:
                target.unlink(missing_ok=True)
        raise


def _write_beside(dataset: RawDataset, taken: Taken) -> list[Path]:
    """Writes what is new of a case into :data:`STAGED`; returns the files that it is to replace, the label last."""
    image, label = dataset.image(taken.case), dataset.label(taken.case)
    targets = [label] if image.exists() else [image, label]
    if not image.exists():
        copy_file(taken.image, _staged(image))
    # on the image's own grid, which editors write with other digits
    write_segmentation(_staged(label), labels_of(taken.mask, dataset), read_volume(taken.image))
    return targets


def _staged(target: Path) -> Path:
    return target.parent / STAGED / target.name


def _clean(dataset: RawDataset) -> None:
    for folder in (".", "imagesTr", "labelsTr"):
        shutil.rmtree(dataset.folder / folder / STAGED, ignore_errors=True)
