"""Ablations on one fold of MSD hippocampus: 300 iterations from random weights, three seeds each.

    eval "$(sam2_3dmed env)"     # with dataset 4 converted and preprocessed by nnU-Net
    python benchmarks/ablations.py -o FOLDER -device cpu --jobs 2

Folds keep both sides of a subject together (`sam2_3dmed splits --group-by pairs`); the full model is trained on
nnU-Net's own fold 0, too. Runs stock commands in nnU-Net folders under FOLDER, skips what is there already (a training
goes on with --c), and writes benchmarks/results/NAME.json and NAME.md after each seed, to which other runs can add
theirs (``--seeds 2``): the Dice of each seed on the validation cases, mean and spread; whether the variant is on one
side of the full model with every seed; and a paired test over the subjects, two cases of which are one, of the Dice
averaged over the seeds. The test says whether these trained models differ on such subjects; whether the next training
would come out the same way, only the seeds tell. Iterations are equal, not minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import mean, stdev

import pandas as pd
from case_groups import by_subject
from equal_time import DATASET, RESULTS, machine
from reports import begin_report, in_order
from workplace import TRAINERS, Training, Workplace

from nnunetv2_sam2_3dmed.evaluation.statistics import PairedTest, correct, paired_test
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder
from nnunetv2_sam2_3dmed.nnunet.folds import (
    FILE,
    PAIRS,
    folds_without_validating,
    group_cases,
    grouped_folds,
    separated,
)

sys.path.insert(0, str(TRAINERS))
from benchmark_trainers import ABLATIONS, ablation_name

PLAN = ["--patch-size", "56", "40", "--image-size", "64", "--slices", "6", "--batch-size", "8"]
PAIRS_TOGETHER, AS_DRAWN = 0, 1  # folds
OWN_FOLD = "full, nnU-Net's own fold"


def training_of(ablation: str, seed: int) -> Training:
    name, fold = ("full", AS_DRAWN) if ablation == OWN_FOLD else (ablation, PAIRS_TOGETHER)
    return Training(f"{ablation_name(name)}_seed{seed}", "3d", fold)


def prepare(work: Workplace) -> None:
    """Write plans and the two folds."""
    cases = work.link()
    subjects = group_cases(cases, PAIRS)
    # as nnU-Net's first training would write them, where there was none yet
    own = folds_without_validating(nnunet_folder("nnUNet_preprocessed") / DATASET / FILE, cases, only_trained_on=())
    if not separated(own[:1], subjects):
        sys.exit(f"fold 0 in {FILE} of {DATASET} is not as nnU-Net draws it: it separates no subject.")
    work.begin([grouped_folds(subjects)[0], own[0]], plan=PLAN)
    work("sam2_3dmed", "plan", "-d", "4", *PLAN)


def verdict(values: list[float], reference: list[float]) -> str:
    """A difference is called one only where there are three seeds and those of the two do not overlap."""
    if min(len(values), len(reference)) < 3:
        return "too few seeds to say"
    if min(values) > max(reference):
        return "better with every seed"
    if max(values) < min(reference):
        return "worse with every seed"
    return "within the spread"


def tested(variant: list[dict[str, float]], full: list[dict[str, float]]) -> PairedTest:
    """Test over subjects, of the mean over the seeds and over the cases of each."""
    cases = sorted(full[0])
    differences = [mean(seed[case] for seed in variant) - mean(seed[case] for seed in full) for case in cases]
    return paired_test("Dice", "variant", "full", by_subject(pd.Series(differences, cases)).to_numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("-device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--name", default="hippocampus_fold0_ablations")
    args = parser.parse_args()
    work = Workplace(args.output, args.device, args.jobs)
    prepare(work)
    plans = json.loads((work.preprocessed / "nnUNetPlans.json").read_text())
    report = begin_report(RESULTS / f"{args.name}.json", {"configuration": plans["configurations"]["3d"]})
    planned = work.commands.copy()
    for seed in args.seeds:
        work.commands[:] = planned
        trainings = {ablation: training_of(ablation, seed) for ablation in (*ABLATIONS, OWN_FOLD)}
        work.train_all(list(trainings.values()))
        report["runs"][str(seed)] = {
            "machine": machine(args.device),
            "commands": work.commands.copy(),
            "dice_by_case": {ablation: work.dice(training) for ablation, training in trainings.items()},
        }
        text = table([run["dice_by_case"] for run in in_order(report)])
        RESULTS.mkdir(exist_ok=True)
        write_text(RESULTS / f"{args.name}.json", json.dumps(report, indent=1) + "\n")
        write_text(RESULTS / f"{args.name}.md", text)
        print(text)


def table(runs: list[dict[str, dict[str, float]]]) -> str:
    """Make the table of the Dice by ablation and case, for each seed."""
    results = {ablation: [run[ablation] for run in runs] for ablation in (*ABLATIONS, OWN_FOLD)}
    means = {ablation: [mean(cases.values()) for cases in seeds] for ablation, seeds in results.items()}
    others = [ablation for ablation in results if ablation not in ("full", OWN_FOLD)]
    corrected = correct([tested(results[ablation], results["full"]) for ablation in others])
    tests = dict(zip(others, corrected, strict=True))
    lines = [
        "| variant | foreground Dice of each seed | mean | standard deviation | against full | mean difference (95 % "
        "interval over subjects) | p (Holm) |",
        "|---|---|---|---|---|---|---|",
    ]
    for ablation, values in means.items():
        spread = f"{stdev(values):.3f}" if len(values) > 1 else ""
        cells = [ablation, ", ".join(f"{v:.3f}" for v in values), f"{mean(values):.3f}", spread]
        if ablation not in tests:
            cells += ["", "", ""]
        else:
            test = tests[ablation]
            cells += [
                verdict(values, means["full"]),
                f"{test.mean_difference:+.3f} ({test.low:+.3f} to {test.high:+.3f})",
                f"{test.p_holm:.3f}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "300 iterations each. All rows but the last one: folds that keep the two sides of a subject together; the last "
        "one has other validation cases. Three seeds of two alike variants lie apart once in ten times.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
