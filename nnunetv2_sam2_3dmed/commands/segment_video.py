"""The part of ``sam2_3dmed segment`` that is for videos."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator

import numpy as np

from nnunetv2_sam2_3dmed.commands.segment import ProgressLine, preview_file
from nnunetv2_sam2_3dmed.errors import UserError, in_one_sentence
from nnunetv2_sam2_3dmed.interactive.extents import propagate_within
from nnunetv2_sam2_3dmed.interactive.prompt_lines import Case
from nnunetv2_sam2_3dmed.video import Video, VideoSession, open_video
from nnunetv2_sam2_3dmed.video.preview import write_preview
from nnunetv2_sam2_3dmed.video.prompt_lines import add_prompt, check_prompt
from nnunetv2_sam2_3dmed.video.writing import write_masks


def open_case(case: Case, args: argparse.Namespace) -> Video:
    """Check what is known of a case without the model, and open its video.

    Raises:
        UserError: an option is not for videos, a prompt is invalid, or the video cannot be opened.
    """
    if args.window != ["auto"]:
        raise UserError(
            f"--window is {' '.join(args.window)}, but frames of a video are shown as they are: leave it out."
        )
    for prompt in case.prompts:
        check_prompt(prompt)
    return open_video(case.image)


def segment_video(session: VideoSession, case: Case, video: Video, args: argparse.Namespace) -> None:
    """Segment a video, and write its masks and a picture of some frames.

    Raises:
        UserError: a prompt is invalid for this video, or the masks cannot be written.
    """
    start = time.perf_counter()
    session.set_video(video)
    rate = "no stated rate" if video.times is None else f"{video.rate:.4g} frames per second"
    print(f"{video.name}: {len(video)} frames of {video.shape[1]} x {video.shape[2]} pixels, {rate}")
    for note in video.notes:
        print(f"warning: {video.name}: {note}", file=sys.stderr)
    for prompt in case.prompts:
        add_prompt(prompt, session)
    progress = ProgressLine()
    try:
        slices = (args.slices[0], args.slices[1]) if args.slices else None
        propagate_within(session, case.extents, slices, progress.show)
    finally:
        progress.end()
    assert case.output is not None
    areas = np.zeros(len(video), dtype=int)
    write_masks(case.output, video, _counted(session.label_frames(), areas), session.object_ids)
    print(
        f"wrote {case.output}: {len(session.object_ids)} objects, on {np.count_nonzero(areas)} of {len(video)} frames, "
        f"{time.perf_counter() - start:.1f} s"
    )
    if not args.no_preview:
        try:
            write_preview(preview_file(case.output), session, areas)
        except Exception as error:
            raise UserError(f"the masks were written, but not their picture: {in_one_sentence(error)}") from error


def _counted(labels: Iterable[np.ndarray], areas: np.ndarray) -> Iterator[np.ndarray]:
    """Pass label maps on, and note the pixels of objects on each frame in ``areas``."""
    for index, mask in enumerate(labels):
        areas[index] = np.count_nonzero(mask)
        yield mask
