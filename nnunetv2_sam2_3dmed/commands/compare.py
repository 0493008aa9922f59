"""Compare trained models on nnU-Net's own folds: Dice, IoU, HD95 and NSD per class, and paired tests.

    sam2_3dmed compare -d 9 -f 0
    sam2_3dmed compare -d 9 -m nnUNetTrainer__nnUNetPlans__3d_fullres SAM2_3dMedTrainer__nnUNetPlans__3d
    sam2_3dmed compare -d 9 -m ours=predictions/ours theirs=predictions/theirs --truth labelsTs

Only cases that every method has are compared. The paired tests are against the first method, or --reference. The
table is printed; per_case.csv, comparison.json and comparison.md go to the output folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", "--dataset", required=True, metavar="DATASET", help="dataset number or name")
    parser.add_argument("-f", "--folds", nargs="+", default=["0"], metavar="FOLD", help="folds, pooled (default: 0)")
    parser.add_argument(
        "-m",
        "--methods",
        nargs="+",
        metavar="METHOD",
        help="results folders TRAINER__PLANS__CONFIG of this dataset, or NAME=FOLDER for any folder of "
        "predictions (default: every results folder in which all these folds were validated)",
    )
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="FOLDER",
        help="true segmentations (default: gt_segmentations of the preprocessed dataset)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=2.0,
        metavar="MM",
        help="tolerance of NSD in mm (default: %(default)s)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="output folder (default: comparison_fold_FOLD in the dataset's folder in nnUNet_results)",
    )
    parser.add_argument("--reference", metavar="METHOD", help="what the paired tests are against (default: the first)")
    parser.add_argument(
        "--published",
        nargs="?",
        const="ConvolutionalEncoder",
        choices=("ConvolutionalEncoder", "ResidualEncoderM", "ResidualEncoderL"),
        help="pair with nnU-Net's published Dice of the same cases (MSD hippocampus, lung, pancreas, spleen): its "
        "default network unless a ResEnc preset is named",
    )
    parser.add_argument("--processes", type=int, metavar="N", help="worker processes (default: CPUs, at most 8)")


def prediction_folders(dataset: str, methods: Sequence[str] | None, folds: Sequence[str]) -> dict[str, list[Path]]:
    """The folders of each method's predictions, by its name.

    Args:
        dataset: the dataset's full name.
        methods: the values of ``-m``; None for every results folder in which all ``folds`` were validated.
        folds: fold numbers, or ``all``.

    Raises:
        UserError: if a folder is missing or a name is given twice.
    """
    from nnunetv2_sam2_3dmed.nnunet_folders import (
        nnunet_folder,
        validated_results_folders,
        validation_folders,
    )

    if methods is None:
        return {f.name: validation_folders(f, folds) for f in validated_results_folders(dataset, folds)}
    found: dict[str, list[Path]] = {}
    for method in methods:
        name, is_folder, folder = method.partition("=")
        if name in found:
            raise UserError(f"method {name} was given twice, expected different names: use NAME=FOLDER to rename one.")
        if is_folder:
            found[name] = [Path(folder)]
        else:
            found[name] = validation_folders(nnunet_folder("nnUNet_results") / dataset / method, folds)
    return found


def run(args: argparse.Namespace) -> None:
    # nnU-Net imports torch, which `sam2_3dmed compare --help` need not wait for
    from nnunetv2_sam2_3dmed.evaluation.compare import compare
    from nnunetv2_sam2_3dmed.evaluation.tables import as_markdown
    from nnunetv2_sam2_3dmed.nnunet_folders import (
        dataset_name,
        load_dataset_json,
        nnunet_folder,
        truth_folder,
    )

    dataset = dataset_name(args.dataset)
    dataset_json = load_dataset_json(dataset)
    methods = prediction_folders(dataset, args.methods, args.folds)
    output = args.output
    if output is None:
        output = nnunet_folder("nnUNet_results") / dataset / f"comparison_fold_{'_'.join(args.folds)}"
    comparison = compare(
        methods,
        args.truth or truth_folder(dataset),
        dataset_json,
        output,
        tolerance_mm=args.tolerance,
        processes=args.processes,
        dataset_name=dataset,
        reference=args.reference,
        published=args.published,
    )
    print(as_markdown(comparison))
    print(f"written to {output}", file=sys.stderr)
