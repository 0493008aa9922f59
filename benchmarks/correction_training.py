"""Dice after corrections of a propagation, of models that were trained on such corrections and of others.

    eval "$(sam2_3dmed env)"     # with dataset 4 converted and preprocessed by nnU-Net
    python benchmarks/correction_training.py -o FOLDER --minutes 30 -device cpu --jobs 2 --image-size 96 \
        --patch-size 56 40 --slices 6 --batch-size 4                        # six trainings, two at a time
    python benchmarks/correction_training.py -o FOLDER --minutes 30 -device cuda

All trainings have the same number of minutes, three seeds of each kind, on folds that keep both sides of a subject
together. Then a simulated user prompts each object of the validation cases with the box on its middle slice, and after
each propagation clicks on the worst slice, three times (protocol box_corrected of prompt-benchmark).

Runs stock commands in nnU-Net folders under FOLDER, prints each, skips finished ones (an interrupted training continues
with --c), and writes benchmarks/results/correction_training_MINUTESmin_DEVICE.json, .md and _per_object.csv.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from statistics import mean

import pandas as pd
from equal_time import machine
from prompted_runs import add_options, facts_of, measure, prepare, training_of, write

from nnunetv2_sam2_3dmed.evaluation.statistics import mean_interval, wilcoxon_p
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


def gains(by_training: dict[str, list[pd.DataFrame]]) -> Table:
    """Return the table: Dice of each seed after each correction, and the paired difference over cases.

    Args:
        by_training: under both names, what :func:`dice_by_correction` returns for each seed.
    """
    rows = []
    cases = {name: [table.groupby("case").mean() for table in tables] for name, tables in by_training.items()}
    for corrections in CORRECTIONS:
        dice = {name: [table[corrections] for table in tables] for name, tables in cases.items()}
        texts = [str(corrections)]
        for name in (PLAIN, CORRECTED):
            seeds = [float(one.mean()) for one in dice[name]]
            texts += [", ".join(number(one, 3) for one in seeds), number(mean(seeds), 3)]
        averages = {name: pd.concat(tables, axis=1).mean(axis=1) for name, tables in dice.items()}
        differences = (averages[CORRECTED] - averages[PLAIN]).dropna().to_numpy()
        bounds = interval(*mean_interval(differences), 3, sign=True)
        texts.append(f"{number(float(differences.mean()), 3, sign=True)} {bounds}")
        texts.append(p_value(wilcoxon_p(differences), len(differences)))
        rows.append(texts)
    columns = ["corrections"]
    for name in (PLAIN, CORRECTED):
        columns += [f"{name}: mean Dice of each seed", f"{name}: mean"]
    note = (
        "Dice over all slices after the box on the middle slice and so many clicks after propagations; of a case the "
        "mean over its objects. Difference: with minus without, of the mean over the seeds, mean over cases, 95 % "
        "bootstrap interval, and Wilcoxon's p, not corrected for several tests. It says whether these models differ; "
        "whether the next training would come out the same way, only the seeds tell"
    )
    title = "Trained with and without corrections of propagated slices"
    return Table(title, [*columns, "difference", "p"], text_rows(rows), note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    work = prepare(args)
    trainers = {PLAIN: args.trainer, CORRECTED: f"{args.trainer}_corrected"}
    # both kinds beside each other, so that noise meets them alike
    runs = {
        (name, seed): training_of(trainers[name], args.minutes, seed) for seed, name in product(args.seeds, trainers)
    }
    work.train_all(list(runs.values()), keep=True)
    outputs = {run: work.fold_folder(training) / PROTOCOL for run, training in runs.items()}
    with work.share_cores() as pool:
        measured = pool.map(lambda run: measure(work, runs[run], outputs[run], args, PROTOCOL), runs)
        benchmarks = {f"{name}, seed {seed}": one for (name, seed), one in zip(runs, measured, strict=True)}
    tables = {run: dice_by_correction(pd.read_csv(output / "interactions.csv")) for run, output in outputs.items()}

    report = {
        "budget_minutes": args.minutes,
        "trainings_at_a_time": args.jobs,
        "notes": args.note,
        "machine": machine(args.device),
        "commands": work.commands,
        "trainings": {f"{name}, seed {seed}": facts_of(work, training) for (name, seed), training in runs.items()},
        "benchmarks": benchmarks,
    }
    text = as_markdown(gains({name: [tables[name, seed] for seed in args.seeds] for name in trainers})) + "\n"
    text += f"\n{args.minutes} minutes each on {report['machine'].get('gpu', report['machine'].get('cpu'))}, "
    text += f"{args.jobs} trainings at a time. "
    epochs = (f"{name} corrections {facts['epochs']}" for name, facts in report["trainings"].items())
    text += f"Epochs: {', '.join(epochs)}.\n" + "".join(f"\n{note}\n" for note in args.note)
    name = f"correction_training_{args.minutes}min_{args.device}"
    write(args.results / f"{name}.json", json.dumps(report, indent=1) + "\n", work)
    write(args.results / f"{name}.md", text, work)
    long = pd.concat(tables, names=["trained", "seed"]).round(4)
    write(args.results / f"{name}_per_object.csv", long.to_csv(), work)
    print(text)


if __name__ == "__main__":
    main()
