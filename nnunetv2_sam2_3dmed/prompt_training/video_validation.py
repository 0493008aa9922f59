"""Final validation of a promptable model on videos: a box on the first frame of each object, propagated forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nnunetv2_sam2_3dmed.images.label_maps import label_map
from nnunetv2_sam2_3dmed.images.volumes import read_volume
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import RawCase
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import bounding_box
from nnunetv2_sam2_3dmed.video.sequences import StoredFrames
from nnunetv2_sam2_3dmed.video.session import VideoSession
from nnunetv2_sam2_3dmed.video.video import Video


def raw_video(case: RawCase, channels: int) -> Video:
    """Open a video from the raw files of its channels.

    Args:
        case: with the file of the first channel.
        channels: one or three.

    Raises:
        UserError: a file cannot be read.
    """
    ending = case.image.name.removeprefix(f"{case.name}_0000")
    files = [case.image.with_name(f"{case.name}_{channel:04d}{ending}") for channel in range(channels)]
    arrays = [read_volume(file).array for file in files]
    array = arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=-1)
    frames, rows, columns = array.shape[:3]
    # written by the conversion: whole numbers from 0 to 255, shown as they are
    return Video(case.name, case.image, (frames, rows, columns), StoredFrames(array.astype(np.uint8)))


def segment_from_boxes(
    session: VideoSession,
    case: RawCase,
    channels: int,
    classes: Mapping[str, tuple[int, ...]],
    values: Sequence[int],
    report: Callable[[str], None],
) -> np.ndarray:
    """Segment a video from the ground truth box on the first frame of each object.

    Args:
        session: with the model.
        case: the files.
        channels: of its frames, one or three.
        classes: label values of each class or region.
        values: value written for each; later ones overwrite earlier ones.
        report: called with a sentence on an object that was not seen in its box.

    Returns:
        Label map (frames, rows, columns), uint8.

    Raises:
        UserError: a file cannot be read.
    """
    gt = label_map(read_volume(case.label).array, case.label)
    session.set_video(raw_video(case, channels))
    prompted = []
    for number, (name, own) in enumerate(classes.items(), start=1):
        frames = np.flatnonzero(np.isin(gt, own).any(axis=(1, 2)))
        if not len(frames):
            continue
        frame = int(frames[0])
        top, left, bottom, right = bounding_box(np.isin(gt[frame], own))
        try:
            session.add_box((frame, top, left), (frame, bottom, right), number)
            session.predict_slice(number, 0, frame)
        except PromptError:  # the session took the box back
            report(f"{case.name}: {name} was not seen in its box")
            continue
        prompted.append(number)
    if prompted:
        session.propagate(prompted, direction="forward")
    found = np.zeros(gt.shape, dtype=np.uint8)
    overlap = any(len(own) > 1 for own in classes.values())
    for frame in range(len(found)):
        if not overlap:  # the more confident one where two objects overlap
            objects = session.frame_labels(frame)
            for number in prompted:
                found[frame][objects == number] = values[number - 1]
            continue
        for number in prompted:
            found[frame][session.frame_mask(frame, number)] = values[number - 1]
    return found
