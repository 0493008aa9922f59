"""nnU-Net and SAM2-3dMed on one fold of MSD hippocampus, trained for the same wall-clock time on the same machine.

    eval "$(sam2_3dmed env)"
    python benchmarks/equal_time.py --data Task04_Hippocampus --minutes 45 -device cpu --image-size 64 \
        --patch-size 56 40 --slices 6 --batch-size 8 --seeds 0 1 2        # two CPU cores
    python benchmarks/equal_time.py --data Task04_Hippocampus --minutes 8 -device cuda

Runs stock commands only, prints each, skips what is there already (a training goes on with --c), and writes
benchmarks/results/NAME.json and NAME.md: per class Dice, IoU, HD95 and NSD, epochs, iterations, seconds per
epoch, parameters, the commands, and the machine; with seeds, the Dice of groups of cases too (case_groups.py).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from case_groups import group_table
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_sam2_3dmed.evaluation.tables import as_markdown
from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder
from nnunetv2_sam2_3dmed.nnunet.folds import read_folds

RESULTS = Path(__file__).parent / "results"
DATASET = "Dataset004_Hippocampus"


class Runner:
    """Runs stock commands and remembers them."""

    def __init__(self, dry: bool):
        self.dry = dry
        self.commands: list[str] = []

    def __call__(self, *command: str, done: Path | None = None, go_on: Sequence[str] = ()) -> None:
        """Runs ``command``, with ``go_on`` added, unless ``done`` exists; what is remembered is ``command``."""
        self.commands.append(shlex.join(command))
        if self.dry or (done is not None and done.exists()):
            return
        print(f"$ {shlex.join([*command, *go_on])}", flush=True)
        subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:], *go_on], check=True)


def training_facts(configuration: str, trainer: str) -> dict:
    """Facts that a finished training of fold 0 has recorded."""
    folder = results_folder(configuration, trainer)
    # our own checkpoint: nnU-Net's format needs the classes it was pickled with
    checkpoint = torch.load(folder / "fold_0" / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    log = checkpoint["logging"]
    seconds = [end - start for start, end in zip(log["epoch_start_timestamps"], log["epoch_end_timestamps"])]
    plans = PlansManager(json.loads((folder / "plans.json").read_text()))
    manager = plans.get_configuration(configuration)
    trainer_class = recursive_find_trainer_class_by_name(trainer)
    dataset_json = json.loads((folder / "dataset.json").read_text())
    network = trainer_class.build_network_architecture(
        plans,
        manager,
        determine_num_input_channels(plans, manager, dataset_json),
        plans.get_label_manager(dataset_json).num_segmentation_heads,
        enable_deep_supervision=False,
    )
    iterations = getattr(trainer_class, "iterations_per_epoch", None)
    return {
        "trainer": trainer,
        "configuration": configuration,
        "patch_size": list(manager.patch_size),
        "batch_size": manager.batch_size,
        "network": manager.network_arch_class_name.split(".")[-1],
        # the plan's, with what the trainer changes
        "network_arguments": trainer_class.architecture_of(manager) if configuration != "3d_fullres" else None,
        "parameters": sum(p.numel() for p in network.parameters()),
        "epochs": len(seconds),
        "iterations": len(seconds) * iterations if iterations else None,
        "median_seconds_per_epoch": sorted(seconds)[len(seconds) // 2],
        "seconds_per_epoch": [round(s, 1) for s in seconds],
        "wall_clock_minutes": (log["epoch_end_timestamps"][-1] - log["epoch_start_timestamps"][0]) / 60,
        "pseudo_dice_per_epoch": [round(float(d), 4) for d in log["mean_fg_dice"]],
    }


def results_folder(configuration: str, trainer: str) -> Path:
    return nnunet_folder("nnUNet_results") / DATASET / f"{trainer}__nnUNetPlans__{configuration}"


def machine(device: str) -> dict:
    facts = {"platform": platform.platform(), "cpus": os.cpu_count(), "torch": torch.__version__}
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts["cpu"] = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    if device == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="MSD's folder Task04_Hippocampus; needed unless converted already")
    parser.add_argument("--minutes", type=int, required=True)
    parser.add_argument("-device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--ours", nargs="+", default=["SAM2_3dMedTrainer_noPretrain_tuned"], metavar="TRAINER")
    parser.add_argument("--seeds", type=int, nargs="+", help="train ours once with each (default: once without a seed)")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--patch-size", type=int, nargs=2)
    parser.add_argument("--slices", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--name", help="of the result files")
    parser.add_argument("--note", action="append", default=[], help="what a reader must know about this run")
    parser.add_argument(
        "--collect", action="store_true", help="train nothing, write the results of the methods that are there"
    )
    args = parser.parse_args()

    run = Runner(dry=args.collect)
    if args.data is not None:
        raw = nnunet_folder("nnUNet_raw") / DATASET
        run("nnUNetv2_convert_MSD_dataset", "-i", str(args.data), done=raw)
    preprocessed = nnunet_folder("nnUNet_preprocessed") / DATASET / "nnUNetPlans_3d_fullres"
    run("nnUNetv2_plan_and_preprocess", "-d", "4", "-c", "3d_fullres", done=preprocessed)
    options = [
        *(("--image-size", str(args.image_size)) if args.image_size else ()),
        *(("--patch-size", *map(str, args.patch_size)) if args.patch_size else ()),
        *(("--slices", str(args.slices)) if args.slices else ()),
        *(("--batch-size", str(args.batch_size)) if args.batch_size else ()),
    ]
    run("sam2_3dmed", "plan", "-d", "4", *options)
    methods = [("3d_fullres", f"nnUNetTrainer_{args.minutes}minutes")]
    endings = [f"_seed{seed}" for seed in args.seeds] if args.seeds else [""]
    methods += [("3d", f"{trainer}_{args.minutes}minutes{ending}") for trainer in args.ours for ending in endings]
    for configuration, trainer in methods:
        folder = results_folder(configuration, trainer) / "fold_0"
        run(
            *("nnUNetv2_train", "4", configuration, "0", "-tr", trainer, "-device", args.device),
            done=folder / "validation" / "summary.json",
            go_on=["--c"] if folder.exists() else [],
        )
    if args.collect:
        methods = [m for m in methods if (results_folder(*m) / "fold_0" / "validation" / "summary.json").exists()]
    name = args.name or f"hippocampus_fold0_{args.minutes}min_{args.device}"
    output = nnunet_folder("nnUNet_results") / DATASET / f"comparison_{name}"
    folders = [f"{trainer}__nnUNetPlans__{configuration}" for configuration, trainer in methods]
    run("sam2_3dmed", "compare", "-d", "4", "-f", "0", "-m", *folders, "--tolerance", "2", "-o", str(output))
    if args.collect:
        Runner(dry=False)(*shlex.split(run.commands[-1]))

    RESULTS.mkdir(exist_ok=True)
    comparison = (output / "comparison.json").read_text()
    for variable in ("nnUNet_results", "nnUNet_preprocessed"):  # a reader has other folders
        comparison = comparison.replace(str(nnunet_folder(variable)), f"${variable}")
    report = {
        "budget_minutes": args.minutes,
        "notes": args.note,
        "machine": machine(args.device),
        "commands": [
            command.replace(str(output), output.name).replace(f"-i {args.data}", f"-i {args.data and args.data.name}")
            for command in run.commands
        ],
        "methods": [training_facts(*method) for method in methods],
        "comparison": json.loads(comparison),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    text = (output / "comparison.md").read_text()
    if args.seeds and len(args.ours) == 1:
        fold = read_folds(nnunet_folder("nnUNet_preprocessed") / DATASET / "splits_final.json")[0]
        text += f"\n{as_markdown(group_table(pd.read_csv(output / 'per_case.csv'), fold, folders[0], folders[1:]))}\n"
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
