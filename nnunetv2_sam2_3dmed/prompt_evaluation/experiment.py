"""Experiments on prompted segmentation of several datasets: all are checked before a model is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.published_prompts import task_of
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.nnunet.dataset_labels import IGNORE, expected_values, foreground_names
from nnunetv2_sam2_3dmed.nnunet.folders import dataset_name, nnunet_folder, read_dataset_json
from nnunetv2_sam2_3dmed.prompt_evaluation.dataset_run import DatasetRun
from nnunetv2_sam2_3dmed.prompt_evaluation.experiment_file import PromptedDataset, PromptExperiment
from nnunetv2_sam2_3dmed.prompt_evaluation.measurements import SUMMARY, Measured
from nnunetv2_sam2_3dmed.prompt_evaluation.protocols import Protocol, protocols
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import check_headers, raw_cases, training_files


@dataclass(frozen=True)
class PreparedRun:
    """A dataset of an experiment that can be measured.

    Attributes:
        run: the measurement.
        warnings: about its files.
    """

    run: DatasetRun
    warnings: Sequence[str]


def protocols_of(experiment: PromptExperiment) -> list[Protocol]:
    """Return the protocols of an experiment."""
    known = protocols(experiment.clicks)
    return [known[f"{experiment.clicks}_clicks" if name == "clicks" else name] for name in experiment.protocols]


def prepare(experiment: PromptExperiment, precision: str) -> list[PreparedRun]:
    """Find all datasets, and check their labels, channels and files. All training cases are measured.

    Raises:
        UserError: a dataset is not there, or cannot be prompted.
    """
    prepared = []
    for wanted in experiment.datasets:
        name = find_dataset(wanted.dataset)
        folder = nnunet_folder("nnUNet_raw") / name
        content = read_dataset_json(folder / "dataset.json", "correct it")
        channel = find_channel(wanted.channel, name, content)
        cases = raw_cases(folder, content, sorted(training_files(folder, content)), channel)
        if not cases:
            raise UserError(f"{folder} has no training cases: put images into imagesTr and labels into labelsTr.")
        run = DatasetRun(
            name,
            content,
            cases,
            protocols_of(experiment),
            experiment.model,
            precision,
            experiment.tolerance_of(name),
            ["all"],
            _classes(wanted, name, content),
            channel,
            seed=experiment.seed,
        )
        prepared.append(PreparedRun(run, check_headers(cases)))
    return prepared


def measure(
    prepared: Sequence[PreparedRun], session: InteractiveSession, output: Path, progress: Callable[[str], None]
) -> dict[str, Measured]:
    """Measure all datasets, each into a folder of its name; return the measurements by dataset.

    Raises:
        UserError: a folder has results of another run, or no case of a dataset can be prompted.
    """
    measured = {}
    for one in prepared:
        progress(one.run.dataset)
        measured[one.run.dataset] = one.run.measure(session, output / one.run.dataset, one.warnings, progress)
    return measured


def warnings_of(output: Path, datasets: Iterable[str]) -> dict[str, list[str]]:
    """Return what the runs of :func:`measure` have warned of, by dataset."""
    return {name: json.loads((output / name / SUMMARY).read_text("utf-8"))["warnings"] for name in datasets}


def find_dataset(name: str) -> str:
    """Return the full name of a dataset in nnUNet_raw.

    Args:
        name: number, full name, or task: ``BraTS2020`` is Dataset137_BraTS2020, Dataset082_BraTS_2020 and so on.

    Raises:
        UserError: there is none, or there are several of a task.
    """
    if re.fullmatch(r"\d+|Dataset\d{3}_\w+", name):
        return dataset_name(name)
    folder = nnunet_folder("nnUNet_raw")
    known = sorted(path.name for path in folder.glob("Dataset[0-9][0-9][0-9]_*") if path.is_dir())
    found = [dataset for dataset in known if task_of(dataset) == task_of(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{' and '.join(found)} are both {name}: name one of them by its number in a copy of the experiment's file."
        )
    raise UserError(
        f"{folder} has no dataset of the name {name}, such as Dataset009_{name}: convert it for nnU-Net, or name yours "
        "in a copy of the experiment's file."
    )


def find_channel(channel: int | str, dataset: str, dataset_json: Mapping[str, Any]) -> int:
    """Return the index of an image channel.

    Args:
        channel: index, or name as in dataset.json, or a part that no other channel's name has; letters and digits
            count.
        dataset: the dataset's name, for messages.
        dataset_json: content of its dataset.json.

    Raises:
        UserError: there is no such channel, or several have that part.
    """
    if isinstance(channel, int):
        return channel
    names = {int(k): str(v) for k, v in (dataset_json.get("channel_names") or dataset_json.get("modality", {})).items()}
    plain = {number: task_of(name) for number, name in names.items()}
    found = [number for number, name in plain.items() if name == task_of(channel)]
    found = found or [number for number, name in plain.items() if task_of(channel) in name]
    if len(found) != 1:
        raise UserError(
            f"{dataset} has {'no' if not found else 'more than one'} channel {channel}, only "
            f"{', '.join(names.values())}: give its number in a copy of the experiment's file."
        )
    return found[0]


def _classes(wanted: PromptedDataset, name: str, content: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """Return the label values of each class.

    Raises:
        UserError: the dataset has no such label.
    """
    if wanted.classes is None:
        return None
    everything = tuple(sorted({v for values in foreground_names(content).values() for v in values} - {0}))
    classes = {label: everything if values is None else values for label, values in wanted.classes.items()}
    known = set(expected_values(content)) - {content["labels"].get(IGNORE)}
    for label, values in classes.items():
        strange = sorted(set(values) - known)
        if strange:
            raise UserError(
                f"the class {label!r} has the label {strange[0]}, but {name} has {', '.join(map(str, sorted(known)))}: "
                "give its own labels in a copy of the experiment's file."
            )
    return classes
