"""Seconds per lesion and per slice over rounds, beside MedSAM2's (Fig. 3): a table, a CSV and a plot."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from nnunetv2_sam2_3dmed.annotation.times import MANUAL, OUTLINE, PROMPT, STAGES, VOLUME, StageTime, read_times
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.published import read_published
from nnunetv2_sam2_3dmed.evaluation.statistics import Statistic
from nnunetv2_sam2_3dmed.evaluation.tables import Table, as_markdown, number, text_rows
from nnunetv2_sam2_3dmed.files import write_png, write_text

NAME = "annotation_times"
PUBLISHED = "medsam2_annotation_times.csv"
WITH_MODEL = (PROMPT, OUTLINE, VOLUME)
_NOTE = (
    "seconds of a person's work; an object counts once a person has revised its volume, if it was not erased and all "
    "of its stages were timed. A lesion is an object of a case, with the mean and the median over objects; the "
    "seconds per slice are those of all objects by all slices of the model's volumes, by hand by the slices in their "
    "rows. The machine's seconds are those of all measured stages of an object of which it made a volume. Rows marked "
    "as published are means of MedSAM2's user studies (arXiv 2504.03600, Results and Fig. 3), of other images, people "
    "and programs; a frame is one of a video, and a dash is a figure that was not published"
)
# fields of RoundTimes, and what the note says of their objects
_REASONS = {
    "unrevised": "whose volume was not revised yet, or not timed, {are} left out",
    "erased": "that a person erased, or did not find, {are} left out",
    "untimed": "with another stage that was not timed {are} left out",
}
_UNREVISED, _ERASED, _UNTIMED = _REASONS
_COLUMNS = (
    *("annotation", "round", "objects", "left out", "s per lesion, mean", "s per lesion, median (quartiles)"),
    *("s per slice or frame", "prompt", "outline", "volume", "machine, s per lesion, mean"),
)


@dataclass(frozen=True)
class RoundTimes:
    """Times of a round, or of objects that were segmented by hand.

    Attributes:
        name: name of the round's folder.
        manual: segmented without the model.
        objects: seconds of a person per object, over all stages, with its slices where they are known.
        stages: mean seconds of a person per object by stage, over the same objects; NaN for stages that none has.
        machine: seconds of the machine per object that it made a volume of.
        unrevised: number of objects whose volume no person has revised yet.
        erased: number of objects that a person erased, or did not find in the image.
        untimed: number of other objects with a stage that was not timed.
    """

    name: str
    manual: bool
    objects: list[tuple[float, int | None]]
    stages: dict[str, float]
    machine: Statistic
    unrevised: int
    erased: int
    untimed: int

    @property
    def left_out(self) -> int:
        """Number of objects that do not count."""
        return self.unrevised + self.erased + self.untimed

    @property
    def per_lesion(self) -> Statistic:
        """Seconds of a person per object."""
        return Statistic.of([seconds for seconds, _ in self.objects])

    @property
    def per_slice(self) -> float:
        """Seconds of a person per slice, of objects whose slices are known; NaN without any slice."""
        return _per_slice(self.objects)


def _per_slice(objects: Sequence[tuple[float, int | None]]) -> float:
    known = [(seconds, slices) for seconds, slices in objects if slices is not None]
    slices = sum(number for _, number in known)
    return sum(seconds for seconds, _ in known) / slices if slices else math.nan


def times_of(round_folder: Path) -> list[RoundTimes]:
    """Return the times of a round, those by hand first; none for a kind of which nothing was timed.

    Raises:
        UserError: the round has no times, or they cannot be read.
    """
    times = read_times(round_folder)
    if not times:
        raise UserError(
            f"{round_folder} has no times.csv: give the folders of rounds that were made by `sam2_3dmed annotate`."
        )
    volumes = {(one.case, one.label): one.slices for one in times if one.stage == VOLUME}
    found = []
    for manual in (True, False):
        own: dict[tuple[str, int], dict[str, StageTime]] = defaultdict(dict)
        for one in times:
            if (one.stage == MANUAL) == manual:
                own[one.case, one.label][one.stage] = one
        why = {place: _reason_against(stages, MANUAL if manual else VOLUME) for place, stages in own.items()}
        timed = [(place, list(stages.values())) for place, stages in own.items() if why[place] is None]
        if manual and not timed:
            continue
        objects = []
        for place, stages in timed:
            drawn = stages[0].slices if manual else None  # by hand there is one stage
            objects.append((sum(one.person or 0.0 for one in stages), volumes.get(place) if drawn is None else drawn))
        by_stage = {
            stage: Statistic.of([one.person or 0.0 for _, stages in timed for one in stages if one.stage == stage]).mean
            for stage in WITH_MODEL
        }
        machines = [
            sum(one.machine or 0.0 for one in stages.values())
            for stages in own.values()
            if VOLUME in stages and stages[VOLUME].machine is not None
        ]
        found.append(
            RoundTimes(
                round_folder.resolve().name,
                manual,
                objects,
                by_stage,
                Statistic.of(machines),
                *(sum(reason == against for reason in why.values()) for against in _REASONS),
            )
        )
    return found


def _reason_against(stages: Mapping[str, StageTime], last: str) -> str | None:
    """Return why an object does not count, one of ``_REASONS``; None if it does.

    Args:
        stages: its times by stage.
        last: the stage with which it is complete.
    """
    revised = [stages[stage] for stage in STAGES if stage in stages and stages[stage].person is not None]
    if revised and revised[-1].person_voxels == 0:
        return _ERASED
    if last not in stages or stages[last].person is None:
        return _UNTIMED if last == MANUAL else _UNREVISED
    return _UNTIMED if len(revised) < len(stages) else None


def time_table(rounds: Sequence[RoundTimes]) -> Table:
    """Return the table, the published rows last."""
    rows = []
    for one in rounds:
        lesion = one.per_lesion
        median = number(lesion.median, 1)
        quartiles = f" ({number(lesion.q1, 1)} to {number(lesion.q3, 1)})" if lesion.n else ""
        stages = [number(one.stages[stage], 1) for stage in WITH_MODEL]
        rows.append(
            [
                *("by hand" if one.manual else "with the model", one.name, str(lesion.n), str(one.left_out)),
                *(number(lesion.mean, 1), median + quartiles, number(one.per_slice, 2)),
                *(stages if not one.manual else ["–"] * len(stages)),
                number(one.machine.mean, 2),
            ]
        )
    for row in read_published(PUBLISHED):
        seconds = [row["seconds"], "–", "–"] if row["unit"] == "lesion" else ["–", "–", row["seconds"]]
        rows.append([f"published: {row['study']}", row["round"], row["annotated"], "–", *seconds, *["–"] * 4])
    return Table("Annotation times", _COLUMNS, text_rows(rows), _NOTE + _said_of_left_out(rounds))


def _said_of_left_out(rounds: Sequence[RoundTimes]) -> str:
    """Return what the note says of objects that do not count; empty if all do."""
    numbers = {reason: sum(getattr(one, reason) for one in rounds) for reason in _REASONS}
    return "".join(
        f". {many} {'object' if many == 1 else 'objects'} {_REASONS[reason].format(are='is' if many == 1 else 'are')}"
        for reason, many in numbers.items()
        if many
    )


def write_times(rounds: Sequence[RoundTimes], folder: Path) -> str:
    """Write ``annotation_times.md``, ``.csv`` and ``.png`` into a folder; return the table as Markdown.

    Raises:
        UserError: a file cannot be written.
    """
    table = time_table(rounds)
    text = as_markdown(table) + "\n"
    write_text(folder / f"{NAME}.md", text)
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([table.columns, *([c.text for c in row] for row in table.rows)])
    write_text(folder / f"{NAME}.csv", stream.getvalue())
    plot_times(folder / f"{NAME}.png", rounds)
    return text


def plot_times(file: Path, rounds: Sequence[RoundTimes], name: str = "these rounds") -> None:
    """Draw mean seconds per lesion and per slice over rounds, published ones dashed, as MedSAM2's Fig. 3 b, e and h.

    Args:
        file: the PNG.
        rounds: the rounds in their order, and objects that were segmented by hand.
        name: of the rounds, in the legend.
    """
    with mpl.rc_context({"axes.spines.right": False, "axes.spines.top": False}):
        figure = Figure(figsize=(9.0, 4.0), layout="constrained")
        FigureCanvasAgg(figure)
        with_model = [one for one in rounds if not one.manual]
        by_hand = [timed for one in rounds if one.manual for timed in one.objects]
        for axes, unit in zip(figure.subplots(1, 2), ("lesion", "frame"), strict=True):
            figures = [one.per_lesion.mean if unit == "lesion" else one.per_slice for one in with_model]
            points = [(place, value) for place, value in enumerate(figures, start=1) if not math.isnan(value)]
            hand = Statistic.of([seconds for seconds, _ in by_hand]).mean if unit == "lesion" else _per_slice(by_hand)
            points = points if math.isnan(hand) else [(0, hand), *points]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", color="black", label=name)
            published: dict[str, list[tuple[int, float]]] = defaultdict(list)
            for row in read_published(PUBLISHED):
                if row["unit"] == unit:
                    place = 0 if row["round"] == "manual" else int(row["round"])
                    published[row["study"]].append((place, float(row["seconds"])))
            for study, values in published.items():
                axes.plot(*zip(*values, strict=True), "--", marker=".", label=f"published, MedSAM2:\n{study}")
            last = max(3, len(with_model))
            axes.set_xticks(range(last + 1), ["by hand", *map(str, range(1, last + 1))])
            axes.set_xlabel("round")
            axes.set_ylabel("mean seconds per lesion" if unit == "lesion" else "seconds per slice or frame")
            axes.set_yscale("log")
            for ticks in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                ticks(LogFormatter(minor_thresholds=(2, 1)))
            axes.legend(frameon=False, fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        write_png(file, figure)
