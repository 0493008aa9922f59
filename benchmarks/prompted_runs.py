"""Options, planning, training and measurement, as benchmarks of models with prompts on hippocampus share them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from equal_time import RESULTS, Runner, results_folder, training_facts

from nnunetv2_sam2_3dmed.interactive.trained_model import PROMPTED
from nnunetv2_sam2_3dmed.nnunet.checkpoints import load_checkpoint
from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder

CONFIGURATION = "3d_slices8"
FINAL = "checkpoint_final.pth"
RANDOM_WEIGHTS = "SAM2_PromptTrainer_noPretrain_tuned"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the plan and of the training."""
    parser.add_argument("--minutes", type=int, required=True, help="of each training")
    parser.add_argument("-device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--trainer", default=RANDOM_WEIGHTS, help="without a length (default: %(default)s)")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--patch-size", type=int, nargs=2)
    parser.add_argument("--slices", type=int, help="slices of the configuration `3d`; prompt stacks have 8")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--cases", nargs="+", default=[], metavar="CASE", help="measure only these validation cases")
    parser.add_argument("--note", action="append", default=[], help="remark about this run for readers")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files")


def plan(run: Runner, args: argparse.Namespace, dataset: str = "4") -> None:
    """Add the configurations to the plans of the dataset."""
    run(
        *("sam2_3dmed", "plan", "-d", dataset),
        *(("--image-size", str(args.image_size)) if args.image_size else ()),
        *(("--patch-size", *map(str, args.patch_size)) if args.patch_size else ()),
        *(("--slices", str(args.slices)) if args.slices else ()),
        *(("--batch-size", str(args.batch_size)) if args.batch_size else ()),
    )


def train(run: Runner, trainer: str, device: str) -> Path:
    """Train fold 0, or go on; return its folder."""
    folder = results_folder(CONFIGURATION, trainer) / "fold_0"
    run(
        *("nnUNetv2_train", "4", CONFIGURATION, "0", "-tr", trainer, "-device", device),
        done=folder / "validation" / "summary.json",
        go_on=["--c"] if folder.exists() else [],
    )
    return folder


def measure(run: Runner, fold: Path, output: Path, args: argparse.Namespace, *protocols: str) -> dict[str, Any]:
    """Prompt the validation cases with a trained model, or go on; return ``prompt_benchmark.json``."""
    run(
        *("sam2_3dmed", "prompt-benchmark", "-d", "4", "-f", "0", "-o", str(output), "-device", args.device),
        *("--model", str(fold / FINAL), "--protocols", *protocols),
        *(("--cases", *args.cases) if args.cases else ()),
    )
    return json.loads((output / "prompt_benchmark.json").read_text())


def facts_of(trainer: str) -> dict[str, Any]:
    """Facts about a training, with the arguments of the network that was built."""
    described = load_checkpoint(results_folder(CONFIGURATION, trainer) / "fold_0" / FINAL)["init_args"][PROMPTED]
    own = {"network": "PromptableSAM2", "network_arguments": described["network"]}
    return training_facts(CONFIGURATION, trainer) | own


def write(file: Path, text: str) -> None:
    """Write the text with variable names for this machine's folders."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        text = text.replace(str(nnunet_folder(variable)), f"${variable}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
