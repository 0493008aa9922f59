"""Options, folders, training and measurement, as benchmarks of models with prompts on hippocampus share them.

All of them train in nnU-Net folders under one FOLDER, whose folds keep both sides of a subject together; a training
that one of them has done serves the others.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from equal_time import RESULTS
from reports import processor
from workplace import Training, Workplace

from nnunetv2_sam2_3dmed.interactive.trained_model import PROMPTED
from nnunetv2_sam2_3dmed.nnunet.checkpoints import load_checkpoint
from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder
from nnunetv2_sam2_3dmed.nnunet.folds import PAIRS, group_cases, grouped_folds

CONFIGURATION = "3d_slices8"
FINAL = "checkpoint_final.pth"
RANDOM_WEIGHTS = "SAM2_PromptTrainer_noPretrain_tuned"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the folder, the plan and the training."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for everything")
    parser.add_argument("--minutes", type=int, required=True, help="of each training")
    parser.add_argument("-device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (default: %(default)s)")
    parser.add_argument("--trainer", default=RANDOM_WEIGHTS, help="without length and seed (default: %(default)s)")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--patch-size", type=int, nargs=2)
    parser.add_argument("--slices", type=int, help="slices of the configuration `3d`; prompt stacks have 8")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--cases", nargs="+", default=[], metavar="CASE", help="measure only these validation cases")
    parser.add_argument("--note", action="append", default=[], help="remark about this run for readers")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files")


def plan_options(args: argparse.Namespace) -> list[str]:
    """Return the words for ``sam2_3dmed plan`` of the options that were given."""
    return [
        *(("--image-size", str(args.image_size)) if args.image_size else ()),
        *(("--patch-size", *map(str, args.patch_size)) if args.patch_size else ()),
        *(("--slices", str(args.slices)) if args.slices else ()),
        *(("--batch-size", str(args.batch_size)) if args.batch_size else ()),
    ]


def prepare(args: argparse.Namespace) -> Workplace:
    """Return the folders with folds and plans."""
    work = Workplace(args.output, args.device, args.jobs)
    work.begin(grouped_folds(group_cases(work.link(), PAIRS)), plan=plan_options(args))
    work("sam2_3dmed", "plan", "-d", "4", *plan_options(args))
    return work


def training_of(trainer: str, minutes: int, seed: int) -> Training:
    """Return the training of fold 0."""
    return Training(f"{trainer}_{minutes}minutes_seed{seed}", CONFIGURATION, 0)


def measure(
    work: Workplace, training: Training, output: Path, args: argparse.Namespace, *protocols: str
) -> dict[str, Any]:
    """Prompt the validation cases with a trained model, or go on; return ``prompt_benchmark.json``.

    Raises:
        SystemExit: the benchmark warns, such as of a model that was trained on some of these cases.
    """
    work(
        *("sam2_3dmed", "prompt-benchmark", "-d", "4", "-f", "0", "-o", str(output), "-device", args.device),
        *("--model", str(work.fold_folder(training) / FINAL), "--protocols", *protocols),
        *(("--cases", *args.cases) if args.cases else ()),
    )
    benchmark = json.loads((output / "prompt_benchmark.json").read_text())
    if benchmark["warnings"]:
        sys.exit(f"{output}: {' '.join(benchmark['warnings'])}")
    return benchmark


def facts_of(work: Workplace, training: Training) -> dict[str, Any]:
    """Return facts about a training, with the arguments of the network that was built."""
    described = load_checkpoint(work.fold_folder(training) / FINAL)["init_args"][PROMPTED]
    plans = json.loads((work.preprocessed / "nnUNetPlans.json").read_text())
    network = {"network": "PromptableSAM2", "network_arguments": described["network"]}
    return {
        **training._asdict(),
        **network,
        "batch_size": plans["configurations"][CONFIGURATION]["batch_size"],
        **work.facts(training),
    }


def origin(training: Training, machine: dict[str, Any], args: argparse.Namespace) -> str:
    """Say how the measured model was made, and the notes of the run."""
    made = (
        f"{training.trainer}: {args.minutes} minutes of training on {processor(machine)}, {args.jobs} trainings at a "
        "time. Folds keep both sides of a subject together."
    )
    return "".join(f"\n{text}\n" for text in (made, *args.note))


def write(file: Path, text: str, work: Workplace) -> None:
    """Write the text with names for this machine's folders."""
    text = text.replace(str(work.folder), "FOLDER")
    text = text.replace(str(nnunet_folder("nnUNet_raw")), "$nnUNet_raw")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
