"""Videos with ground truth as a dataset in nnU-Net's raw format: a case per video, whose slices are the frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError, in_one_sentence
from nnunetv2_sam2_3dmed.files import read_json
from nnunetv2_sam2_3dmed.images.volumes import volume_from_array, write_volume
from nnunetv2_sam2_3dmed.nnunet.dataset_labels import (
    BACKGROUND,
    IGNORE,
    ORDER,
    check_declared_labels,
    check_labels,
    expected_values,
)
from nnunetv2_sam2_3dmed.nnunet.folders import begin_dataset, check_new_dataset, finish_dataset
from nnunetv2_sam2_3dmed.nnunet.sources import CHANNEL, ENDING, KEY, READER, SPACING, Sources
from nnunetv2_sam2_3dmed.video.cases import VideoCase, labels_of, video_cases
from nnunetv2_sam2_3dmed.video.video import Video

LOOKED_AT = 16  # frames of a video that tell grey from colour
COLOURFUL, FEW = 16, 1e-3  # difference of channels, and share of pixels, which codecs of grey videos do not reach


@dataclass(frozen=True)
class Checked:
    """A video that can be converted.

    Attributes:
        case: identifier in nnU-Net.
        files: the video and its ground truth.
        shape: frames, rows, columns.
        annotated: number of frames with ground truth.
        colour: its frames are in colour.
    """

    case: str
    files: VideoCase
    shape: tuple[int, int, int]
    annotated: int
    colour: bool


@dataclass(frozen=True)
class Labels:
    """Labels of the dataset.

    Attributes:
        declared: ``labels`` of dataset.json, with numbers as nnU-Net needs them.
        order: ``regions_class_order``, or None.
        numbers: from the values of the masks to these numbers.
        ignore: number of pixels without ground truth, or None.
    """

    declared: dict[str, int | list[int]]
    order: list[int] | None
    numbers: Mapping[int, int]
    ignore: int | None


def convert_videos(
    folder: Path, target: Path, progress: Callable[[str], None] = lambda line: None, colour: bool = False
) -> dict[str, Any]:
    """Convert a folder of videos with masks.

    Videos are looked at first, then written one by one, so that memory holds one of them, decoded. Pixels are those
    that sessions show. A case whose label exists is not written again; ``dataset.json`` comes last.

    Args:
        folder: see :func:`~nnunetv2_sam2_3dmed.video.cases.video_cases`; a ``dataset.json`` in it names the labels.
        target: the dataset's folder in nnUNet_raw, such as ``Dataset020_Echo``.
        progress: called with a line per video.
        colour: write three channels also if no video is seen to be in colour.

    Returns:
        The content of dataset.json.

    Raises:
        UserError: the dataset exists, there are no videos, or one of them or its masks cannot be used. Cases that were
            written stay, and the same call goes on with the others.
    """
    files = video_cases(folder)
    check_new_dataset(target, ENDING, case_names(files))
    stated = _stated(folder)
    checked = _checked(files, progress)
    labels = _labels(stated, folder, files, partly=any(one.annotated < one.shape[0] for one in checked))
    colour = colour or any(one.colour for one in checked)
    content = {
        "channel_names": {str(channel): CHANNEL for channel in range(3 if colour else 1)},
        "labels": labels.declared,
        **({} if labels.order is None else {ORDER: labels.order}),
        "numTraining": len(checked),
        "file_ending": ENDING,
        "overwrite_image_reader_writer": READER,
        KEY: Sources(videos=True, pictures=True).noted(),
    }
    check_labels(target.name, content)
    begin_dataset(target, content)
    problems = []
    for number, one in enumerate(checked, start=1):
        progress(f"{number}/{len(checked)} {one.case}: {one.shape[0]} frames of {one.shape[1]} x {one.shape[2]}")
        try:
            _write_case(one, labels, colour, target)
        except UserError as error:
            problems.append((one.case, error))
            progress(f"{number}/{len(checked)} {one.case}: left out, {in_one_sentence(error)}")
    _refuse(problems, len(checked), "when that is done, run the same command again, which goes on with these")
    finish_dataset(target, content)
    return content


def is_colour(video: Video) -> bool:
    """True if some of up to :data:`LOOKED_AT` frames have channels that differ, in more than a codec's few pixels."""
    for index in np.unique(np.linspace(0, len(video) - 1, LOOKED_AT).astype(int)).tolist():
        if _is_colourful(video.frame(index)):
            return True
    return False


def _is_colourful(frame: np.ndarray) -> bool:
    return bool((np.ptp(frame, axis=-1) > COLOURFUL).mean() > FEW)


def case_names(cases: Sequence[VideoCase]) -> list[str]:
    """Return identifiers for nnU-Net: signs other than letters, digits, ``.``, ``-`` and ``_`` become ``_``.

    Raises:
        UserError: two are then alike.
    """
    names: dict[str, VideoCase] = {}
    for case in cases:
        name = re.sub(r"[^A-Za-z0-9._-]", "_", case.name)
        other = names.setdefault(name, case)
        if other is not case:
            raise UserError(f"{other.video} and {case.video} would both be the case {name}: rename one of them.")
    return list(names)


