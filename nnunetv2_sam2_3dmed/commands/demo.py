"""Train nnU-Net and SAM2-3dMed on one small task and compare them, all in one folder.

Without --data the task is made up: synthetic CT volumes of random shapes, so nothing is downloaded. With
--data it is a task of the Medical Segmentation Decathlon, of which some training cases are held out.
Every step prints the stock command that it runs. Started again with the same options, the demo skips what
is done and continues a training that was interrupted. With the default two minutes of training per
method, it takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunetv2_sam2_3dmed.files import check_writable_folder

# minutes that both methods have a trainer for
MINUTES = (2, 8, 45)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        dest="output",
        type=Path,
        default=Path("demo_output"),
        help="folder for everything the demo makes (default: ./demo_output)",
    )
    parser.add_argument("--data", type=Path, help="task folder in MSD's layout, Task09_Spleen (default: synthetic CT)")
    parser.add_argument(
        "--minutes",
        type=int,
        choices=MINUTES,
        default=2,
        help="minutes of training per method (default: %(default)s)",
    )
    parser.add_argument(
        "-device", choices=("cpu", "cuda"), help="where to train and predict (default: cuda if there is one)"
    )
    parser.add_argument("--cases", type=int, help="at most so many training cases (default: 24 synthetic, or all)")
    parser.add_argument(
        "--held-out", type=int, default=4, help="cases to compare on, never trained on (default: %(default)s)"
    )
    parser.add_argument("--restart", action="store_true", help="run steps again that are done")


def run(args: argparse.Namespace) -> None:
    check_writable_folder(args.output)

    import torch

    from nnunetv2_sam2_3dmed.demo.run import DemoOptions, run_demo

    run_demo(
        DemoOptions(
            output=args.output,
            data=args.data,
            minutes=args.minutes,
            device=args.device or ("cuda" if torch.cuda.is_available() else "cpu"),
            cases=args.cases,
            held_out=args.held_out,
            restart=args.restart,
        )
    )
