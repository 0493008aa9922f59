"""Add the configuration `3d` of SAM2-3dMed to a dataset's nnU-Net plans.

It shares the preprocessed data and the folds of `3d_fullres`. Run nnU-Net's own `nnUNetv2_plan_and_preprocess -d ID -c
3d_fullres` first. For the paper's Table 7, the same with 3 and with 6 slices is added too, as `3d_slices3` and
`3d_slices6`, and for training with prompts that with 8, `3d_slices8`. Raw images and labels, where nnUNet_raw has them,
are looked at: nnU-Net fills what a file lacks with zeros.

Running it again replaces these configurations and leaves everything else alone. Give all options of the earlier plan
again: options that are not given return to their defaults, and edits of `arch_kwargs` are lost.

What the preprocessed segmentations hold is compared with the labels of dataset.json before anything is written. The
labels that were found are noted beside the preprocessed cases, so that trainings read only those that are new.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_sam2_3dmed.commands.options import add_dataset, add_plans
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.nnunet.folders import check_nnunet_version, dataset_name, load_dataset_json, read_plans
from nnunetv2_sam2_3dmed.nnunet.raw_files import check_training_files, warning_of_not_finite

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.training.memory import TrainingStep

GIB = 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    add_plans(parser)
    parser.add_argument("--name", default="3d", help="name of the configuration (default: %(default)s)")
    parser.add_argument(
        "--backbone",
        default="sam2.1_hiera_tiny",
        help="sam2 or sam2.1, then _hiera_ and tiny, small, base_plus or large (default: %(default)s)",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side to which slices are resized, a multiple of 32 (default: four times the longer side of the patch, "
        "rounded up to a multiple of 64, between 128 and 512)",
    )
    parser.add_argument("--slices", type=int, default=12, help="slices in a patch (default: %(default)s)")
    parser.add_argument(
        "--patch-size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="in-plane patch size in voxels (default: covers the median slice, up to 512)",
    )
    parser.add_argument(
        "--gpu-memory",
        type=float,
        default=8.0,
        metavar="GIB",
        help="memory of the GPU to plan for; batch size and checkpointing are chosen to fit (default: %(default)g, as "
        "nnU-Net's planner)",
    )
    parser.add_argument("--batch-size", type=int, help="stacks in a batch, over all GPUs (default: 4, or what fits)")
    parser.add_argument(
        "--checkpointing",
        choices=("auto", "on", "off"),
        default="auto",
        help="activation checkpointing: trains in less memory and more time (default: where it is needed to fit)",
    )
    parser.add_argument("--memories", type=int, default=7, help="slices a slice looks back to, 1 to 7 (default: 7)")


def run(args: argparse.Namespace) -> None:
    check_nnunet_version()
    from nnunetv2_sam2_3dmed.plans.planner import (
        PlanOptions,
        add_configurations,
        check_name,
        number_of_channels,
        number_of_masks,
        planned_step,
    )

    check_name(args.name)
    dataset = dataset_name(args.dataset)
    plans_file, plans = read_plans(dataset, args.plans)
    check_training_files(dataset)
    options = PlanOptions(
        backbone=args.backbone,
        image_size=args.image_size,
        slices=args.slices,
        patch_size=tuple(args.patch_size) if args.patch_size else None,
        batch_size=args.batch_size,
        gpu_memory=args.gpu_memory,
        checkpointing={"auto": None, "on": True, "off": False}[args.checkpointing],
        num_memories=args.memories,
        name=args.name,
    )
    dataset_json = load_dataset_json(dataset)
    configurations = add_configurations(plans, dataset_json, options)
    _check_cases(dataset, dataset_json, plans_file.parent, plans)
    warning = warning_of_not_finite(dataset)
    if warning is not None:
        print(f"warning: {warning}", file=sys.stderr)
    write_json(plans_file, plans)
    for name, configuration in configurations.items():
        architecture = configuration["architecture"]["arch_kwargs"]
        step = planned_step(configuration, number_of_masks(plans, dataset_json), number_of_channels(dataset_json))
        print(
            f"Added the configuration {name!r} to {plans_file}: patch {configuration['patch_size']}, batch size "
            f"{configuration['batch_size']}{' with activation checkpointing' if step.checkpointing else ''}, "
            f"{architecture['backbone']} at {architecture['image_size']} pixels."
        )
        print(f"    {memory_sentence(step, args.gpu_memory)}")
    print(
        f"Next: nnUNetv2_train {args.dataset} {args.name} 0 -tr SAM2_3dMedTrainer"
        + (f" -p {args.plans}" if args.plans != "nnUNetPlans" else "")
    )


def _check_cases(dataset: str, dataset_json: dict, folder: Path, plans: dict) -> None:
    """Check the labels of the cases that are preprocessed already.

    Raises:
        UserError: a case holds undeclared labels or cannot be read, or none holds any foreground.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunetv2_sam2_3dmed.nnunet.preprocessed_labels import (
        check_cases,
        labels_of_cases,
        preprocessed_cases,
        warning_of_absent_classes,
    )
    from nnunetv2_sam2_3dmed.plans.planner import PARENT

    cases_folder = folder / PlansManager(plans).get_configuration(PARENT).data_identifier
    cases = preprocessed_cases(cases_folder)
    if not cases:
        return
    labels = labels_of_cases(cases_folder, cases)
    check_cases(dataset, dataset_json, labels)
    warning = warning_of_absent_classes(dataset, dataset_json, labels, "preprocessed cases")
    if warning is not None:
        print(f"warning: {warning}", file=sys.stderr)


def memory_sentence(step: TrainingStep, gpu_memory: float) -> str:
    """The memory that a step is expected to need on one GPU, and what to change where that is too much or very little.

    Args:
        step: of ``SAM2_3dMedTrainer``.
        gpu_memory: that was planned for, in GiB.
    """
    from nnunetv2_sam2_3dmed.plans.planner import OVERHEAD_GIB, fits

    def needed(step: TrainingStep) -> float:
        return step.expected_bytes() / GIB + OVERHEAD_GIB

    sentences = [
        f"Expected on one GPU: {needed(step):.1f} GiB for SAM2_3dMedTrainer, "
        f"{needed(replace(step, trunk_trains=True)):.1f} GiB for trainers whose trunk trains."
    ]
    if not fits(step, gpu_memory):
        sentences.append(
            f"That is more than {gpu_memory:g} GiB: plan again with a smaller --image-size, --patch-size, --slices or "
            "--batch-size."
        )
    elif step.checkpointing:
        without = ceil(needed(replace(step, checkpointing=False)))
        sentences.append(
            f"With `--gpu-memory {without}` it would be planned without checkpointing, which takes less time."
        )
    elif not fits(replace(step, trunk_trains=True), gpu_memory):
        sentences.append("For those, plan with --checkpointing on.")
    return " ".join(sentences)


def write_json(path: Path, content: dict) -> None:
    """Write in nnU-Net's layout."""
    write_text(path, json.dumps(content, indent=4))