def _checked(cases: Sequence[VideoCase], progress: Callable[[str], None]) -> list[Checked]:
    """Look at all videos before any is written.

    Raises:
        UserError: some cannot be used.
    """
    found, problems = [], []
    for number, (name, case) in enumerate(zip(case_names(cases), cases, strict=True), start=1):
        progress(f"looking at {number}/{len(cases)} {case.name}")
        try:
            video = case.open()
            annotated = case.annotated()
            if not annotated:
                raise UserError(f"{case.masks} has no masks: add some, or take the video away.")
            case.labels(annotated[0], video.shape[1:])
            found.append(Checked(name, case, video.shape, len(annotated), is_colour(video)))
        except UserError as error:
            problems.append((case.name, error))
        finally:
            case.close()
    _refuse(problems, len(cases), "nothing was written")
    return found


def _refuse(problems: Sequence[tuple[str, UserError]], count: int, then: str) -> None:
    if problems:
        names = ", ".join(name for name, _ in problems[:5]) + (", ..." if len(problems) > 5 else "")
        first = in_one_sentence(problems[0][1]).removesuffix(".")
        raise UserError(f"{len(problems)} of {count} videos cannot be converted ({names}): {first}; {then}.")


def _stated(folder: Path) -> dict[str, Any] | None:
    """Return the content of dataset.json beside the videos; None without one.

    Raises:
        UserError: it is damaged.
    """
    file = folder / "dataset.json"
    if not file.is_file():
        return None
    content: dict[str, Any] = read_json(file, "write it as nnU-Net's")
    check_declared_labels(str(file), content)
    return content


def _labels(stated: dict[str, Any] | None, folder: Path, cases: list[VideoCase], partly: bool) -> Labels:
    """Return the labels that are stated or, if none are, those of the masks, without gaps between their numbers.

    Args:
        stated: see :func:`_stated`.
        folder: with the videos.
        cases: the videos.
        partly: some frames have no ground truth.

    Raises:
        UserError: the masks have no label.
    """
    if stated is not None:
        declared, order = dict(stated["labels"]), stated.get(ORDER)
    else:
        classes, _ = labels_of(folder, cases)
        declared, order = {BACKGROUND: 0} | {name: value for name, (value,) in classes.items()}, None
    ignored = declared.pop(IGNORE, None)
    numbers = {value: number for number, value in enumerate(expected_values({"labels": declared}))}
    renumbered = {
        name: [numbers[v] for v in value] if isinstance(value, (list, tuple)) else numbers[value]
        for name, value in declared.items()
    }
    ignore = len(numbers) if partly or ignored is not None else None
    if ignore is not None:
        renumbered[IGNORE] = ignore
        if ignored is not None:
            numbers[ignored] = ignore
    return Labels(renumbered, None if order is None else [numbers[value] for value in order], numbers, ignore)


def _write_case(checked: Checked, labels: Labels, colour: bool, target: Path) -> None:
    """Write the channels of a video, then its label.

    Raises:
        UserError: a frame or a mask cannot be read, a frame is in colour where one channel is written, a mask has a
            value that is no label, or the disk is full.
    """
    file = target / "labelsTr" / f"{checked.case}{ENDING}"
    channels = [target / "imagesTr" / f"{checked.case}_{channel:04d}{ENDING}" for channel in range(3 if colour else 1)]
    if file.is_file() and all(channel.is_file() for channel in channels):
        return
    case = checked.files
    try:
        video = case.open()
        written = _label_map(case, video, labels)
        pixels = np.empty((len(channels), *video.shape), dtype=np.uint8)
        for index in range(len(video)):
            frame = video.frame(index)
            if not colour and _is_colourful(frame):
                raise UserError(
                    f"frame {index} of {case.video} is in colour, but those that were looked at are grey: add --colour."
                )
            # channels of a grey video can differ by what a codec lost
            pixels[:, index] = np.moveaxis(frame, -1, 0) if colour else np.rint(frame.mean(axis=-1))
    finally:
        case.close()
    for channel, own in zip(channels, pixels, strict=True):
        write_volume(channel, volume_from_array(own, SPACING, name=case.name))
    write_volume(file, volume_from_array(written, SPACING, name=case.name))


def _label_map(case: VideoCase, video: Video, labels: Labels) -> np.ndarray:
    """Return the numbers (frames, rows, columns) of a video that is open.

    Raises:
        UserError: a mask has a value that is no label.
    """
    found = np.full(video.shape, 0 if labels.ignore is None else labels.ignore, dtype=np.uint8)
    for frame in case.annotated():
        mask = case.labels(frame, video.shape[1:])
        values = np.unique(mask).tolist()
        strange = [value for value in values if value not in labels.numbers]
        if strange:
            raise UserError(
                f"the mask of frame {frame} in {case.masks} has the value {strange[0]}, but the labels are "
                f"{', '.join(map(str, labels.numbers))}: correct it, or declare it in dataset.json."
            )
        for value in values:
            found[frame][mask == value] = labels.numbers[value]
    return found
