"""Train nnU-Net and SAM2-3dMed on one small task and compare them, all in one folder.

Without --data the task is made up: synthetic CT volumes of random shapes, so nothing is downloaded. With --data it is a
task of the Medical Segmentation Decathlon. Every command is printed as you would type it. The last one is an experiment
(see `sam2_3dmed experiment -h`) that trains both methods on fold 0 for the same time and writes a report on the cases
that the fold holds out. Started again with the same options, the demo skips what is done and continues a training that
was interrupted. Each method trains for two minutes by default.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import check_writable_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        dest="output",
        type=Path,
        default=Path("demo_output"),
        help="folder for everything the demo makes (default: ./demo_output)",
    )
    parser.add_argument("--data", type=Path, help="task folder in MSD's layout, Task09_Spleen (default: synthetic CT)")
    parser.add_argument("--minutes", type=int, default=2, help="minutes of training per method (default: %(default)s)")
    parser.add_argument(
        "-device", choices=("cpu", "cuda"), help="where to train and predict (default: cuda if there is one)"
    )
    parser.add_argument("--cases", type=int, help="at most so many cases (default: 24 synthetic, or all)")


def run(args: argparse.Namespace) -> None:
    if args.minutes < 1:
        raise UserError(f"--minutes {args.minutes}: expected 1 or more, such as 2.")
    check_writable_folder(args.output)

    import torch

    from nnunetv2_sam2_3dmed.experiments.demo import DemoOptions, run_demo

    options = DemoOptions(
        output=args.output.absolute(),
        data=None if args.data is None else args.data.absolute(),
        minutes=args.minutes,
        device=args.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        cases=args.cases,
    )
    try:
        complete = run_demo(options)
    except KeyboardInterrupt:
        raise UserError("interrupted; the same command continues where it stopped.") from None
    if not complete:
        sys.exit(1)
