"""Train a promptable model on one fold of MSD hippocampus from random weights, and measure it with simulated prompts.

    eval "$(sam2_3dmed env)"     # with dataset 4 converted and preprocessed by nnU-Net
    python benchmarks/prompt_training.py -o FOLDER --minutes 45 -device cpu --image-size 96 --patch-size 56 40 \
        --slices 6 --batch-size 4                                           # two CPU cores
    python benchmarks/prompt_training.py -o FOLDER --minutes 20 -device cuda

Folds keep both sides of a subject together. Runs stock commands in nnU-Net folders under FOLDER, prints each, skips
finished ones (an interrupted training continues with --c), and writes benchmarks/results/NAME.json, NAME.md and
NAME_per_case.csv: Dice and NSD of the validation cases for each protocol.
"""

from __future__ import annotations

import argparse
import json

from equal_time import DATASET, machine
from prompted_runs import add_options, facts_of, measure, origin, prepare, training_of, write

PROTOCOLS = ("clicks", "1_mask", "box", "boxes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    args = parser.parse_args()

    work = prepare(args)
    training = training_of(args.trainer, args.minutes, seed=0)
    work.train_all([training], keep=True)
    output = work.fold_folder(training) / "prompt_benchmark"
    benchmark = measure(work.with_all_cores(), training, output, args, *PROTOCOLS)

    name = f"prompts_hippocampus_fold0_{args.minutes}min_{args.device}"
    report = {
        "budget_minutes": args.minutes,
        "trainings_at_a_time": args.jobs,
        "notes": args.note,
        "machine": machine(args.device),
        "commands": work.commands,
        "training": facts_of(work, training),
        "dataset": DATASET,
        "benchmark": benchmark,
    }
    text = (output / "prompt_benchmark.md").read_text() + origin(training, report["machine"], args)
    write(args.results / f"{name}.json", json.dumps(report, indent=1) + "\n", work)
    write(args.results / f"{name}.md", text, work)
    write(args.results / f"{name}_per_case.csv", (output / "per_case.csv").read_text(), work)
    print(text)


if __name__ == "__main__":
    main()
