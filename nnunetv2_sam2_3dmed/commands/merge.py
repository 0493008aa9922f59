"""Merge datasets of nnU-Net into one, whose cases are drawn at the sampling rate of their dataset.

    sam2_3dmed merge 9 15:3 20:40 -d 30 --name All        rates 1, 3 and 40, as MedSAM2's for CT, MR and video

Trainers of this package draw a case of rate 40 forty times as often as one of rate 1. Classes of the same name become
one class. Folds are those of the datasets. Where all have the same channels and format, images are linked; otherwise
they become pictures of 8 bits, as MedSAM2's training data: CT in the abdomen window, other volumes between percentiles,
videos as they are. Then nothing is resampled, and models that take prompts show new volumes the same way.
"""

from __future__ import annotations

import argparse
import sys

from nnunetv2_sam2_3dmed.commands.options import add_new_dataset, new_dataset_name
from nnunetv2_sam2_3dmed.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "datasets", nargs="+", metavar="DATASET[:RATE]", help="dataset id or name, and its rate from 1 (default: 1)"
    )
    add_new_dataset(parser)


def run(args: argparse.Namespace) -> None:
    wanted = [_with_rate(word) for word in args.datasets]
    if len(wanted) < 2:
        raise UserError(f"only {args.datasets[0]} is to be merged: name two datasets or more.")
    name = new_dataset_name(args.dataset, args.name)

    from nnunetv2_sam2_3dmed.merging.datasets import merge, missing_classes, open_parts, plan_merging
    from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder

    target = nnunet_folder("nnUNet_raw") / name
    plan = plan_merging(name, open_parts(wanted))
    for dataset, classes in missing_classes(plan).items():
        print(
            f"warning: {dataset} has no label for {', '.join(classes)}; trainers that segment without prompts take "
            "these for background there.",
            file=sys.stderr,
        )
    merge(plan, target, print)
    drawn = sum(part.rate * len(part.files) for part in plan.parts)
    for part in plan.parts:
        share = part.rate * len(part.files) / drawn
        print(f"{part.name}: {len(part.files)} cases at rate {part.rate}, {share:.1%} of what is drawn")
    made = "pictures of 8 bits" if plan.pictures else "linked images"
    print(
        f"wrote {target}: {plan.content['numTraining']} cases, {made}, labels "
        f"{', '.join(f'{label} {value}' for label, value in plan.content['labels'].items())}.\n"
        f"Next: nnUNetv2_plan_and_preprocess -d {args.dataset} -c 3d_fullres, sam2_3dmed plan -d {args.dataset}."
    )


def _with_rate(word: str) -> tuple[str, int]:
    """Take a dataset and its rate apart.

    Raises:
        UserError: the rate is no whole number from 1.
    """
    name, colon, rate = word.partition(":")
    if not colon:
        return name, 1
    if not rate.isdecimal() or int(rate) < 1:
        raise UserError(f"the rate of {name} is {rate!r}, but must be a whole number from 1, such as 40.")
    return name, int(rate)
