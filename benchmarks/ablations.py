"""Ablations on one fold of MSD hippocampus: equal iterations from random weights, three repetitions each.

    eval "$(sam2_3dmed env)"     # with dataset 4 converted and preprocessed by nnU-Net
    sam2_3dmed plan -d 4 --patch-size 56 40 --image-size 96 --slices 6 --batch-size 4
    python benchmarks/ablations.py -device cpu

Runs stock commands, skips what is there already, and writes benchmarks/results/NAME.json and NAME.md: the Dice of
each repetition on the validation cases, mean and spread, and whether a difference from the full model is larger than
the spread. May be interrupted and started again; repetitions that the file holds from an earlier run with the same
configuration are kept, so that they can be added one by one (--seeds).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

from equal_time import DATASET, RESULTS, machine
from trainers.benchmark_trainers import ABLATIONS, SEEDS, repetition_name

from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder

TRAINERS = Path(__file__).parent / "trainers"


def folder_of(name: str) -> Path:
    return nnunet_folder("nnUNet_results") / DATASET / f"{name}__nnUNetPlans__3d"


def train(name: str, device: str) -> None:
    """Train one repetition to its end, unless that was done."""
    fold = folder_of(name) / "fold_0"
    if (fold / "validation" / "summary.json").exists():
        return
    folders = [os.environ["nnUNet_extTrainer"], str(TRAINERS)]
    command = ["nnUNetv2_train", "4", "3d", "0", "-tr", name, "-device", device]
    print("$", *command, flush=True)
    subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:], *(["--c"] if fold.exists() else [])],
        env={**os.environ, "nnUNet_extTrainer": os.pathsep.join(folders)},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def dice(name: str) -> dict[str, float]:
    """nnU-Net's mean validation Dice of each class and of all."""
    summary = json.loads((folder_of(name) / "fold_0" / "validation" / "summary.json").read_text())
    return {
        **{label: values["Dice"] for label, values in summary["mean"].items()},
        "mean": summary["foreground_mean"]["Dice"],
    }


def verdict(values: list[float], reference: list[float]) -> str:
    """A difference is called one only where there are three repetitions and those of the two do not overlap."""
    if min(len(values), len(reference)) < 3:
        return "too few repetitions to say"
    if min(values) > max(reference):
        return "better in every repetition"
    if max(values) < min(reference):
        return "worse in every repetition"
    return "within the spread"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), choices=SEEDS)
    parser.add_argument("--name", default="hippocampus_fold0_ablations")
    args = parser.parse_args()
    for seed in args.seeds:  # a repetition of all before the next one, so that an interruption leaves whole ones
        for ablation in ABLATIONS:
            train(repetition_name(ablation, seed), args.device)
    plans = json.loads((folder_of(repetition_name("full", args.seeds[0])) / "plans.json").read_text())
    configuration = plans["configurations"]["3d"]
    file = RESULTS / f"{args.name}.json"
    results: dict[str, dict[str, dict]] = {ablation: {} for ablation in ABLATIONS}
    if file.exists() and (earlier := json.loads(file.read_text()))["configuration"] == configuration:
        results = earlier["results"]
    for ablation, seed in itertools.product(ABLATIONS, args.seeds):
        results[ablation][str(seed)] = dice(repetition_name(ablation, seed))
    means = {a: [r["mean"] for _, r in sorted(runs.items())] for a, runs in results.items()}
    rows = [
        f"| {a} | {', '.join(f'{v:.3f}' for v in values)} | {mean(values):.3f} | "
        f"{stdev(values) if len(values) > 1 else float('nan'):.3f} | "
        f"{'' if a == 'full' else verdict(values, means['full'])} |"
        for a, values in means.items()
    ]
    table = [
        "| variant | foreground Dice of each repetition | mean | standard deviation | against full |",
        "|---|---|---|---|---|",
        *rows,
    ]
    RESULTS.mkdir(exist_ok=True)
    report = {"machine": machine(args.device), "configuration": configuration, "results": results}
    file.write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / f"{args.name}.md").write_text("\n".join(table) + "\n")
    print("\n".join(table))


if __name__ == "__main__":
    main()
