"""The labels that the preprocessed segmentations of a dataset hold, with a note of them, so that each is read once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset, nnUNetDatasetBlosc2, nnUNetDatasetNumpy

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.nnunet.dataset_labels import NONZERO_OUTSIDE, expected_values, foreground_names

# endings of what holds a case's segmentation, of which nnU-Net reads the first that is there
_FILES: tuple[tuple[str, type[nnUNetBaseDataset]], ...] = (
    ("_seg.b2nd", nnUNetDatasetBlosc2),
    ("_seg.npy", nnUNetDatasetNumpy),
    (".npz", nnUNetDatasetNumpy),
)
_SHOWN = 3  # values or names in a message


def preprocessed_cases(folder: Path) -> list[str]:
    """Identifiers of the cases in a folder of preprocessed cases, sorted; none where there is no such folder."""
    images = [file.name for ending in (".b2nd", ".npz") for file in folder.glob(f"*{ending}")]
    return sorted(name.rpartition(".")[0] for name in images if not name.endswith("_seg.b2nd"))


def labels_of_cases(folder: Path, cases: Iterable[str]) -> dict[str, list[int]]:
    """The values in the segmentation of each case, sorted; without -1, nnU-Net's mark for what is outside of the body.

    A note beside the folder (``FOLDER.labels.json``; inside, nnU-Net takes no other kind of file) says what was read
    before, by size and time of each file.

    Args:
        folder: with the preprocessed cases of a configuration.
        cases: identifiers.

    Raises:
        UserError: a case is missing or cannot be read.
    """
    wanted = sorted(set(cases))
    note = folder.with_name(f"{folder.name}.labels.json")
    known = _read_note(note)
    stamps = {case: _stamp(_segmentation(folder, case)[0]) for case in wanted}
    new = [case for case in wanted if known.get(case, {}).get("file") != stamps[case]]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # decompressing and counting release Python's lock
        found = list(pool.map(lambda case: _values(folder, case), new))
    for case, values in zip(new, found, strict=True):
        known[case] = {"file": stamps[case], "labels": values}
    if new:
        try:
            write_text(note, json.dumps(dict(sorted(known.items()))))
        except UserError:  # shared data that may only be read: next time they are read again
            pass
    return {case: list(known[case]["labels"]) for case in wanted}


def check_cases(dataset: str, dataset_json: Mapping[str, Any], labels: Mapping[str, Sequence[int]]) -> None:
    """Refuse cases with values that dataset.json does not declare: our losses would take them for background.

    Args:
        dataset: its name, for messages.
        dataset_json: with labels that are checked.
        labels: the values that each case holds.

    Raises:
        UserError: a case holds another value.
    """
    expected = expected_values(dataset_json)
    strange = {case: sorted(set(values) - set(expected)) for case, values in labels.items()}
    wrong = [case for case, values in strange.items() if values]
    if wrong:
        more = f", as do {len(wrong) - 1} other cases the like" if len(wrong) > 1 else ""
        raise UserError(
            f"the segmentation of the case {wrong[0]} of {dataset} holds the label {_list(strange[wrong[0]])}{more}, "
            f"but dataset.json declares {', '.join(map(str, expected))}: correct labelsTr or dataset.json and "
            "preprocess again."
        )


def absent_classes(dataset_json: Mapping[str, Any], labels: Mapping[str, Sequence[int]]) -> list[str]:
    """Names of the classes or regions of which none of the cases holds a voxel."""
    held = {value for values in labels.values() for value in values}
    return [name for name, values in foreground_names(dataset_json).items() if not held & set(values)]


def warning_of_absent_classes(
    dataset: str, dataset_json: Mapping[str, Any], labels: Mapping[str, Sequence[int]], of: str
) -> str | None:
    """A sentence about classes that cannot be learned; None where each is there.

    Args:
        dataset: its name, for messages.
        dataset_json: with labels that are checked.
        labels: the values that each case holds.
        of: what these cases are, such as "training cases of fold 0".

    Raises:
        UserError: there is no foreground at all.
    """
    absent = absent_classes(dataset_json, labels)
    if len(absent) == len(foreground_names(dataset_json)):
        raise UserError(
            f"none of the {len(labels)} {of} of {dataset} holds any voxel of {_list(absent)}, so that there is nothing "
            "to learn: correct labelsTr and preprocess again, or choose other cases."
        )
    if not absent:
        return None
    return f"None of the {len(labels)} {of} of {dataset} holds any voxel of {_list(absent)}, which cannot be learned."


def _list(values: Sequence[Any]) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(map(str, values[:_SHOWN])) + more


def _segmentation(folder: Path, case: str) -> tuple[Path, type[nnUNetBaseDataset]]:
    for ending, reader in _FILES:
        file = folder / f"{case}{ending}"
        if file.is_file():
            return file, reader
    raise UserError(f"there is no {folder / case}_seg.b2nd, but the case {case} is needed: run nnUNetv2_preprocess.")


def _stamp(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def _values(folder: Path, case: str) -> list[int]:
    file, reader = _segmentation(folder, case)
    present = np.zeros(2**16, dtype=bool)  # of the 16 bits that nnU-Net stores
    try:
        _, segmentation, _, _ = reader(str(folder), [case]).load_case(case)
        thickness = getattr(segmentation, "chunks", segmentation.shape)[1]
        for start in range(0, segmentation.shape[1], thickness):  # a layer of compressed chunks at a time
            layer = np.asarray(segmentation[:, start : start + thickness]).astype(np.int16, copy=False)
            present[layer.ravel().view(np.uint16)] = True
    except Exception as error:  # a damaged file may break anything in blosc2, zipfile or pickle
        raise UserError(
            f"{file} or what belongs to it cannot be read ({error}): run nnUNetv2_preprocess again."
        ) from error
    values = np.flatnonzero(present).astype(np.uint16).view(np.int16)
    return sorted(int(value) for value in values if value != NONZERO_OUTSIDE)


def _read_note(note: Path) -> dict[str, dict[str, Any]]:
    """The content of a note; nothing where that is damaged or of another kind."""
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        return {case: {"file": list(said["file"]), "labels": list(said["labels"])} for case, said in content.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
