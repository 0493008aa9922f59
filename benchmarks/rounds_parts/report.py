"""Result files of the rounds: Dice of each model on the test, of the masks that were revised, and the times."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from case_groups import gain_note, gain_texts
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunetv2_sam2_3dmed.annotation.record import read_record
from nnunetv2_sam2_3dmed.annotation.times_report import plot_times, time_table, times_of
from nnunetv2_sam2_3dmed.evaluation.statistics import Statistic
from nnunetv2_sam2_3dmed.evaluation.tables import Table, as_markdown, number, text_rows
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


def dice_table(scores: list[pd.Series], controls: list[pd.Series]) -> Table:
    """Return the table of the models on the test, a row per prompt and model.

    Args:
        scores: see :func:`test_scores`; of each model in their order, the first one before any round.
        controls: of the models that were fine-tuned without new cases, in their order.
    """
    rows = []
    cases = scores[0].index.unique(level="case")
    for protocol in scores[0].index.unique(level="protocol"):
        models = [(str(model), of[protocol]) for model, of in enumerate(scores)]
        models += [(f"{model}, without new cases", of[protocol]) for model, of in enumerate(controls, start=1)]
        for name, dice in models:
            one = Statistic.of(dice)
            texts = [protocol.replace("_", " "), name, str(one.n), number(one.mean, 4)]
            texts.append(f"{number(one.median, 4)} ({number(one.q1, 4)} to {number(one.q3, 4)})")
            rows.append([*texts, *gain_texts(dice - models[0][1], 4)] if name != "0" else [*texts, "–", "–"])
        for model, control in enumerate(controls, start=1):
            texts = [protocol.replace("_", " "), f"{model}, with minus without new cases", "", "", ""]
            rows.append([*texts, *gain_texts(scores[model][protocol] - control[protocol], 4)])
    columns = ["prompt", "fine-tunings", "cases", "mean Dice", "median (quartiles)", "difference", "p"]
    note = (
        "cases that no training and no round has seen; Dice over all slices, of a case the mean over its objects. "
        f"Difference: from the first model, or as the row says, {gain_note(cases)}. Each model was trained once: p "
        "says whether these models differ, not whether the next training would come out the same way. Without new "
        "cases: the first model fine-tuned for as many epochs on the cases that it was trained on. Only the rows 'with "
        "minus without new cases' concern the new cases; in all others fine-tuning for longer counts as well"
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


def write(rounds: Any, folder: Path, name: str, machine: dict[str, Any], count: int) -> None:
    """Write all result files.

    Args:
        rounds: the rounds of which the first ones have ended.
        folder: of the result files.
        name: of the result files, without ending.
        machine: facts about the machine.
        count: number of rounds that have ended, with their controls.
    """
    scores = [test_scores(rounds.tested(number)) for number in range(count + 1)]
    controls = [test_scores(rounds.tested(number, control=True)) for number in range(1, count + 1)]
    record = pd.DataFrame(read_record(rounds.results.parent / "nnUNet_raw" / rounds.data.name).values())
    record = record[record["round"].isin([rounds.folder(number).name for number in range(1, count + 1)])]
    record = record.assign(dice=record["dice"].astype(float))
    times = [one for number in range(1, count + 1) for one in times_of(rounds.folder(number))]
    planned = len(rounds.args.epochs)
    so_far = [f"{count} of {planned} rounds, with their controls, have ended."] if count < planned else []
    notes = "".join(f"{note}\n\n" for note in (*so_far, *rounds.args.note))
    text = f"{as_markdown(dice_table(scores, controls))}\n\n{as_markdown(round_table(record))}\n\n{notes}"
    write_text(folder / f"{name}.md", text.rstrip("\n") + "\n")
    write_text(folder / f"{name}_times.md", f"{SIMULATED}.\n\n{as_markdown(time_table(times))}\n")
    plot_times(folder / f"{name}_times.png", times, "simulated annotator")
    plot_dice(folder / f"{name}.png", scores, controls)
    report = {
        "machine": machine,
        "notes": rounds.args.note,
        "shares": vars(rounds.args.shares),
        "epochs": rounds.args.epochs,
        "rounds_that_have_ended": count,
        "cases": rounds.data.cases,
        "simulated_annotator": SIMULATED,
        "commands": rounds.run.commands,
        "dice": [_by_protocol(of) for of in scores],
        "dice_without_new_cases": [_by_protocol(of) for of in controls],
        "dice_of_revised_masks": record[["round", "case", "source", "dice"]].to_dict("records"),
    }
    said = json.dumps(report, indent=1)
    for path, anywhere in ((rounds.work, "FOLDER"), (Path(os.path.abspath(rounds.args.data)), "DATA")):
        said = said.replace(str(path), anywhere)
    write_text(folder / f"{name}.json", said + "\n")
    print(text)


def _by_protocol(dice: pd.Series) -> dict[str, dict[str, float]]:
    return {protocol: dice[protocol].round(4).to_dict() for protocol in dice.index.unique(level="protocol")}


def plot_dice(file: Path, scores: list[pd.Series], controls: list[pd.Series]) -> None:
    """Draw the Dice of all cases over the models as boxes, with their means; controls beside them in grey."""
    with mpl.rc_context({"axes.spines.right": False, "axes.spines.top": False}):
        protocols = list(scores[0].index.unique(level="protocol"))
        figure = Figure(figsize=(3.2 * len(protocols), 3.5), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, protocol in zip(figure.subplots(1, len(protocols), sharey=True, squeeze=False)[0], protocols):
            rows = (
                (scores, list(range(len(scores))), "C0", "with the rounds' cases"),
                (controls, [n + 0.35 for n in range(1, len(controls) + 1)], "0.6", "without"),
            )
            for models, positions, colour, name in rows:
                line = {"color": colour}
                boxes = axes.boxplot(
                    [of[protocol] for of in models],
                    positions=positions,
                    showmeans=True,
                    widths=0.25,
                    boxprops=line,
                    whiskerprops=line,
                    capprops=line,
                    flierprops={"markeredgecolor": colour, "markersize": 3},
                )
                boxes["boxes"][0].set_label(name)
            axes.set_xticks(range(len(scores)), [str(number) for number in range(len(scores))])
            axes.set_title(protocol.replace("_", " "), fontsize=10)
            axes.set_xlabel("fine-tunings")
            axes.set_ylabel("Dice on unseen cases")
        axes.legend(fontsize=8, loc="lower right")
        write_png(file, figure)
