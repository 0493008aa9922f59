"""Prompts on videos with ground truth: a box or a mask on the first frame with an object, propagated forward.

The protocol is ours, after MedSAM2's annotation of videos; the prompts of its published scores are not stated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError, in_one_sentence
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.prompt_evaluation.experiment_file import FIRST_BOX, FIRST_MASK
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import bounding_box
from nnunetv2_sam2_3dmed.video.cases import VideoCase
from nnunetv2_sam2_3dmed.video.png_masks import write_png_masks
from nnunetv2_sam2_3dmed.video.scores import FrameScore, ObjectScores, score_frame
from nnunetv2_sam2_3dmed.video.session import VideoSession

TITLES = {
    FIRST_BOX: "ground truth box of the first frame with the object, propagated forward",
    FIRST_MASK: "ground truth mask of the first frame with the object, propagated forward",
}


class VideoResult(NamedTuple):
    """Scores of an object of a video under a protocol.

    Attributes:
        protocol: one of :data:`VIDEO_PROTOCOLS`.
        video: name of the case.
        class_name: of the object.
        scores: over its frames.
        rejected: SAM 2 saw no object in the prompt, so that all its masks are empty.
    """

    protocol: str
    video: str
    class_name: str
    scores: ObjectScores
    rejected: bool


@dataclass
class MeasuredVideos:
    """Measurements so far.

    Attributes:
        results: one per protocol, video and object.
        absent: classes that are on no frame with ground truth, by video.
        failed: reasons of videos that were left out.
        seconds_per_frame: of all objects together, by protocol and video; encoding, prompts and propagation.
    """

    results: list[VideoResult] = field(default_factory=list)
    absent: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds_per_frame: dict[tuple[str, str], float] = field(default_factory=dict)


def run_benchmark(
    session: VideoSession,
    cases: Sequence[VideoCase],
    classes: Mapping[str, tuple[int, ...]],
    protocols: Sequence[str],
    folder: Path,
    ignore: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
    keep: Callable[[MeasuredVideos], None] = lambda measured: None,
) -> MeasuredVideos:
    """Prompt all objects of all videos, and score each alone, whatever other objects were found in its pixels.

    Args:
        session: with the model.
        cases: the videos.
        classes: label values of each class or region.
        protocols: of :data:`VIDEO_PROTOCOLS`.
        folder: masks go to ``folder/PROTOCOL/NAME``, indexed by the number of the class from 1.
        ignore: label value of pixels without ground truth, which count neither in an object nor in a mask.
        progress: called with a line per video.
        keep: called with all measurements after each video.

    Raises:
        UserError: no video can be measured.
    """
    measured = MeasuredVideos()
    for number, case in enumerate(cases, start=1):
        progress(f"{number}/{len(cases)} {case.name}")
        results: list[VideoResult] = []
        try:
            video = case.open()
            truth = GroundTruth(case, classes, video.shape[1:], ignore)
            for protocol in protocols:
                session.set_video(video)
                found, seconds = _run(session, truth, protocol)
                measured.seconds_per_frame[protocol, case.name] = seconds / len(video)
                results += found
                write_png_masks(folder / protocol / case.name, session.label_frames())
        except Exception as error:
            measured.failed[case.name] = in_one_sentence(error)
            progress(f"{number}/{len(cases)} {case.name}: left out, {measured.failed[case.name]}")
            continue
        finally:
            case.close()
        measured.results += results
        absent = [name for name in classes if name not in truth.first]
        if absent:
            measured.absent[case.name] = absent
        keep(measured)
    if not measured.results:
        reasons = [*measured.failed.values(), "no object of the dataset's classes is in them"]
        raise UserError(f"no video can be measured: {reasons[0]}")
    return measured


class GroundTruth:
    """Ground truth of a video, read frame by frame.

    Args:
        case: which is open.
        classes: label values of each class or region.
        shape: rows and columns.
        ignore: label value of pixels without ground truth.

    Attributes:
        frames: those with ground truth in any pixel.
        first: the first frame of each class that the video has.
    """

    def __init__(
        self, case: VideoCase, classes: Mapping[str, tuple[int, ...]], shape: tuple[int, int], ignore: int | None
    ):
        self.case = case
        self.classes = classes
        self.shape = shape
        self.ignore = ignore
        self.frames = [frame for frame in case.annotated() if self.known(frame).any()]
        self.first: dict[str, int] = {}
        for frame in self.frames:
            labels = case.labels(frame, shape)
            for name, values in classes.items():
                if name not in self.first and np.isin(labels, values).any():
                    self.first[name] = frame
            if len(self.first) == len(classes):
                break

    def known(self, frame: int) -> np.ndarray:
        """Pixels with ground truth, bool (rows, columns)."""
        if self.ignore is None:
            return np.ones(self.shape, dtype=bool)
        return self.case.labels(frame, self.shape) != self.ignore

    def mask(self, frame: int, name: str) -> np.ndarray:
        """Mask of a class on a frame with ground truth, bool (rows, columns)."""
        return np.isin(self.case.labels(frame, self.shape), self.classes[name])


def _run(session: VideoSession, truth: GroundTruth, protocol: str) -> tuple[list[VideoResult], float]:
    """Prompt and propagate all objects of the session's video, and score them.

    Returns:
        The results, and the seconds of prompts and propagation.
    """
    numbers = {name: number for number, name in enumerate(truth.classes, start=1) if name in truth.first}
    prompts = {name: truth.mask(truth.first[name], name) for name in numbers}
    rejected = set()
    start = time.perf_counter()
    for name, number in numbers.items():
        frame = truth.first[name]
        try:
            _prompt(session, protocol, number, frame, prompts[name])
            session.predict_slice(number, 0, frame)
        except PromptError:
            rejected.add(name)
    taken = [number for name, number in numbers.items() if name not in rejected]
    if taken:
        session.propagate(taken, direction="forward")
    seconds = time.perf_counter() - start
    scored: dict[str, list[FrameScore]] = {name: [] for name in numbers}
    for frame in truth.frames:
        known = truth.known(frame)
        for name, number in numbers.items():
            if frame < truth.first[name]:  # nothing is propagated to it, and it has neither object nor mask
                continue
            gt = truth.mask(frame, name)
            found = np.zeros_like(gt) if name in rejected else session.frame_mask(frame, number)
            scored[name].append(score_frame(frame, gt, found & known))
    length = len(session.image)
    results = [
        VideoResult(
            protocol, truth.case.name, name, ObjectScores(scored[name], (truth.first[name],), length), name in rejected
        )
        for name in numbers
    ]
    return results, seconds


def _prompt(session: VideoSession, protocol: str, number: int, frame: int, mask: np.ndarray) -> None:
    if protocol == FIRST_MASK:
        session.add_mask(mask, frame, number)
    else:
        top, left, bottom, right = bounding_box(mask)
        session.add_box((frame, top, left), (frame, bottom, right), number)
