"""Labels in the preprocessed segmentations of a dataset, cached in a file so that each segmentation is read once."""

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

# files with a case's segmentation; nnU-Net reads the first that exists
_FILES: tuple[tuple[str, type[nnUNetBaseDataset]], ...] = (
    ("_seg.b2nd", nnUNetDatasetBlosc2),
    ("_seg.npy", nnUNetDatasetNumpy),
    (".npz", nnUNetDatasetNumpy),
)
_SHOWN = 3  # values or names in a message at most


def preprocessed_cases(folder: Path) -> list[str]:
    """Return the sorted identifiers of the cases in a folder of preprocessed cases; none if the folder is missing."""
    images = [file.name for ending in (".b2nd", ".npz") for file in folder.glob(f"*{ending}")]
    return sorted(name.rpartition(".")[0] for name in images if not name.endswith("_seg.b2nd"))


def labels_of_cases(folder: Path, cases: Iterable[str]) -> dict[str, list[int]]:
    """Return the sorted values in the segmentation of each case, without -1, nnU-Net's value for outside the body.

    A cache beside the folder (``FOLDER.labels.json``; nnU-Net allows no other kind of file inside) holds earlier
    results by size and time of each file.

    Args:
        folder: the preprocessed cases of a configuration.
        cases: case identifiers.

    Raises:
        UserError: a case is missing or cannot be read.
    """
    wanted = sorted(set(cases))
    note = folder.with_name(f"{folder.name}.labels.json")
    known = _read_note(note)
    stamps = {case: _stamp(_segmentation(folder, case)[0]) for case in wanted}
    new = [case for case in wanted if known.get(case, {}).get("file") != stamps[case]]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # decompressing and counting release the GIL
        found = list(pool.map(lambda case: _values(folder, case), new))
    for case, values in zip(new, found, strict=True):
        known[case] = {"file": stamps[case], "labels": values}
    if new:
        try:
            write_text(note, json.dumps(dict(sorted(known.items()))))
        except UserError:  # read-only shared data: they are read again next time
            pass
    return {case: list(known[case]["labels"]) for case in wanted}


def check_cases(dataset: str, dataset_json: Mapping[str, Any], labels: Mapping[str, Sequence[int]]) -> None:
    """Refuse cases with values that dataset.json does not declare, which our losses would count as background.

    Args:
        dataset: dataset name, for messages.
        dataset_json: dataset.json with checked labels.
        labels: values in the segmentation of each case.

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
    """Return the names of classes or regions without a voxel in any of the cases."""
    held = {value for values in labels.values() for value in values}
    return [name for name, values in foreground_names(dataset_json).items() if not held & set(values)]


def warning_of_absent_classes(
    dataset: str, dataset_json: Mapping[str, Any], labels: Mapping[str, Sequence[int]], of: str
) -> str | None:
    """Return a warning about classes that cannot be learned; None if every class is present.

    Args:
        dataset: dataset name, for messages.
        dataset_json: dataset.json with checked labels.
        labels: values in the segmentation of each case.
        of: description of these cases, such as "training cases of fold 0".

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
    present = np.zeros(2**16, dtype=bool)  # nnU-Net stores 16 bits
    try:
        _, segmentation, _, _ = reader(str(folder), [case]).load_case(case)
        thickness = getattr(segmentation, "chunks", segmentation.shape)[1]
        for start in range(0, segmentation.shape[1], thickness):  # one layer of compressed chunks at a time
            layer = np.asarray(segmentation[:, start : start + thickness]).astype(np.int16, copy=False)
            present[layer.ravel().view(np.uint16)] = True
    except Exception as error:  # damaged files raise anything in blosc2, zipfile or pickle
        raise UserError(
            f"{file} or what belongs to it cannot be read ({error}): run nnUNetv2_preprocess again."
        ) from error
    values = np.flatnonzero(present).astype(np.uint16).view(np.int16)
    return sorted(int(value) for value in values if value != NONZERO_OUTSIDE)


def _read_note(note: Path) -> dict[str, dict[str, Any]]:
    """Read the cache; empty if it is damaged or holds something else."""
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        return {case: {"file": list(said["file"]), "labels": list(said["labels"])} for case, said in content.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
