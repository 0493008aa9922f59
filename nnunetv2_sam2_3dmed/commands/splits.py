"""Write nnU-Net's splits_final.json with all cases of a subject in one fold.

    sam2_3dmed splits -d 4 --group-by pairs                 cases 2k - 1 and 2k are one subject (MSD hippocampus)
    sam2_3dmed splits -d 9 --group-by '^(patient_\\d+)'      what the parentheses match names the subject

nnU-Net's own folds are drawn over cases: if a subject has several, some are trained on while others are validated
on, and the Dice is too good. Says how many subjects an existing file separates. An existing file is replaced only
with --force, and kept beside as splits_final.before.json: models that were trained on its folds no longer match.

Cases that `sam2_3dmed annotate take` has put into the dataset are trained on in every fold that validates no other
case of their subject, and never validated against: their masks began as a machine's.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_sam2_3dmed.commands.options import add_dataset
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import copy_file, read_json, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    parser.add_argument("--group-by", required=True, metavar="pairs|REGEX", help="how a case names its subject")
    parser.add_argument("--folds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="only look at the existing file")
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> None:
    from nnunetv2_sam2_3dmed.nnunet.folders import dataset_name, load_dataset_json, nnunet_folder, truth_folder
    from nnunetv2_sam2_3dmed.nnunet.folds import group_cases, grouped_folds, separated

    dataset = dataset_name(args.dataset)
    ending = load_dataset_json(dataset)["file_ending"]
    cases = [path.name.removesuffix(ending) for path in truth_folder(dataset).glob(f"[!.]*{ending}")]
    groups = group_cases(cases, args.group_by)
    print(f"{dataset}: {len(cases)} cases of {len(groups)} subjects")
    recorded = _recorded(dataset, cases)

    file = nnunet_folder("nnUNet_preprocessed") / dataset / "splits_final.json"
    if file.is_file():
        known = read_json(file)
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
        raise UserError(f"there is no {file} to look at: leave --check out to write it.")
    if args.check:
        return
    if file.is_file() and not args.force:
        raise UserError(
            f"{file} exists already: add --force to replace it (models trained on its folds no longer match), or "
            "--check to only look at it."
        )
    folds = grouped_folds(groups, args.folds, recorded)
    if file.is_file():
        copy_file(file, _before(file))
    write_text(file, json.dumps(folds, indent=4))
    sizes = ", ".join(str(len(fold["val"])) for fold in folds)
    print(f"wrote {file}: {len(folds)} folds with {sizes} validation cases")


def _recorded(dataset: str, cases: Sequence[str]) -> set[str]:
    """Those of the preprocessed cases that came from rounds; says how many there are."""
    from nnunetv2_sam2_3dmed.annotation.record import FILE, read_record

    raw = os.environ.get("nnUNet_raw")
    if not raw:
        print(f"nnUNet_raw is not set: cases from rounds, which {FILE} lists there, are not told from others.")
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
    """A name for the old file that replaces no older one."""
    name = file.with_name("splits_final.before.json")
    number = 1
    while name.exists():
        number += 1
        name = file.with_name(f"splits_final.before_{number}.json")
    return name
