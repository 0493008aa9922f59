"""Several raw datasets merged into one, whose cases are drawn at the rate of their source.

Why a merged dataset: nnU-Net plans, preprocesses, splits, trains and validates one dataset. With all cases in one, none
of that needs to be told of several, and the rates are a list of cases from which nnU-Net's own loader draws.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_sam2_3dmed.annotation.record import read_record
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import copy_file, write_text
from nnunetv2_sam2_3dmed.images.label_maps import label_map
from nnunetv2_sam2_3dmed.images.volumes import Volume, read_volume, write_volume
from nnunetv2_sam2_3dmed.images.windows import AUTO, choose_window
from nnunetv2_sam2_3dmed.merging.labels import MergedLabels, merge_labels
from nnunetv2_sam2_3dmed.nnunet.dataset_labels import IGNORE, ORDER, check_labels, foreground_names
from nnunetv2_sam2_3dmed.nnunet.folders import (
    begin_dataset,
    check_new_dataset,
    dataset_name,
    finish_dataset,
    nnunet_folder,
    read_dataset_json,
)
from nnunetv2_sam2_3dmed.nnunet.folds import FILE, Folds, folds_without_validating
from nnunetv2_sam2_3dmed.nnunet.sources import CHANNEL, ENDING, KEY, READER, SPACING, Source, Sources, sources_of
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import read_header, training_files

READER_KEY = "overwrite_image_reader_writer"


@dataclass(frozen=True)
class Part:
    """A raw dataset that is merged.

    Attributes:
        name: such as ``Dataset009_Spleen``.
        content: of its dataset.json.
        files: ``images`` (one file per channel) and ``label`` by case identifier.
        rate: of its cases.
        prefix: of its cases in the merged dataset.
    """

    name: str
    content: dict[str, Any]
    files: dict[str, dict[str, Any]]
    rate: int
    prefix: str

    @property
    def sources(self) -> Sources:
        return sources_of(self.content)

    @property
    def channels(self) -> list[str]:
        """Names of the channels in their order."""
        names: dict[str, Any] = self.content.get("channel_names") or self.content["modality"]
        return [str(names[key]) for key in sorted(names, key=int)]

    @property
    def is_pictures(self) -> bool:
        """True if its images are shown as they are."""
        return self.sources.videos or self.sources.pictures

    def case(self, name: str) -> str:
        """Return the identifier of a case in the merged dataset."""
        return f"{self.prefix}_{name}"


@dataclass(frozen=True)
class Plan:
    """A way in which datasets become one.

    Attributes:
        parts: the datasets.
        labels: of the merged dataset.
        content: of its dataset.json.
        pictures: images become pictures of 8 bits instead of being linked.
        folds: those of all parts together.
    """

    parts: Sequence[Part]
    labels: MergedLabels
    content: dict[str, Any]
    pictures: bool
    folds: Folds

    @property
    def channels(self) -> int:
        return len(self.content["channel_names"])


def open_parts(wanted: Sequence[tuple[str, int]]) -> list[Part]:
    """Open datasets by name or number, each with its rate.

    Raises:
        UserError: one is unknown, damaged, empty, named twice, or was itself merged.
    """
    names = [dataset_name(name) for name, _ in wanted]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{twice[0]} is named twice: give each dataset once, with its rate.")
    shorts = [name.partition("_")[2] for name in names]
    parts = []
    for name, short, (_, rate) in zip(names, shorts, wanted, strict=True):
        folder = nnunet_folder("nnUNet_raw") / name
        if not (folder / "dataset.json").is_file():
            raise UserError(f"there is no {folder / 'dataset.json'}: set nnUNet_raw to the folder that has {name}.")
        content = read_dataset_json(folder / "dataset.json", "correct it")
        check_labels(name, content)
        if sources_of(content).merged:
            raise UserError(f"{name} was merged itself: name the datasets that it was made of.")
        files = training_files(folder, content)
        if not files:
            raise UserError(f"{folder} has no training cases: put images into its imagesTr.")
        prefix = short if shorts.count(short) == 1 else name
        parts.append(Part(name, content, files, rate, prefix))
    return parts


def plan_merging(name: str, parts: Sequence[Part]) -> Plan:
    """Decide what the merged dataset is, and check all that can be checked without reading voxels.

    Where all datasets have the same channels, format and reader, images are linked. Otherwise all become pictures, as
    MedSAM2 made its training data: 8 bits in the windows that sessions show (CT: abdomen; MR and PET: percentiles;
    videos as they are), on a grid of spacing 1, so that nnU-Net resamples nothing, with the coarsest axis first.

    Raises:
        UserError: the datasets cannot be one.
    """
    named: dict[str, str] = {}
    for part in parts:
        for case in map(part.case, part.files):
            other = named.setdefault(case, part.name)
            if other != part.name:
                raise UserError(f"{other} and {part.name} would both have the case {case}: rename one of the cases.")
    labels = merge_labels([(part.prefix, part.content) for part in parts])
    first = parts[0]
    pictures = any(
        (part.channels, part.content["file_ending"], part.content.get(READER_KEY), part.is_pictures)
        != (first.channels, first.content["file_ending"], first.content.get(READER_KEY), first.is_pictures)
        for part in parts
    )
    if pictures:
        for part in parts:
            if len(part.channels) != 1 and not part.is_pictures:
                raise UserError(
                    f"the images of {part.name} have {len(part.channels)} channels, but pictures are made of one: make "
                    "a dataset of one of the channels."
                )
        count = max(len(part.channels) for part in parts)
    channels = [CHANNEL] * count if pictures else first.channels
    reader = READER if pictures else first.content.get(READER_KEY)
    content: dict[str, Any] = {
        "channel_names": {str(number): channel for number, channel in enumerate(channels)},
        "labels": labels.declared,
        **({} if labels.order is None else {ORDER: labels.order}),
        "numTraining": sum(len(part.files) for part in parts),
        "file_ending": ENDING if pictures else first.content["file_ending"],
        **({} if reader is None else {READER_KEY: reader}),
        KEY: Sources(
            pictures=pictures or first.is_pictures,
            merged=tuple(
                Source(part.name, part.rate, part.sources.videos, sorted(map(part.case, part.files))) for part in parts
            ),
        ).noted(),
    }
    check_labels(name, content)
    return Plan(parts, labels, content, pictures, _folds(parts))


def merge(plan: Plan, target: Path, progress: Callable[[str], None] = lambda line: None) -> None:
    """Write the merged dataset, case by case; ``dataset.json`` and, where nnU-Net has its own, the folds come last.

    Args:
        plan: see :func:`plan_merging`.
        target: its folder in nnUNet_raw.
        progress: called with a line per dataset.

    Raises:
        UserError: the dataset exists, or a file cannot be read or written. Cases that were written stay, and the same
            call goes on with the others.
    """
    check_new_dataset(
        target, plan.content["file_ending"], {part.case(name) for part in plan.parts for name in part.files}
    )
    begin_dataset(target, plan.content)
    for part, numbers in zip(plan.parts, plan.labels.numbers, strict=True):
        progress(f"{part.name}: {len(part.files)} cases")
        axis = _slice_axis(part) if plan.pictures and not part.is_pictures else 0
        for name, files in part.files.items():
            label = target / "labelsTr" / f"{part.case(name)}{plan.content['file_ending']}"
            if label.exists():
                continue
            images = [Path(file) for file in files["images"]]
            goals = [
                target / "imagesTr" / f"{part.case(name)}_{channel:04d}{plan.content['file_ending']}"
                for channel in range(plan.channels)
            ]
            if plan.pictures and not part.is_pictures:
                volume = as_picture(read_volume(images[0]), axis)
                write_volume(goals[0], volume)
                images = goals[:1] * plan.channels
            elif len(images) < plan.channels:
                images *= plan.channels  # a grey picture among those in colour
            for image, goal in zip(images, goals, strict=True):
                if image != goal:
                    _link(image, goal)
            _write_label(Path(files["label"]), label, numbers, axis, plan.pictures and not part.is_pictures)
    write_text(nnunet_folder("nnUNet_preprocessed") / target.name / FILE, json.dumps(plan.folds, indent=4))
    finish_dataset(target, plan.content)


def as_picture(volume: Volume, axis: int) -> Volume:
    """Return a volume of one channel as a picture: 8 bits, ``axis`` first, spacing 1; directions stay.

    Args:
        volume: (z, y, x).
        axis: of the array, along which slices lie.
    """
    grey = choose_window(volume.array, AUTO, volume.modality).grey(volume.array)
    return _slices_first(replace(volume, array=255 - grey if volume.inverted else grey), axis)


def missing_classes(plan: Plan) -> dict[str, list[str]]:
    """Return the classes that a dataset has no label for, by dataset; automatic trainers take them for background."""
    every = [name for name in foreground_names(plan.content) if name != IGNORE]
    own = {part.name: foreground_names(part.content) for part in plan.parts}
    return {name: [one for one in every if one not in known] for name, known in own.items() if set(every) - set(known)}


def _folds(parts: Sequence[Part]) -> Folds:
    """Return the folds of all parts together: a case is validated in the fold in which it is in its own dataset.

    Raises:
        UserError: a part has folds of another number, or too few cases.
    """
    own: list[Folds] = []
    for part in parts:
        file = nnunet_folder("nnUNet_preprocessed") / part.name / FILE
        recorded = read_record(nnunet_folder("nnUNet_raw") / part.name)
        own.append(folds_without_validating(file, sorted(part.files), set(recorded)))
        if len(own[-1]) != len(own[0]):
            raise UserError(
                f"{part.name} has {len(own[-1])} folds, but {parts[0].name} {len(own[0])}: write as many with "
                "`sam2_3dmed splits --folds`."
            )
    together: Folds = [{"train": [], "val": []} for _ in own[0]]
    for part, folds in zip(parts, own, strict=True):
        for all_parts, fold in zip(together, folds, strict=True):
            for kind, cases in all_parts.items():
                cases += [part.case(case) for case in fold[kind]]
    return together


def _slice_axis(part: Part) -> int:
    """Return the coarsest axis of a dataset's arrays, which nnU-Net's plans put first."""
    spacings = [read_header(Path(files["images"][0])).spacing for files in part.files.values()]
    return int(np.argmax(np.median(spacings, axis=0)))


def _slices_first(volume: Volume, axis: int) -> Volume:
    order = [axis, *(other for other in range(3) if other != axis)]
    columns = [2 - other for other in order[::-1]]  # of x, y and z, which are the last, middle and first axis
    array = np.ascontiguousarray(volume.array.transpose(order))
    return replace(volume, array=array, spacing=SPACING, direction=volume.direction[:, columns])


def _write_label(source: Path, goal: Path, numbers: Mapping[int, int], axis: int, moved: bool) -> None:
    """Link a label, or write it with other numbers or on the grid of its picture.

    Raises:
        UserError: it cannot be read or written, or has a value that dataset.json does not declare.
    """
    if not moved and all(value == number for value, number in numbers.items()):
        _link(source, goal)
        return
    volume = read_volume(source)
    labels = label_map(volume.array, source)
    strange = sorted(set(np.unique(labels).tolist()) - set(numbers))
    if strange:
        raise UserError(
            f"{source} has the label {strange[0]}, which its dataset.json does not declare: correct one of them."
        )
    table = np.zeros(max(numbers) + 1, dtype=np.uint8 if max(numbers.values()) < 256 else np.uint16)
    table[list(numbers)] = list(numbers.values())
    changed = replace(volume, array=table[labels])
    write_volume(goal, _slices_first(changed, axis) if moved else changed)


def _link(source: Path, goal: Path) -> None:
    """Link a file, or copy it where the disk has no links."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    goal.unlink(missing_ok=True)
    try:
        os.symlink(source.resolve(), goal)
    except OSError:
        copy_file(source, goal)
