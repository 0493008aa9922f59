"""Table of an experiment as publications have it, datasets as columns, and the gain in Dice per added point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunetv2_sam2_3dmed.evaluation.published_prompts import ALL, MEAN, MEDIAN, PROMPTED, PublishedResult, published_for
from nnunetv2_sam2_3dmed.evaluation.scores import FOREGROUND
from nnunetv2_sam2_3dmed.evaluation.statistics import Statistic
from nnunetv2_sam2_3dmed.evaluation.tables import NOTHING, Table, as_markdown, number, text_rows
from nnunetv2_sam2_3dmed.files import write_png
from nnunetv2_sam2_3dmed.prompt_evaluation.benchmark import AREAS
from nnunetv2_sam2_3dmed.prompt_evaluation.experiment_file import PromptExperiment
from nnunetv2_sam2_3dmed.prompt_evaluation.measurements import Measured
from nnunetv2_sam2_3dmed.prompt_evaluation.protocols import Protocol
from nnunetv2_sam2_3dmed.prompt_evaluation.results import ClickRow, ScoreRow, click_rows, score_rows

NOTE = (
    "Dice and NSD in per cent, of this run over all training cases; a median has its first and third quartile in "
    "brackets where they are known. Published figures are of other software, other tolerances of NSD and, on the "
    "leaderboard, other cases; a dash is a figure that was not published. Salient: slices with more than 256 voxels of "
    "the object"
)


def as_text(
    experiment: PromptExperiment,
    chosen: Sequence[Protocol],
    measured: Mapping[str, Measured],
    image_size: int,
    warnings: Mapping[str, Sequence[str]],
) -> str:
    """Return the experiment's page: the table with published figures, and the gain per added point.

    Args:
        experiment: content of the file.
        chosen: protocols.
        measured: measurements by dataset.
        image_size: side in pixels to which slices were resized.
        warnings: of each run, by dataset.
    """
    said = dict.fromkeys(warning for of_dataset in warnings.values() for warning in of_dataset)
    about = {warning: ", ".join(name for name, own in warnings.items() if warning in own) for warning in said}
    cases = "; ".join(f"{name}: {len(one.encoding_seconds)} cases" for name, one in measured.items())
    parts = [
        f"# {experiment.title}",
        f"Model {experiment.model}, images of {image_size} pixels. {cases}. Each dataset's folder has all options, "
        "scores per case, and what failed.",
        *(f"**Warning** ({names}): {warning}" for warning, names in about.items()),
        as_markdown(score_table(experiment, chosen, measured)),
    ]
    for protocol in chosen:
        if protocol.name.endswith("_clicks"):
            parts.append(as_markdown(gain_table(protocol.name, measured)))
    return "\n\n".join(parts) + "\n"


def score_table(experiment: PromptExperiment, chosen: Sequence[Protocol], measured: Mapping[str, Measured]) -> Table:
    """Return the table: published methods and prompts, and below each prompt the mean and the median of this run."""
    names = [protocol.name for protocol in chosen]
    published = {name: published_for(name, names) for name in measured}
    everything = [result for results in published.values() for result in results]
    rows = [
        _published_row(key, published)
        for key in dict.fromkeys(_key(result) for result in everything if result.kind != PROMPTED)
    ]
    found = {name: {(row.protocol, row.area): row for row in _whole(one)} for name, one in measured.items()}
    for area in AREAS:
        for protocol in names:
            same = [r for r in everything if (r.prompt, r.area) == (protocol, area)]
            rows += [_published_row(key, published) for key in dict.fromkeys(map(_key, same))]
            words = protocol.replace("_", " ") + ("" if area == ALL else ", salient")
            ours = [of_dataset.get((protocol, area)) for of_dataset in found.values()]
            for statistic, figures in ((MEAN, _means), (MEDIAN, _medians)):
                rows.append([f"this run: {experiment.model}", words, statistic, *(t for r in ours for t in figures(r))])
    columns = ["method", "prompt", "statistic", *(f"{name} {score}" for name in measured for score in ("Dice", "NSD"))]
    return Table("", columns, text_rows(rows), f"{NOTE}. NSD of this run: {_tolerances(experiment, measured)}.")


def gain_table(protocol: str, measured: Mapping[str, Measured]) -> Table:
    """Return the gain in mean Dice per added point of each round, and Dice of volume and slice, in per cent."""
    rounds = {name: click_rows(one, protocol) for name, one in measured.items()}
    rows = []
    for index in range(max(map(len, rounds.values()), default=0)):
        texts = []
        for of_dataset in rounds.values():
            if index < len(of_dataset):
                row = of_dataset[index]
                texts += [f"{100 * row.gain:+.2f}", _median(row), f"{100 * row.slice_dice:.2f}"]
            else:
                texts += [NOTHING] * 3
        rows.append([str(index + 1), *texts])
    columns = ["round", *(f"{name} {what}" for name in measured for what in ("gain", "median Dice", "slice's Dice"))]
    note = (
        "mean Dice of the volume gained per added point, median Dice (first to third quartile), and mean Dice of the "
        "slice that is clicked on, in per cent"
    )
    return Table(f"`{protocol}`, one point per round", columns, text_rows(rows), note)


def plot_gain(file: Path, protocol: str, measured: Mapping[str, Measured]) -> None:
    """Draw the gain in Dice per added point as bars, a group for each round, as Figure 3 of arXiv 2408.02635 does."""
    with mpl.rc_context({"axes.spines.right": False, "axes.spines.top": False}):
        figure = Figure(figsize=(5.0, 3.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        width = 0.8 / len(measured)
        for index, (name, one) in enumerate(measured.items()):
            rows = click_rows(one, protocol)
            places = np.array([row.number for row in rows]) + (index - (len(measured) - 1) / 2) * width
            axes.bar(places, [row.gain for row in rows], width, label=name)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xlabel("round of one point")
        axes.set_ylabel("gain in mean Dice per added point")
        axes.set_xticks(sorted({row.number for one in measured.values() for row in click_rows(one, protocol)}))
        axes.legend(frameon=False)
        write_png(file, figure)


def _whole(measured: Measured) -> list[ScoreRow]:
    """Return a row per protocol and area: of the only class, or the mean over the classes."""
    rows = score_rows(measured)
    several = len({row.class_name for row in rows}) > 1
    return [row for row in rows if not several or row.class_name == FOREGROUND]


def _key(result: PublishedResult) -> tuple[str, str, str]:
    return result.method, result.prompt_and_area, result.statistic


def _published_row(key: tuple[str, str, str], published: Mapping[str, Sequence[PublishedResult]]) -> list[str]:
    row = list(key)
    for results in published.values():
        result = next((r for r in results if _key(r) == key), None)
        row += ["–", "–"] if result is None else [_published_dice(result), result.nsd or "–"]
    return row


def _published_dice(result: PublishedResult) -> str:
    q1, q3 = result.quartiles
    return f"{result.dice} ({q1} to {q3})" if q1 and q3 else result.dice


def _tolerances(experiment: PromptExperiment, datasets: Iterable[str]) -> str:
    """Return the tolerance of NSD on each dataset, and where it comes from, in words."""
    found = [(name, experiment.tolerance_of(name)) for name in datasets]
    return "; ".join(f"{name} at {tolerance.mm:g} mm ({tolerance.source})" for name, tolerance in found)


def _means(row: ScoreRow | None) -> list[str]:
    return ["–", "–"] if row is None else [number(100 * score.mean, 2) for score in (row.dice, row.nsd)]


def _medians(row: ScoreRow | None) -> list[str]:
    return ["–", "–"] if row is None else [_median(score) for score in (row.dice, row.nsd)]


def _median(score: Statistic | ClickRow) -> str:
    return f"{100 * score.median:.2f} ({100 * score.q1:.2f} to {100 * score.q3:.2f})"
