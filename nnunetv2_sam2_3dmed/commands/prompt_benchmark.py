"""Prompt all objects of an nnU-Net dataset as a simulated user, and measure the masks.

    sam2_3dmed prompt-benchmark -d 9 -o OUT                                   # fold 0, MedSAM2's weights
    sam2_3dmed prompt-benchmark -d 9 -f all -o OUT --model sam2.1_hiera_large --image-size 1024
    sam2_3dmed prompt-benchmark -d 4 -o OUT \\
        --model .../SAM2_PromptTrainer__nnUNetPlans__3d_slices8/fold_0/checkpoint_final.pth --protocols box

Protocols: clicks (results are named N_clicks, N from --clicks: one click per round on the largest error of the middle
slice; after each round, the result of all clicks so far and one propagation), 1_mask (the ground truth mask of the
middle slice), box (the box around it) and boxes (a box on every slice, without propagation). If named with --protocols
also recist (both RECIST diameters on the slice of the longest one), recist_line (the longest one alone), 1_mask_within
and box_within (propagated no further than the first and the last slice with the object), box_corrected (box, then
three clicks, each on the largest error of the slice with most wrong voxels after a propagation; interactions.csv has
the Dice after each) and box_within_corrected (both of these). The middle slice is the middle one of the object's
slices.

OUT receives a folder of masks per protocol, per_case.csv, interactions.csv, prompt_benchmark.json and
prompt_benchmark.md, which lists published figures beside the results. Rows and masks are written after each case: the
same command continues an interrupted run. A failed case is left out and named in these files, and the exit status is 2.
To compare protocols with each other or with other models:

    sam2_3dmed compare -d 9 -m nnUNetTrainer__nnUNetPlans__3d_fullres box=OUT/box

Videos (first_box, first_mask: a box or the mask on an object's first frame, propagated forward; a protocol of ours
after MedSAM2's annotation of videos):

    sam2_3dmed prompt-benchmark --videos FOLDER -o OUT

FOLDER has videos/NAME with masks/NAME (indexed PNG per frame, or a label map), JPEGImages and Annotations as in DAVIS,
or NAME.nii.gz with NAME_gt.nii.gz as in CAMUS; dataset.json, as nnU-Net's, names classes and regions. OUT, a new
folder, receives masks, per_frame.csv, per_video.csv, prompt_benchmark.json and prompt_benchmark.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.commands.options import add_axis, add_dataset, add_folds, add_prompted_model, check_image_size
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import check_writable_folder
from nnunetv2_sam2_3dmed.prompt_evaluation.experiment_file import PROTOCOLS, VIDEO_PROTOCOLS

DEFAULTS = PROTOCOLS[:4]
_OF_DATASETS = {
    "-f": "folds",
    "--clicks": "clicks",
    "--channel": "channel",
    "--axis": "axis",
    "--tolerance": "tolerance",
    "--seed": "seed",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser, required=False)
    parser.add_argument("--videos", type=Path, metavar="FOLDER", help="videos with ground truth, instead of a dataset")
    add_folds(parser, "validation cases of these folds; all: every training case")
    parser.add_argument("--cases", nargs="+", metavar="CASE", help="prompt only these cases")
    parser.add_argument("-o", dest="output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--protocols",
        nargs="+",
        choices=(*PROTOCOLS, *VIDEO_PROTOCOLS),
        metavar="PROTOCOL",
        help=f"default: of a dataset {', '.join(DEFAULTS)}; of videos {' and '.join(VIDEO_PROTOCOLS)}",
    )
    parser.add_argument("--clicks", type=int, default=5, help="maximum number of clicks (default: %(default)s)")
    add_prompted_model(parser)
    parser.add_argument("--channel", type=int, default=0, help="image channel that is prompted (default: %(default)s)")
    add_axis(parser)
    parser.add_argument("--tolerance", type=float, metavar="MM", help="tolerance of NSD (default: as in compare)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    if args.clicks < 1:
        raise UserError(f"--clicks is {args.clicks}, but must be at least 1.")
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}, but must be 0 or more.")
    check_image_size(args.image_size)
    check_writable_folder(args.output)
    _check_protocols(args)
    if args.videos is not None:
        from nnunetv2_sam2_3dmed.commands.prompt_benchmark_videos import run_videos

        run_videos(args)
        return

    from nnunetv2_sam2_3dmed.evaluation.tolerance import nsd_tolerance
    from nnunetv2_sam2_3dmed.interactive import InteractiveSession
    from nnunetv2_sam2_3dmed.nnunet.folders import dataset_name, load_dataset_json, nnunet_folder
    from nnunetv2_sam2_3dmed.prompt_evaluation.dataset_run import DatasetRun, check_all_measured
    from nnunetv2_sam2_3dmed.prompt_evaluation.protocols import protocols
    from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import check_headers, raw_cases

    dataset = dataset_name(args.dataset)
    dataset_json = load_dataset_json(dataset)
    raw_folder = nnunet_folder("nnUNet_raw") / dataset
    names = _case_names(dataset, dataset_json, raw_folder, args.folds, args.cases)
    cases = raw_cases(raw_folder, dataset_json, names, args.channel)
    warnings = check_headers(cases)
    known = protocols(args.clicks)
    run = DatasetRun(
        dataset,
        dataset_json,
        cases,
        [
            known[f"{args.clicks}_clicks" if name == "clicks" else name]
            for name in dict.fromkeys(args.protocols or DEFAULTS)
        ],
        args.model,
        args.precision,
        nsd_tolerance(dataset, args.tolerance),
        args.folds,
        channel=args.channel,
        axis=args.axis,
        seed=args.seed,
    )
    session = InteractiveSession(args.model, args.device, args.precision, args.image_size)
    measured = run.measure(session, args.output, warnings, lambda line: print(line, file=sys.stderr))
    print((args.output / "prompt_benchmark.md").read_text(encoding="utf-8"), end="")
    print(f"written to {args.output}", file=sys.stderr)
    check_all_measured(measured, len(cases))


def _check_protocols(args: argparse.Namespace) -> None:
    """Check what is measured, and with which protocols.

    Raises:
        UserError: neither or both of a dataset and videos are given, or a protocol or an option is for the other one.
    """
    if (args.dataset is None) == (args.videos is None):
        raise UserError("say what to measure: a dataset with -d, or a folder of videos with --videos.")
    if args.videos is not None:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        for option, name in _OF_DATASETS.items():
            if getattr(args, name) != parser.get_default(name):
                raise UserError(f"{option} is for datasets: leave it out with --videos.")
    known = PROTOCOLS if args.videos is None else VIDEO_PROTOCOLS
    wrong = [name for name in args.protocols or () if name not in known]
    if wrong:
        what = "a dataset" if args.videos is None else "videos"
        raise UserError(f"the protocol is {wrong[0]}, but for {what} must be one of {', '.join(known)}.")


def _case_names(
    dataset: str, dataset_json: dict[str, Any], raw_folder: Path, folds: list[str], wanted: list[str] | None
) -> list[str]:
    """Return the sorted identifiers of the cases to prompt.

    Raises:
        UserError: a fold does not exist, or a case is in none of them.
    """
    from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder
    from nnunetv2_sam2_3dmed.nnunet.folds import FILE
    from nnunetv2_sam2_3dmed.prompt_evaluation.dataset_run import folds_of
    from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import training_files

    if "all" in folds:
        names = set(training_files(raw_folder, dataset_json))
    else:
        known = folds_of(dataset)
        if known is None:
            file = nnunet_folder("nnUNet_preprocessed") / dataset / FILE
            raise UserError(f"there is no {file}: train a model, which makes nnU-Net draw folds, or give `-f all`.")
        names = set()
        for fold in folds:
            if not fold.isdecimal() or int(fold) >= len(known):
                raise UserError(f"the fold is {fold!r}, but must be one from 0 to {len(known) - 1}, or all.")
            names |= set(known[int(fold)]["val"])
    unknown = sorted(set(wanted or ()) - names)
    if unknown:
        raise UserError(f"{unknown[0]} is none of the {len(names)} cases of fold {', '.join(folds)}: give others.")
    if not names:
        raise UserError(f"fold {', '.join(folds)} has no cases: give another.")
    return sorted(names if wanted is None else wanted)
