"""Prompt all objects of an nnU-Net dataset as simulated users, and measure what comes of it.

    sam2_3dmed prompt-benchmark -d 9 -o OUT                                   # fold 0, MedSAM2's weights
    sam2_3dmed prompt-benchmark -d 9 -f all -o OUT --model sam2.1_hiera_large --image-size 1024
    sam2_3dmed prompt-benchmark -d 4 -o OUT \\
        --model .../SAM2_PromptTrainer__nnUNetPlans__3d_slices8/fold_0/checkpoint_final.pth --protocols box

Protocols: N_clicks (one click a round on the largest error of the middle slice; after each round, what comes of all
clicks so far and one propagation), 1_mask (the true mask of the middle slice), box (the box around it) and boxes (a box
on every slice, nothing carried). The middle slice is the middle one of those that the object is on.

OUT gets a folder of masks per protocol, per_case.csv, interactions.csv, prompt_benchmark.json and prompt_benchmark.md,
which sets published figures beside the results. Rows and masks are written after each case: the same command goes on
where it was ended. A case that fails is left out and named in these files, and the exit status is 2. To compare
protocols with each other or with other models:

    sam2_3dmed compare -d 9 -m nnUNetTrainer__nnUNetPlans__3d_fullres box=OUT/box
"""

from __future__ import annotations

import argparse
import os
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.commands.options import add_axis, add_dataset, add_folds, add_prompted_model, check_image_size
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import check_writable_folder

