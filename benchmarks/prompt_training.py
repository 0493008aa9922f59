"""Train a promptable model on one fold of MSD hippocampus from random weights, and measure it with simulated prompts.

    eval "$(sam2_3dmed env)"
    python benchmarks/prompt_training.py --minutes 45 -device cpu --image-size 96 --patch-size 56 40 --slices 6 \
        --batch-size 4                                                      # two CPU cores
    python benchmarks/prompt_training.py --minutes 20 -device cuda

Hippocampus must be planned and preprocessed (benchmarks/equal_time.py does it). Runs stock commands only, prints each,
skips finished ones (an interrupted training continues with --c), and writes benchmarks/results/NAME.json, NAME.md and
NAME_per_case.csv: Dice and NSD of the validation cases for each protocol.
"""

from __future__ import annotations

import argparse
import json

from equal_time import DATASET, Runner, machine
from prompted_runs import add_options, facts_of, measure, plan, train, write

PROTOCOLS = ("clicks", "1_mask", "box", "boxes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    args = parser.parse_args()

    run = Runner(dry=False)
    plan(run, args)
    trainer = f"{args.trainer}_{args.minutes}minutes"
    fold = train(run, trainer, args.device)
    output = fold / "prompt_benchmark"
    benchmark = measure(run, fold, output, args, *PROTOCOLS)

    name = f"prompts_hippocampus_fold0_{args.minutes}min_{args.device}"
    report = {
        "budget_minutes": args.minutes,
        "notes": args.note,
        "machine": machine(args.device),
        "commands": run.commands,
        "training": facts_of(trainer),
        "dataset": DATASET,
        "benchmark": benchmark,
    }
    notes = "".join(f"\n{note}\n" for note in args.note)
    write(args.results / f"{name}.json", json.dumps(report, indent=1) + "\n")
    write(args.results / f"{name}.md", (output / "prompt_benchmark.md").read_text() + notes)
    write(args.results / f"{name}_per_case.csv", (output / "per_case.csv").read_text())
    print((args.results / f"{name}.md").read_text())


if __name__ == "__main__":
    main()
