"""Dice after corrections of a propagation, with a model that was trained on such corrections and with one that was not.

    eval "$(sam2_3dmed env)"
    python benchmarks/correction_training.py --minutes 45 -device cpu --image-size 96 --patch-size 56 40 --slices 6 \
        --batch-size 4                                                      # two CPU cores, twice 45 minutes
    python benchmarks/correction_training.py --minutes 60 -device cuda

Hippocampus, fold 0, must be planned and preprocessed (benchmarks/equal_time.py does it). Both trainings have the same
number of minutes. Then a simulated user prompts each object of the validation cases with the box on its middle slice,
and after each propagation clicks on the worst slice, three times (protocol box_corrected of prompt-benchmark).

Runs stock commands only, prints each, skips finished ones (an interrupted training continues with --c), and writes
benchmarks/results/correction_training_MINUTESmin_DEVICE.json, .md and _per_object.csv.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import pandas as pd
from equal_time import Runner, machine
from prompted_runs import add_options, facts_of, measure, plan, train, write

from nnunetv2_sam2_3dmed.evaluation.statistics import Statistic, mean_interval, wilcoxon_p
from nnunetv2_sam2_3dmed.evaluation.tables import Table, as_markdown, interval, number, p_value, text_rows

PROTOCOL = "box_corrected"
PLAIN, CORRECTED = "without", "with"
CORRECTIONS = range(4)


def dice_by_correction(interactions: pd.DataFrame) -> pd.DataFrame:
    """Return the Dice of each object (rows) after 0, 1, 2 and 3 corrections (columns).

    Where an object was whole earlier, its last Dice stays.

    Args:
        interactions: content of ``interactions.csv``.
    """
    own = interactions[interactions["protocol"] == PROTOCOL]
    table = own.pivot(index=["case", "class"], columns="round", values="dice")
    table.columns = [int(turn) - 1 for turn in table.columns]
    return table.reindex(columns=list(CORRECTIONS)).ffill(axis=1)


def gains(by_training: dict[str, pd.DataFrame]) -> Table:
    """Return the table: mean and median Dice after each correction, and the paired difference of means over cases."""
    rows = []
    cases = {name: table.groupby("case").mean() for name, table in by_training.items()}
    for corrections in CORRECTIONS:
        texts = [str(corrections)]
        for name in (PLAIN, CORRECTED):
            one = Statistic.of(cases[name][corrections])
            texts += [number(one.mean, 4), f"{number(one.median, 4)} ({number(one.q1, 4)} to {number(one.q3, 4)})"]
        differences = (cases[CORRECTED][corrections] - cases[PLAIN][corrections]).dropna().to_numpy()
        texts.append(f"{number(float(np.mean(differences)), 4, sign=True)} {interval(*mean_interval(differences), 4)}")
        texts.append(p_value(wilcoxon_p(differences), len(differences)))
        rows.append(texts)
    columns = ["corrections"]
    for name in (PLAIN, CORRECTED):
        columns += [f"{name}: mean Dice", f"{name}: median (quartiles)"]
    note = (
        "Dice over all slices after the box on the middle slice and so many clicks after propagations; of a case the "
        "mean over its objects. Difference: with minus without, mean over cases, 95 % bootstrap interval, and "
        "Wilcoxon's p, not corrected for several tests"
    )
    title = "Trained with and without corrections of propagated slices"
    return Table(title, [*columns, "difference", "p"], text_rows(rows), note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    args = parser.parse_args()
    run = Runner(dry=False)
    plan(run, args)
    trainers = {
        PLAIN: f"{args.trainer}_{args.minutes}minutes",
        CORRECTED: f"{args.trainer}_corrected_{args.minutes}minutes",
    }
    tables, benchmarks = {}, {}
    for name, trainer in trainers.items():
        fold = train(run, trainer, args.device)
        benchmarks[name] = measure(run, fold, fold / PROTOCOL, args, PROTOCOL)
        tables[name] = dice_by_correction(pd.read_csv(fold / PROTOCOL / "interactions.csv"))

    report = {
        "budget_minutes": args.minutes,
        "notes": args.note,
        "machine": machine(args.device),
        "commands": run.commands,
        "trainings": {name: facts_of(trainer) for name, trainer in trainers.items()},
        "benchmarks": benchmarks,
    }
    text = as_markdown(gains(tables)) + "\n"
    text += f"\n{args.minutes} minutes each on {report['machine'].get('gpu', report['machine'].get('cpu'))}. "
    epochs = (f"{name} corrections {facts['epochs']}" for name, facts in report["trainings"].items())
    text += f"Epochs: {', '.join(epochs)}.\n" + "".join(f"\n{note}\n" for note in args.note)
    name = f"correction_training_{args.minutes}min_{args.device}"
    write(args.results / f"{name}.json", json.dumps(report, indent=1) + "\n")
    write(args.results / f"{name}.md", text)
    long = pd.concat(tables, names=["trained"]).round(4)
    write(args.results / f"{name}_per_object.csv", long.to_csv())
    print(text)


if __name__ == "__main__":
    main()
