"""Write nnU-Net's splits_final.json with all cases of a subject in one fold.

    sam2_3dmed splits -d 4 --group-by pairs                 cases 2k - 1 and 2k are one subject (MSD hippocampus)
    sam2_3dmed splits -d 9 --group-by '^(patient_\\d+)'      the subject is the match of the parentheses

nnU-Net draws its folds over cases: if a subject has several cases, some are trained on while others are validated
against, and the Dice is too high. Prints the number of subjects that an existing file separates. An existing file is
replaced only with --force, and kept as splits_final.before.json: models trained on its folds no longer match.

Cases from `sam2_3dmed annotate take` are trained on in every fold that validates no other case of their subject, and
never validated against, since their masks began as a model's predictions.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_sam2_3dmed.commands.options import add_dataset
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import copy_file, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument("--group-by", required=True, metavar="pairs|REGEX", help="rule for the subject of a case")
    parser.add_argument("--folds", type=int, default=5, help="number of folds (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="only check the existing file")
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> None:
    from nnunetv2_sam2_3dmed.nnunet.folders import dataset_name, gt_folder, load_dataset_json, nnunet_folder
    from nnunetv2_sam2_3dmed.nnunet.folds import FILE, group_cases, grouped_folds, read_folds, separated

    dataset = dataset_name(args.dataset)
    ending = load_dataset_json(dataset)["file_ending"]
    cases = [path.name.removesuffix(ending) for path in gt_folder(dataset).glob(f"[!.]*{ending}")]
    groups = group_cases(cases, args.group_by)
    print(f"{dataset}: {len(cases)} cases of {len(groups)} subjects")
    recorded = _recorded(dataset, cases)

    file = nnunet_folder("nnUNet_preprocessed") / dataset / FILE
    if file.is_file():
        known = read_folds(file)
        apart = separated(known, groups)
        print(
            f"WARNING: {file} separates {len(apart)} subjects, for example {apart[0]} ({', '.join(groups[apart[0]])})."
            if apart
            else f"{file} keeps every subject in one fold."
        )
        inside = sorted(recorded & {case for fold in known for case in fold["val"]})
        if inside:
            print(f"WARNING: {file} validates against {len(inside)} cases from rounds, for example {inside[0]}.")
    elif args.check:
        raise UserError(f"there is no {file} to check: leave --check out to write it.")
    if args.check:
        return
    if file.is_file() and not args.force:
        raise UserError(
            f"{file} exists already: add --force to replace it (models trained on its folds no longer match), or "
            "--check to look at it alone."
        )
    folds = grouped_folds(groups, args.folds, recorded)
    if file.is_file():
        copy_file(file, _before(file))
    write_text(file, json.dumps(folds, indent=4))
    sizes = ", ".join(str(len(fold["val"])) for fold in folds)
    print(f"wrote {file}: {len(folds)} folds with {sizes} validation cases")


def _recorded(dataset: str, cases: Sequence[str]) -> set[str]:
    """Return the preprocessed cases that came from rounds, and print their number."""
    from nnunetv2_sam2_3dmed.annotation.record import FILE, read_record

    raw = os.environ.get("nnUNet_raw")
    if not raw:
        print(f"nnUNet_raw is not set: cases from rounds, listed there in {FILE}, are treated as all others.")
        return set()
    record = read_record(Path(raw) / dataset)
    inside = set(record) & set(cases)
    if inside:
        print(
            f"{len(inside)} cases are from rounds and only trained on; each configuration that trains on them must "
            "have preprocessed them (nnUNetv2_preprocess)."
        )
    if len(inside) < len(record):
        left = len(record) - len(inside)
        print(f"{left} cases of {FILE} are left out, as they are not preprocessed: run nnUNetv2_preprocess first.")
    return inside


def _before(file: Path) -> Path:
    """Return an unused name for the old file."""
    name = file.with_name("splits_final.before.json")
    number = 1
    while name.exists():
        number += 1
        name = file.with_name(f"splits_final.before_{number}.json")
    return name
