"""Ablations on one fold of MSD hippocampus: 300 iterations from random weights, three seeds each.

    eval "$(sam2_3dmed env)"     # with dataset 4 converted and preprocessed by nnU-Net
    sam2_3dmed splits -d 4 --group-by pairs --force
    sam2_3dmed plan -d 4 --patch-size 56 40 --image-size 64 --slices 6 --batch-size 8
    python benchmarks/ablations.py -device cpu

Runs stock commands, skips what is there already, and writes benchmarks/results/NAME.json and NAME.md: the Dice of
each seed on the validation cases, mean and spread; whether the variant is on one side of the full model with every
seed; and a paired test over the validation cases of the Dice averaged over the seeds. The test says whether these
trained models differ on such cases; whether the next training would come out the same way, only the seeds tell. May be
interrupted and started again; seeds that the file holds from an earlier run with the same configuration are kept, so
that they can be added one by one (--seeds).
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

import numpy as np
from equal_time import DATASET, RESULTS, machine
from trainers.benchmark_trainers import ABLATIONS, ablation_name

from nnunetv2_sam2_3dmed.evaluation.statistics import PairedTest, correct, paired_test
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
    """nnU-Net's validation Dice of each case, the mean over its classes."""
    summary = json.loads((folder_of(name) / "fold_0" / "validation" / "summary.json").read_text())
    return {
        Path(case["reference_file"]).name.removesuffix(".nii.gz"): mean(m["Dice"] for m in case["metrics"].values())
        for case in summary["metric_per_case"]
    }


def verdict(values: list[float], reference: list[float]) -> str:
    """A difference is called one only where there are three seeds and those of the two do not overlap."""
    if min(len(values), len(reference)) < 3:
        return "too few seeds to say"
    if min(values) > max(reference):
        return "better with every seed"
    if max(values) < min(reference):
        return "worse with every seed"
    return "within the spread"


def tested(variant: dict[str, dict[str, float]], full: dict[str, dict[str, float]]) -> PairedTest:
    """Paired test over cases, of the mean over the seeds."""
    cases = sorted(next(iter(full.values())))
    differences = [mean(r[case] for r in variant.values()) - mean(r[case] for r in full.values()) for case in cases]
    return paired_test("Dice", "variant", "full", np.array(differences))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--name", default="hippocampus_fold0_ablations")
    args = parser.parse_args()
    for seed in args.seeds:  # a seed of all before the next one, so that an interruption leaves whole ones
        for ablation in ABLATIONS:
            train(f"{ablation_name(ablation)}_seed{seed}", args.device)
    plans = json.loads((folder_of(f"{ablation_name('full')}_seed{args.seeds[0]}") / "plans.json").read_text())
    configuration = plans["configurations"]["3d"]
    file = RESULTS / f"{args.name}.json"
    results: dict[str, dict[str, dict[str, float]]] = {ablation: {} for ablation in ABLATIONS}
    if file.exists() and (earlier := json.loads(file.read_text()))["configuration"] == configuration:
        results = earlier["dice_by_seed_and_case"]
    for ablation, seed in itertools.product(ABLATIONS, args.seeds):
        results[ablation][str(seed)] = dice(f"{ablation_name(ablation)}_seed{seed}")
    RESULTS.mkdir(exist_ok=True)
    report = {"machine": machine(args.device), "configuration": configuration, "dice_by_seed_and_case": results}
    file.write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / f"{args.name}.md").write_text(table(results))
    print(table(results))


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    means = {a: [mean(cases.values()) for _, cases in sorted(runs.items())] for a, runs in results.items()}
    others = [ablation for ablation in results if ablation != "full"]
    corrected = correct([tested(results[ablation], results["full"]) for ablation in others])
    tests = dict(zip(others, corrected, strict=True))
    lines = [
        "| variant | foreground Dice of each seed | mean | standard deviation | against full | mean difference (95 % "
        "interval over cases) | p (Holm) |",
        "|---|---|---|---|---|---|---|",
    ]
    for ablation, values in means.items():
        spread = f"{stdev(values):.3f}" if len(values) > 1 else ""
        cells = [ablation, ", ".join(f"{v:.3f}" for v in values), f"{mean(values):.3f}", spread]
        if ablation == "full":
            cells += ["", "", ""]
        else:
            test = tests[ablation]
            cells += [
                verdict(values, means["full"]),
                f"{test.mean_difference:+.3f} ({test.low:+.3f} to {test.high:+.3f})",
                f"{test.p_holm:.3f}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
