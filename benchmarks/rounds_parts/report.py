"""Result files of the rounds: Dice of each model on the test, of the masks that were revised, and the times."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunetv2_sam2_3dmed.annotation.record import read_record
from nnunetv2_sam2_3dmed.annotation.times_report import plot_times, time_table, times_of
from nnunetv2_sam2_3dmed.evaluation.statistics import Statistic, mean_interval, wilcoxon_p
from nnunetv2_sam2_3dmed.evaluation.tables import Table, as_markdown, interval, number, p_value, text_rows
from nnunetv2_sam2_3dmed.files import write_png, write_text
from rounds_parts.annotator import SECONDS_PER_BOX, SECONDS_PER_SLICE, VOXELS_PER_SECOND

SIMULATED = (
    "The person's seconds are simulated, not measured: a box in "
    f"{SECONDS_PER_BOX:g} s, {SECONDS_PER_SLICE:g} s to look at a slice, and {VOXELS_PER_SECOND:g} wrong voxels "
    "corrected per second. The machine's seconds were measured"
)


def test_scores(folder: Path) -> pd.Series:
    """Return the mean Dice over the objects of each case, by protocol and case."""
    scores = pd.read_csv(folder / "per_case.csv")
    return scores[scores["slices"] == "all"].groupby(["protocol", "case"])["dice"].mean()


def dice_table(scores: list[pd.Series]) -> Table:
    """Return the table of the models on the test, a row per prompt and model.

    Args:
        scores: see :func:`test_scores`; of each model in their order.
    """
    rows = []
    for protocol in scores[0].index.unique(level="protocol"):
        first = scores[0][protocol]
        for model, of_model in enumerate(scores):
            one = Statistic.of(of_model[protocol])
            texts = [protocol.replace("_", " "), str(model), str(one.n), number(one.mean, 4)]
            texts.append(f"{number(one.median, 4)} ({number(one.q1, 4)} to {number(one.q3, 4)})")
            if model:
                gain = (of_model[protocol] - first).dropna().to_numpy()
                texts.append(f"{number(float(gain.mean()), 4, sign=True)} {interval(*mean_interval(gain), 4)}")
                texts.append(p_value(wilcoxon_p(gain), len(gain)))
            else:
                texts += ["–", "–"]
            rows.append(texts)
    columns = ["prompt", "fine-tunings", "cases", "mean Dice", "median (quartiles)", "gain on the first model", "p"]
    note = (
        "cases that no training and no round has seen; Dice over all slices, of a case the mean over its objects. "
        "Gain: mean over cases, 95 % bootstrap interval, and Wilcoxon's p, not corrected for several tests"
    )
    return Table("The model after each round", columns, text_rows(rows), note)


def round_table(record: pd.DataFrame) -> Table:
    """Return the table of the masks that the annotator corrected, a row per round."""
    rows = []
    for name, own in record.groupby("round"):
        one = Statistic.of(own["dice"])
        sources = ", ".join(f"{count} {source}" for source, count in own["source"].value_counts().items())
        rows.append(
            [
                str(name),
                sources,
                number(one.mean, 4),
                f"{number(one.median, 4)} ({number(one.q1, 4)} to {number(one.q3, 4)})",
            ]
        )
    columns = ["round", "cases", "mean Dice", "median (quartiles)"]
    note = "Dice of the machine's masks with the final ones, on the images of the round, before any model has seen them"
    return Table("Masks that were revised", columns, text_rows(rows), note)


def write(rounds: Any, folder: Path, name: str, machine: dict[str, Any]) -> None:
    """Write all result files.

    Args:
        rounds: the rounds that have ended.
        folder: of the result files.
        name: of the result files, without ending.
        machine: facts about the machine.
    """
    count = len(rounds.args.epochs)
    scores = [test_scores(rounds.tested(number)) for number in range(count + 1)]
    record = pd.DataFrame(read_record(rounds.results.parent / "nnUNet_raw" / rounds.data.name).values())
    record["dice"] = record["dice"].astype(float)
    times = [one for number in range(1, count + 1) for one in times_of(rounds.folder(number))]
    notes = "".join(f"{note}\n\n" for note in rounds.args.note)
    text = f"{as_markdown(dice_table(scores))}\n\n{as_markdown(round_table(record))}\n\n{notes}"
    write_text(folder / f"{name}.md", text.rstrip("\n") + "\n")
    write_text(folder / f"{name}_times.md", f"{SIMULATED}.\n\n{as_markdown(time_table(times))}\n")
    plot_times(folder / f"{name}_times.png", times, "simulated annotator")
    plot_dice(folder / f"{name}.png", scores)
    report = {
        "machine": machine,
        "notes": rounds.args.note,
        "shares": vars(rounds.args.shares),
        "epochs": rounds.args.epochs,
        "cases": rounds.data.cases,
        "simulated_annotator": SIMULATED,
        "commands": rounds.run.commands,
        "dice": [{protocol: of[protocol].round(4).to_dict() for protocol in of.index.levels[0]} for of in scores],
        "dice_of_revised_masks": record[["round", "case", "source", "dice"]].to_dict("records"),
    }
    said = json.dumps(report, indent=1)
    for path, anywhere in ((rounds.work, "FOLDER"), (Path(os.path.abspath(rounds.args.data)), "DATA")):
        said = said.replace(str(path), anywhere)
    write_text(folder / f"{name}.json", said + "\n")
    print(text)


def plot_dice(file: Path, scores: list[pd.Series]) -> None:
    """Draw the Dice of all cases over the models as boxes, with their means."""
    with mpl.rc_context({"axes.spines.right": False, "axes.spines.top": False}):
        protocols = list(scores[0].index.unique(level="protocol"))
        figure = Figure(figsize=(3.2 * len(protocols), 3.5), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, protocol in zip(figure.subplots(1, len(protocols), sharey=True, squeeze=False)[0], protocols):
            axes.boxplot([of[protocol] for of in scores], positions=range(len(scores)), showmeans=True, widths=0.5)
            axes.set_title(protocol.replace("_", " "), fontsize=10)
            axes.set_xlabel("fine-tunings")
            axes.set_ylabel("Dice on unseen cases")
        write_png(file, figure)
