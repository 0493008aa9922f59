"""Dice after corrections of a propagation, of models that were trained on such corrections and of others.

    eval "$(sam2_3dmed env)"     # with dataset 4 converted and preprocessed by nnU-Net
    python benchmarks/correction_training.py -o FOLDER --minutes 30 -device cpu --jobs 2 --image-size 96 \
        --patch-size 56 40 --slices 6 --batch-size 4                        # six trainings, two at a time
    python benchmarks/correction_training.py -o FOLDER --minutes 30 -device cuda

All trainings have the same number of minutes, three seeds of each kind, on folds that keep both sides of a subject
together. Then a simulated user prompts each object of the validation cases with the box on its middle slice, and after
each propagation clicks on the worst slice, three times: once with the first and the last slice of the object given
(protocol box_within_corrected of prompt-benchmark), once without (box_corrected), where many a click is on a slice
beyond the object.

Runs stock commands in nnU-Net folders under FOLDER, prints each, skips finished ones (an interrupted training continues
with --c), and writes benchmarks/results/correction_training_MINUTESmin_DEVICE.json, with the Dice of each object, and
.md after each seed, to which other runs can add theirs (``--seeds 2``). Results of another --trainer than the default
have its name; TRAINER_corrected has to exist, as of EverySlicePromptTrainer in benchmarks/trainers.
"""

from __future__ import annotations

import argparse
import json
from statistics import mean
from typing import Any

import pandas as pd
from case_groups import gain_note, gain_texts
from equal_time import machine
from prompted_runs import RANDOM_WEIGHTS, add_options, facts_of, measure, plan_options, prepare, training_of, write
from reports import Report, begin_report, in_order, numbers, processor
from workplace import Workplace

from nnunetv2_sam2_3dmed.evaluation.tables import Table, as_markdown, number, text_rows

PROTOCOLS = {"box_within_corrected": "first and last slice given", "box_corrected": "any slice"}
PLAIN, CORRECTED = "without", "with"
CORRECTIONS = range(4)


def dice_by_correction(interactions: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Return the Dice of each object (rows) after 0, 1, 2 and 3 corrections (columns).

    Where an object was whole earlier, its last Dice stays.

    Args:
        interactions: content of ``interactions.csv``.
        protocol: one of :data:`PROTOCOLS`.
    """
    own = interactions[interactions["protocol"] == protocol]
    table = own.pivot(index=["case", "class"], columns="round", values="dice")
    table.columns = [int(turn) - 1 for turn in table.columns]
    return table.reindex(columns=list(CORRECTIONS)).ffill(axis=1)


def gains(title: str, by_training: dict[str, list[pd.DataFrame]]) -> Table:
    """Return the table: Dice of each seed after each correction, and the paired difference.

    Args:
        title: of the table.
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
        rows.append([*texts, *gain_texts(averages[CORRECTED] - averages[PLAIN], 3)])
    columns = ["corrections"]
    for name in (PLAIN, CORRECTED):
        columns += [f"{name}: mean Dice of each seed", f"{name}: mean"]
    note = (
        "Dice over all slices after the box on the middle slice and so many clicks after propagations; of a case the "
        "mean over its objects. Difference: with minus without, of the mean over the seeds, "
        f"{gain_note(cases[PLAIN][0].index)}. It says whether these models differ; whether the next training would "
        "come out the same way, only the seeds tell"
    )
    return Table(title, [*columns, "difference", "p"], text_rows(rows), note)


def summary(report: Report) -> str:
    """Make the table, and say how it was made."""
    runs = in_order(report)
    text = "\n\n".join(
        as_markdown(
            gains(
                f"Trained with and without corrections of propagated slices, {named}",
                {name: [by_object(run["dice"][protocol][name]) for run in runs] for name in (PLAIN, CORRECTED)},
            )
        )
        for protocol, named in PROTOCOLS.items()
    )
    settings, machines = report["settings"], dict.fromkeys(processor(run["machine"]) for run in runs)
    text += f"\n\n{settings['budget_minutes']} minutes each on {', '.join(machines)}, "
    text += f"{settings['trainings_at_a_time']} trainings at a time. Epochs: "
    epochs = [
        f"{run['trainings'][name]['epochs']} {name} corrections (seed {seed})"
        for seed, run in zip(numbers(report), runs, strict=True)
        for name in (PLAIN, CORRECTED)
    ]
    notes = dict.fromkeys(note for run in runs for note in run["notes"])
    return text + f"{', '.join(epochs)}.\n" + "".join(f"\n{note}\n" for note in notes)


def by_case(table: pd.DataFrame) -> dict[str, dict[str, list[float]]]:
    """Return what :func:`dice_by_correction` does as case -> class -> Dice after each correction."""
    found: dict[str, dict[str, list[float]]] = {}
    for (case, label), row in table.round(4).iterrows():
        found.setdefault(case, {})[label] = row.tolist()
    return found


def by_object(dice: dict[str, dict[str, list[float]]]) -> pd.DataFrame:
    """Return a table like that of :func:`dice_by_correction`."""
    rows = {(case, label): values for case, labels in dice.items() for label, values in labels.items()}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(CORRECTIONS))
    table.index = pd.MultiIndex.from_tuples(rows, names=["case", "class"])
    return table


def run(work: Workplace, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train and measure both kinds with a seed."""
    # both kinds beside each other, so that noise meets them alike
    trainings = {
        name: training_of(trainer, args.minutes, seed)
        for name, trainer in ((PLAIN, args.trainer), (CORRECTED, f"{args.trainer}_corrected"))
    }
    work.train_all(list(trainings.values()), keep=True)
    outputs = {name: work.fold_folder(training) / "corrections" for name, training in trainings.items()}
    with work.share_cores() as pool:
        measured = pool.map(lambda name: measure(work, trainings[name], outputs[name], args, *PROTOCOLS), trainings)
        benchmarks = dict(zip(trainings, measured, strict=True))
    tables = {name: pd.read_csv(output / "interactions.csv") for name, output in outputs.items()}
    return {
        "notes": args.note,
        "machine": machine(args.device),
        "trainings": {name: facts_of(work, training) for name, training in trainings.items()},
        "benchmarks": benchmarks,
        "dice": {
            protocol: {name: by_case(dice_by_correction(table, protocol)) for name, table in tables.items()}
            for protocol in PROTOCOLS
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    trainer = "" if args.trainer == RANDOM_WEIGHTS else f"{args.trainer}_"
    file = args.results / f"correction_training_{trainer}{args.minutes}min_{args.device}.json"
    settings = {
        "budget_minutes": args.minutes,
        "trainings_at_a_time": args.jobs,
        "trainer": args.trainer,
        "plan": plan_options(args),
        "cases": args.cases or "all validation cases",
    }
    report = begin_report(file, settings)
    work = prepare(args)
    planned = work.commands.copy()
    for seed in args.seeds:
        work.commands[:] = planned
        report["runs"][str(seed)] = {**run(work, seed, args), "commands": work.commands.copy()}
        text = summary(report)
        write(file, json.dumps(report, indent=1) + "\n", work)
        write(file.with_suffix(".md"), text, work)
        print(text)


if __name__ == "__main__":
    main()
