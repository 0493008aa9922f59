"""The part of ``sam2_3dmed prompt-benchmark`` that is for videos."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.software import software_and_machine
from nnunetv2_sam2_3dmed.interactive.model import model_file
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from nnunetv2_sam2_3dmed.prompt_evaluation.experiment_file import VIDEO_PROTOCOLS
from nnunetv2_sam2_3dmed.video import VideoSession
from nnunetv2_sam2_3dmed.video.benchmark import MeasuredVideos, run_benchmark
from nnunetv2_sam2_3dmed.video.benchmark_results import write_results
from nnunetv2_sam2_3dmed.video.cases import labels_of, video_cases


def run_videos(args: argparse.Namespace) -> None:
    """Run the benchmark on ``args.videos``.

    Raises:
        UserError: the folder has no videos with masks, the output has files, or a video was left out.
    """
    folder, output = args.videos, args.output
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give one with videos and masks.")
    if output.is_dir() and any(output.iterdir()):
        raise UserError(f"the output {output} has files of another run: give the name of a new or empty folder.")
    cases = video_cases(folder)
    if args.cases:
        known = {case.name for case in cases}
        unknown = sorted(set(args.cases) - known)
        if unknown:
            raise UserError(f"{unknown[0]} is none of the {len(known)} videos in {folder}: give others.")
        cases = [case for case in cases if case.name in args.cases]
    classes, ignore = labels_of(folder, cases)
    protocols = list(dict.fromkeys(args.protocols or VIDEO_PROTOCOLS))
    file = model_file(args.model)
    session = VideoSession(args.model, args.device, args.precision, args.image_size)
    used: dict[str, Any] = {
        "dataset": folder.resolve().name,
        "videos": [case.name for case in cases],
        "classes": {name: list(values) for name, values in classes.items()},
        "ignore_label": ignore,
        "protocols": protocols,
        "model": args.model,
        "model_sha256": sha256_of(file),
        "image_size": session.image_size,
        "device": str(session.device),
        "precision": args.precision,
        "software_and_machine": software_and_machine(),
    }

    def keep(measured: MeasuredVideos) -> None:
        write_results(output, measured, list(classes), used)

    measured = run_benchmark(
        session, cases, classes, protocols, output, ignore, lambda line: print(line, file=sys.stderr), keep
    )
    print(write_results(output, measured, list(classes), used))
    print(f"written to {output}", file=sys.stderr)
    if measured.failed:
        raise UserError(
            f"{len(measured.failed)} of {len(cases)} videos were left out, for the reasons above: "
            f"{', '.join(measured.failed)}."
        )
