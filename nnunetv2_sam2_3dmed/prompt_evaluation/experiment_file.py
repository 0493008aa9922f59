"""YAML files that describe a table of prompted segmentation: a model, protocols and datasets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.tolerance import Tolerance, nsd_tolerance
from nnunetv2_sam2_3dmed.yaml_files import check_keys, check_name, list_of, read_yaml, refuse_twice

KEYS = ("name", "title", "model", "image_size", "protocols", "clicks", "seed", "tolerance", "datasets")
REQUIRED = ("name", "model", "protocols", "datasets")
DATASET_KEYS = ("dataset", "channel", "classes")
ALL_LABELS = "all"
PROTOCOLS = (
    *("clicks", "1_mask", "box", "boxes", "recist", "recist_line", "1_mask_within", "box_within"),
    *("box_corrected", "box_within_corrected"),
)
FIRST_BOX, FIRST_MASK = VIDEO_PROTOCOLS = ("first_box", "first_mask")


@dataclass(frozen=True)
class PromptedDataset:
    """A dataset of an experiment.

    Attributes:
        dataset: number, full name, or task, such as ``Spleen`` for Dataset009_Spleen.
        channel: index of the prompted image channel, or a part of its name that no other channel has.
        classes: label values of each class, None for all labels of the foreground; None for the dataset's own classes.
    """

    dataset: str
    channel: int | str = 0
    classes: Mapping[str, tuple[int, ...] | None] | None = None


@dataclass(frozen=True)
class PromptExperiment:
    """Content of the YAML file.

    Attributes:
        name: for file names.
        title: of the table.
        model: installed checkpoint or file.
        image_size: side in pixels to which slices are resized; None for the default of the model.
        protocols: names of protocols.
        clicks: maximum number of clicks.
        seed: random seed.
        tolerance_mm: tolerance of NSD on all datasets; None for each dataset's own, see ``nsd_tolerance``.
        datasets: what to measure.
    """

    name: str
    title: str
    model: str
    image_size: int | None
    protocols: tuple[str, ...]
    clicks: int
    seed: int
    tolerance_mm: float | None
    datasets: tuple[PromptedDataset, ...]

    def tolerance_of(self, dataset: str) -> Tolerance:
        """Return the tolerance of NSD on a dataset, given by its full name."""
        return nsd_tolerance(dataset, self.tolerance_mm)


def packaged() -> dict[str, Path]:
    """Return the files that are installed with the package, by their names."""
    folder = Path(str(files("nnunetv2_sam2_3dmed") / "prompt_experiments"))
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def read_experiment(file_or_name: str) -> PromptExperiment:
    """Read a file, or one that is installed with the package.

    Raises:
        UserError: there is none, or an entry is missing, unknown or has another form.
    """
    known = packaged()
    file = Path(file_or_name)
    if not file.is_file():
        if file_or_name not in known:
            raise UserError(f"there is no file {file_or_name}: give a YAML file, or one of {', '.join(known)}.")
        file = known[file_or_name]
    content = read_yaml(file)
    check_keys(content, KEYS, REQUIRED, str(file))
    name = check_name(content["name"])
    protocols = list_of(content, "protocols", str, f"protocols, of {', '.join(PROTOCOLS)}")
    refuse_twice("protocols", protocols)
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise UserError(f"{protocol} is in protocols, expected {', '.join(PROTOCOLS)}: correct it.")
    entries = list_of(content, "datasets", dict, "datasets")
    datasets = [_dataset(entry, number) for number, entry in enumerate(entries, start=1)]
    refuse_twice("datasets", [dataset.dataset for dataset in datasets])
    return PromptExperiment(
        name,
        _text(content, "title", name),
        _text(content, "model", ""),
        _number(content, "image_size", None, 32),
        tuple(protocols),
        _number(content, "clicks", 5, 1) or 5,
        _number(content, "seed", 0, 0) or 0,
        _millimetres(content, "tolerance"),
        tuple(datasets),
    )


def _dataset(entry: dict[str, Any], number: int) -> PromptedDataset:
    where = f"dataset {number}"
    check_keys(entry, DATASET_KEYS, ("dataset",), where)
    channel, classes = entry.get("channel", 0), entry.get("classes")
    if isinstance(channel, bool) or not isinstance(channel, (int, str)):
        raise UserError(f"channel of {where} is {channel!r}, expected its number from 0 or its name: correct it.")
    if classes is None:
        return PromptedDataset(str(entry["dataset"]), channel)
    if not isinstance(classes, dict) or not classes:
        raise UserError(f"classes of {where} is {classes!r}, expected names with lists of labels: correct it.")
    checked: dict[str, tuple[int, ...] | None] = {}
    for name, values in classes.items():
        numbers = isinstance(values, list) and values and all(type(value) is int and value > 0 for value in values)
        if values != ALL_LABELS and not numbers:
            raise UserError(
                f"the class {name!r} of {where} is {values!r}, expected a list of labels from 1, or {ALL_LABELS}."
            )
        checked[str(name)] = None if values == ALL_LABELS else tuple(values)
    return PromptedDataset(str(entry["dataset"]), channel, checked)


def _text(content: dict[str, Any], key: str, default: str) -> str:
    value = content.get(key, default)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{key} is {value!r}, expected words: correct it.")
    return value


def _number(content: dict[str, Any], key: str, default: int | None, least: int) -> int | None:
    value = content.get(key, default)
    if value is not None and (type(value) is not int or value < least):
        raise UserError(f"{key} is {value!r}, expected a whole number from {least}: correct it.")
    return value


def _millimetres(content: dict[str, Any], key: str) -> float | None:
    value = content.get(key)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise UserError(f"{key} is {value!r}, expected millimetres from 0, or none for each dataset's own: correct it.")
    return float(value)