NAMES = ("clicks", "1_mask", "box", "boxes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    add_folds(parser, "validation cases of these folds; all: every training case")
    parser.add_argument("--cases", nargs="+", metavar="CASE", help="only these")
    parser.add_argument("-o", dest="output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--protocols", nargs="+", choices=NAMES, default=list(NAMES), help="default: all of %(choices)s"
    )
    parser.add_argument("--clicks", type=int, default=5, help="rounds of clicks at most (default: %(default)s)")
    add_prompted_model(parser)
    parser.add_argument(
        "--channel", type=int, default=0, help="of images with several, which is shown (default: %(default)s)"
    )
    add_axis(parser)
    parser.add_argument("--tolerance", type=float, metavar="MM", help="of NSD (default: as for sam2_3dmed compare)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    if args.clicks < 1:
        raise UserError(f"--clicks is {args.clicks}, but must be at least 1.")
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}, but must be 0 or more.")
    check_image_size(args.image_size)
    check_writable_folder(args.output)

    from nnunetv2_sam2_3dmed.evaluation.labels import foreground_classes, ignore_label
    from nnunetv2_sam2_3dmed.evaluation.prompted import check_same_run
    from nnunetv2_sam2_3dmed.evaluation.software import software_and_machine
    from nnunetv2_sam2_3dmed.evaluation.tolerance import nsd_tolerance
    from nnunetv2_sam2_3dmed.files import write_text
    from nnunetv2_sam2_3dmed.interactive import InteractiveSession
    from nnunetv2_sam2_3dmed.interactive.model import model_file
    from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
    from nnunetv2_sam2_3dmed.nnunet.folders import dataset_name, load_dataset_json, nnunet_folder
    from nnunetv2_sam2_3dmed.prompt_evaluation import results
    from nnunetv2_sam2_3dmed.prompt_evaluation.benchmark import PromptBenchmark
    from nnunetv2_sam2_3dmed.prompt_evaluation.cases import raw_cases
    from nnunetv2_sam2_3dmed.prompt_evaluation.headers import check_headers
    from nnunetv2_sam2_3dmed.prompt_evaluation.measurements import Measured, read_rows, write_rows
    from nnunetv2_sam2_3dmed.prompt_evaluation.protocols import protocols
    from nnunetv2_sam2_3dmed.prompt_training.training_cases import training_warnings
    from nnunetv2_sam2_3dmed.prompt_training.validation import written_values

    dataset = dataset_name(args.dataset)
    dataset_json = load_dataset_json(dataset)
    raw_folder = nnunet_folder("nnUNet_raw") / dataset
    names = _case_names(dataset, dataset_json, raw_folder, args.folds, args.cases)
    cases = raw_cases(raw_folder, dataset_json, names, args.channel)
    warnings = check_headers(cases)
    tolerance = nsd_tolerance(dataset, args.tolerance)
    known = protocols(args.clicks)
    chosen = [known[f"{args.clicks}_clicks" if name == "clicks" else name] for name in dict.fromkeys(args.protocols)]
    session = InteractiveSession(args.model, args.device, args.precision, args.image_size)
    file = model_file(args.model)
    described: dict[str, Any] = {
        "dataset": dataset,
        "cases": names,
        "protocols": [protocol.name for protocol in chosen],
        "model": args.model,
        "model_sha256": sha256_of(file),
        "image_size": session.image_size,
        "device": str(session.device),
        "precision": args.precision,
        "seed": args.seed,
        "axis": "learned" if args.axis is None else args.axis,
        "channel": args.channel,
        "tolerance_mm": tolerance.mm,
    }
    begun = check_same_run(args.output, described["protocols"], described)
    warnings += training_warnings(file, described["model_sha256"], dataset, names, _splits(dataset))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    used = {**described, "folds": args.folds, "warnings": warnings, "software_and_machine": software_and_machine()}
    benchmark = PromptBenchmark(
        session,
        foreground_classes(dataset_json),
        written_values(dataset_json),
        ignore_label(dataset_json),
        tolerance.mm,
        args.axis,
        args.seed,
        dataset_json["file_ending"],
        described,
    )

    def keep(measured: Measured) -> None:
        write_rows(args.output, measured, results.as_json(measured, chosen, used))

    earlier = read_rows(args.output) if begun else None
    measured = benchmark.run(cases, chosen, args.output, lambda line: print(line, file=sys.stderr), earlier, keep)
    keep(measured)  # also what could not be read after the last case that could
    text = results.as_markdown(measured, chosen, dataset, used, f"{tolerance.mm:g} mm ({tolerance.source})")
    write_text(args.output / "prompt_benchmark.md", text)
    print(text)
    print(f"written to {args.output}", file=sys.stderr)
    if measured.failed:
        raise UserError(
            f"{len(measured.failed)} of {len(cases)} cases were left out, for the reasons above: "
            f"{', '.join(measured.failed)}; the same command tries them again."
        )


def _splits(dataset: str) -> list[dict[str, list[str]]] | None:
    """nnU-Net's folds of a dataset; None where it has none here.

    Raises:
        UserError: the file is damaged.
    """
    from nnunetv2_sam2_3dmed.files import read_json

    folder = os.environ.get("nnUNet_preprocessed")
    file = Path(folder or ".") / dataset / "splits_final.json"
    if not folder or not file.is_file():
        return None
    folds = read_json(file)
    if not isinstance(folds, list) or not all(isinstance(f, dict) and isinstance(f.get("val"), list) for f in folds):
        raise UserError(f"{file} is no list of folds with 'train' and 'val': let nnU-Net write it again.")
    return folds


def _case_names(
    dataset: str, dataset_json: dict[str, Any], raw_folder: Path, folds: list[str], wanted: list[str] | None
) -> list[str]:
    """Identifiers of the cases to prompt, sorted.

    Raises:
        UserError: the folds are not known, or a case is in none of them.
    """
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder

    if "all" in folds:
        if not raw_folder.is_dir():
            raise UserError(f"{raw_folder} does not exist, but prompts are given on the raw images: set nnUNet_raw.")
        known = get_filenames_of_train_images_and_targets(str(raw_folder), deepcopy(dataset_json))
        names = {name for name in known if not name.startswith(".")}  # macOS leaves files ._NAME on foreign disks
    else:
        splits = _splits(dataset)
        if splits is None:
            file = nnunet_folder("nnUNet_preprocessed") / dataset / "splits_final.json"
            raise UserError(f"there is no {file}: train a model, which makes nnU-Net draw folds, or give `-f all`.")
        names = set()
        for fold in folds:
            if not fold.isdecimal() or int(fold) >= len(splits):
                raise UserError(f"the fold is {fold!r}, but must be one from 0 to {len(splits) - 1}, or all.")
            names |= set(splits[int(fold)]["val"])
    strange = sorted(set(wanted or ()) - names)
    if strange:
        raise UserError(f"{strange[0]} is none of the {len(names)} cases of fold {', '.join(folds)}: give others.")
    if not names:
        raise UserError(f"fold {', '.join(folds)} has no cases: give another.")
    return sorted(names if wanted is None else wanted)
