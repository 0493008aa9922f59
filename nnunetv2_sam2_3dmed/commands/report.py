"""Compare trained models as `sam2_3dmed compare` does, and write the result as one HTML file for people to read.

    sam2_3dmed report -d 9 -f 0
    sam2_3dmed report -d 9 -f 0 1 2 3 4 --measure

report.html goes to the output folder, beside the files of `compare`: tables, plots per case, overlays and surfaces of
the best, median and worst cases, training curves and costs. It needs nothing but a browser. It holds slices of images:
--no-images leaves them out.
"""

from __future__ import annotations

import argparse
import sys

from nnunetv2_sam2_3dmed.commands import compare as compare_command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    compare_command.add_arguments(parser)
    parser.add_argument(
        "--measure",
        action="store_true",
        help="predict one case (the reference's median case) with every model that has a checkpoint and show the time "
        "and memory it took; kept in cost.json of the output folder",
    )
    parser.add_argument(
        "--no-images", action="store_true", help="leave out overlays and surfaces, which show patients' anatomy"
    )


def run(args: argparse.Namespace) -> None:
    from nnunetv2_sam2_3dmed.report.page import build_report

    comparison, output = compare_command.compared(args)
    for warning in comparison.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    file = build_report(
        comparison,
        output,
        folds=args.folds,
        reference=args.reference,
        measure=args.measure,
        images=not args.no_images,
        say=lambda sentence: print(sentence, file=sys.stderr),
    )
    print(file)
