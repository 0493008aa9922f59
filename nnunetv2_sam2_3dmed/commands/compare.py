"""Compare trained models on nnU-Net's own folds: Dice, IoU, HD95 and NSD per class, and paired tests.

    sam2_3dmed compare -d 9 -f 0
    sam2_3dmed compare -d 9 -m nnUNetTrainer__nnUNetPlans__3d_fullres SAM2_3dMedTrainer__nnUNetPlans__3d
    sam2_3dmed compare -d 9 -m ours=predictions/ours theirs=predictions/theirs --gt labelsTs

Only cases that every method has are compared. The paired tests are against --reference, by default the first method of
-m, or without -m nnU-Net's 3d_fullres if it was validated. With several folds, or NAME=FOLDER several times with the
same NAME, cases are pooled and the spread over folds is stated.

Predictions of nnU-Net's own validation, and others on the grid of their image in nnUNet_raw, are compared voxel by
voxel, with a warning where the header puts the ground truth elsewhere. Other predictions must lie within a voxel of
the ground truth. A case that cannot be read is not left out: all such cases are named, and no table is written.

The table is printed; comparison.md, .json and .tex (for booktabs), per_case.csv and summary.csv go to the output
folder. Comparing the same files again into the same folder takes their scores from its folder .cache.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_sam2_3dmed.commands.options import add_dataset, add_folds
from nnunetv2_sam2_3dmed.errors import UserError

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.evaluation.comparison import Comparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    add_folds(parser, "folds, pooled")
    parser.add_argument(
        "-m",
        dest="methods",
        nargs="+",
        metavar="METHOD",
        help="results folders TRAINER__PLANS__CONFIG of this dataset, or NAME=FOLDER for any folder of "
        "predictions (default: every results folder in which all these folds were validated)",
    )
    parser.add_argument(
        "--gt",
        type=Path,
        metavar="FOLDER",
        help="folder of the ground truth (default: gt_segmentations of the preprocessed dataset)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="MM",
        help="tolerance of NSD in mm (default: that of the Medical Segmentation Decathlon where the dataset has the "
        "name of one of its tasks, such as 3 for Dataset009_Spleen; otherwise 2)",
    )
    parser.add_argument(
        "-o",
        dest="output",
        type=Path,
        metavar="FOLDER",
        help="output folder (default: comparison_fold_FOLD in the dataset's folder in nnUNet_results)",
    )
    parser.add_argument(
        "--reference",
        metavar="METHOD",
        help="reference of the paired tests (default: the first of -m; without -m, nnU-Net's 3d_fullres if it was "
        "validated)",
    )
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
        UserError: if a folder is missing, or a name is given twice other than by several NAME=FOLDER.
    """
    from nnunetv2_sam2_3dmed.nnunet.folders import (
        nnunet_folder,
        validated_results_folders,
        validation_folders,
    )

    twice = [fold for fold in folds if folds.count(fold) > 1]
    if twice:
        raise UserError(f"fold {twice[0]} was given twice, expected each once.")
    if methods is None:
        return {f.name: validation_folders(f, folds) for f in validated_results_folders(dataset, folds)}
    found: dict[str, list[Path]] = {}
    results_folders = [method for method in methods if "=" not in method]
    for method in methods:
        name, is_folder, folder = method.partition("=")
        if not name or (is_folder and not folder):
            raise UserError(f"the method is {method!r}, expected TRAINER__PLANS__CONFIG or NAME=FOLDER.")
        if name in found and name in results_folders:
            raise UserError(f"method {name} was given twice, expected different names: use NAME=FOLDER to rename one.")
        if is_folder:
            found.setdefault(name, []).append(Path(folder))
        else:
            found[name] = validation_folders(nnunet_folder("nnUNet_results") / dataset / method, folds)
    return found


def compared(args: argparse.Namespace) -> tuple[Comparison, Path]:
    """Run the comparison that the arguments describe; return it with the folder it was written to."""
    # nnU-Net imports torch, which `sam2_3dmed compare --help` need not wait for
    from nnunetv2_sam2_3dmed.evaluation.compare import compare
    from nnunetv2_sam2_3dmed.nnunet.folders import dataset_name, gt_folder, load_dataset_json, nnunet_folder

    dataset = dataset_name(args.dataset)
    dataset_json = load_dataset_json(dataset)
    output = args.output
    if output is None:
        output = nnunet_folder("nnUNet_results") / dataset / f"comparison_fold_{'_'.join(args.folds)}"
    comparison = compare(
        prediction_folders(dataset, args.methods, args.folds),
        args.gt or gt_folder(dataset),
        dataset_json,
        output,
        tolerance_mm=args.tolerance,
        processes=args.processes,
        dataset_name=dataset,
        reference=args.reference,
        published=args.published,
    )
    return comparison, output


def run(args: argparse.Namespace) -> None:
    from nnunetv2_sam2_3dmed.evaluation.comparison_files import comparison_markdown

    comparison, output = compared(args)
    print(comparison_markdown(comparison))
    print(f"written to {output}", file=sys.stderr)
