"""Tables of a benchmark of prompts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nnunetv2_sam2_3dmed.evaluation.published_prompts import PublishedResult, published_results, task_of
from nnunetv2_sam2_3dmed.evaluation.scores import FOREGROUND
from nnunetv2_sam2_3dmed.evaluation.statistics import Statistic
from nnunetv2_sam2_3dmed.evaluation.tables import Cell, Table, spread, text_rows, without_nan
from nnunetv2_sam2_3dmed.evaluation.tables import as_markdown as table_as_markdown
from nnunetv2_sam2_3dmed.prompt_evaluation.benchmark import AREAS, SALIENT_VOXELS
from nnunetv2_sam2_3dmed.prompt_evaluation.measurements import Interaction, Measured, of_cases
from nnunetv2_sam2_3dmed.prompt_evaluation.protocols import Protocol

REACHED = 0.9  # the Dice that clicks are counted to
PUBLISHED_NOTE = (
    "**Not comparable**: other cases, splits and tolerances, and for most rows other tasks. Dice and NSD in per cent; "
    "whether they are means or medians over cases stands beside them. SAM 2.0 large is `sam2_hiera_large` as "
    "published, which propagates the annotation of one slice through the volume. SAM 2.0 tiny is `sam2_hiera_tiny`, "
    "fine-tuned and used without memory: the box of the largest slice is put on the middle one, other boxes come from "
    "the mask of the neighbouring slice, and the ground truth says where the object ends."
)


class ScoreRow(NamedTuple):
    """One protocol on one class, over cases.

    Attributes:
        protocol: name of it.
        class_name: of the objects.
        area: "all" slices, or the "salient" ones.
        dice: over cases.
        nsd: over cases.
        prompts: that were taken, mean over cases.
        rejected: prompts that SAM 2 answered with nothing, in all cases.
    """

    protocol: str
    class_name: str
    area: str
    dice: Statistic
    nsd: Statistic
    prompts: float
    rejected: int


class ClickRow(NamedTuple):
    """A round of clicks, over objects; one that ended earlier, with nothing left to correct, keeps its last Dice.

    Attributes:
        number: of the round.
        dice: of the volume, mean.
        median: of the volume's Dice.
        q1: first quartile of it.
        q3: third quartile.
        gain: of ``dice`` over the round before.
        slice_dice: of the slice that is clicked on, mean.
        rejected: objects whose click SAM 2 answered with nothing.
        seconds: of the interaction, median.
    """

    number: int
    dice: float
    median: float
    q1: float
    q3: float
    gain: float
    slice_dice: float
    rejected: int
    seconds: float


class ClicksNeeded(NamedTuple):
    """Rounds of clicks until :data:`REACHED`; a click that was rejected is one.

    Attributes:
        reached: objects that got there.
        objects: in all.
        median: of the rounds of those that got there; None if none did.
    """

    reached: int
    objects: int
    median: float | None


def score_rows(measured: Measured) -> list[ScoreRow]:
    """By protocol and area each class, and the mean over the classes that a case has."""
    columns = ["protocol", "area", "case", "class", "dice", "nsd", "prompts", "rejected"]
    scores = pd.DataFrame(
        [
            (s.protocol, s.area, s.case, s.class_name, s.metrics.dice, s.metrics.nsd, s.prompts, s.rejected)
            for s in measured.scores
        ],
        columns=columns,
    )
    rows = []
    for area in AREAS:
        for protocol, group in scores[scores["area"] == area].groupby("protocol", sort=False):
            for name, of_class in group.groupby("class", sort=False):
                rows.append(_row(str(protocol), str(name), area, of_class))
            if group["class"].nunique() > 1:
                rows.append(_row(str(protocol), FOREGROUND, area, group))
    return rows


def _row(protocol: str, class_name: str, area: str, scores: pd.DataFrame) -> ScoreRow:
    """Summarise scores over cases, each case by the mean of its scores."""
    by_case = scores.groupby("case", sort=False)
    means = by_case[["dice", "nsd"]].mean()
    return ScoreRow(
        protocol,
        class_name,
        area,
        Statistic.of(means["dice"]),
        Statistic.of(means["nsd"]),
        float(by_case["prompts"].sum().mean()),
        int(scores["rejected"].sum()),
    )


def click_rows(measured: Measured, protocol: str) -> list[ClickRow]:
    """The rounds of a protocol of clicks."""
    objects = list(_by_object(measured, protocol).values())
    rows: list[ClickRow] = []
    before = 0.0
    for number in range(1, max((len(turns) for turns in objects), default=0) + 1):
        current = [turns[min(number, len(turns)) - 1] for turns in objects]
        of_volume = [turn.dice for turn in current]
        mean, (q1, median, q3) = float(np.mean(of_volume)), map(float, np.percentile(of_volume, (25, 50, 75)))
        seconds = [turns[number - 1].seconds for turns in objects if len(turns) >= number]
        slice_dice = float(np.mean([turn.slice_dice for turn in current]))
        rejected = sum(_rejected(turns, number) for turns in objects)
        rows.append(
            ClickRow(number, mean, median, q1, q3, mean - before, slice_dice, rejected, float(np.median(seconds)))
        )
        before = mean
    return rows


def _rejected(turns: Sequence[Interaction], number: int) -> bool:
    """Tell if the click of a round was rejected."""
    if len(turns) < number:
        return False
    return turns[number - 1].rejected > (turns[number - 2].rejected if number > 1 else 0)


def clicks_needed(measured: Measured, protocol: str) -> ClicksNeeded:
    """Rounds of clicks until the Dice of the volume is :data:`REACHED`."""
    objects = list(_by_object(measured, protocol).values())
    needed = [next((turn.number for turn in turns if turn.dice >= REACHED), None) for turns in objects]
    got_there = [number for number in needed if number is not None]
    return ClicksNeeded(len(got_there), len(objects), float(np.median(got_there)) if got_there else None)


def _by_object(measured: Measured, protocol: str) -> dict[tuple[str, str], list[Interaction]]:
    objects: dict[tuple[str, str], list[Interaction]] = defaultdict(list)
    for turn in measured.interactions:
        if turn.protocol == protocol:
            objects[turn.case, turn.class_name].append(turn)
    return objects


# ---- texts


def as_json(measured: Measured, protocols: Sequence[Protocol], used: Mapping[str, Any]) -> str:
    """Means, and the model and options that they were measured with."""
    return json.dumps(
        without_nan(
            {
                **used,
                **of_cases(measured),
                "results": [
                    {**row._asdict(), "dice": vars(row.dice), "nsd": vars(row.nsd)} for row in score_rows(measured)
                ],
                "clicks": {
                    p.name: {
                        "rounds": [row._asdict() for row in click_rows(measured, p.name)],
                        f"until_{REACHED}": clicks_needed(measured, p.name)._asdict(),
                    }
                    for p in protocols
                    if p.name.endswith("_clicks")
                },
                "median_seconds_per_interaction": {p.name: _seconds(measured, p.name) for p in protocols},
            }
        ),
        indent=2,
    )


def as_markdown(
    measured: Measured, protocols: Sequence[Protocol], dataset: str, used: Mapping[str, Any], tolerance: str
) -> str:
    """All tables, with published results beside them."""
    cases = len(measured.encoding_seconds)
    parts = [
        f"# Prompts on {dataset}",
        f"{cases} case{'s' * (cases != 1)}; model {used['model']}, images of {used['image_size']} pixels, "
        f"{used['device']}, seed {used['seed']}. Prompts are made from the ground truth.",
        *(f"**Warning:** {warning}" for warning in used["warnings"]),
        *([f"**Left out**, for they failed: {_failed(measured)}."] if measured.failed else []),
        "Mean ± sample standard deviation over cases, then their median (first to third quartile). NSD at "
        f"{tolerance}. Salient: only slices with more than {SALIENT_VOXELS} voxels of the object, and only objects "
        f"that have such slices. {FOREGROUND.capitalize()}: the mean over the classes that a case has. Each object is "
        "scored alone, as in publications, whatever other objects were found in its voxels. The masks that are written "
        "are label maps, in which of overlapping objects one counts, so that `sam2_3dmed compare` may find other "
        "scores in them. Prompts: those that the model took; rejected: those, in all cases, that it answered with "
        "nothing, which then count for nothing.",
        table_as_markdown(
            Table(
                "",
                ["class", "protocol", "slices", "cases"]
                + ["mean Dice", "median Dice", "mean NSD", "median NSD", "prompts", "rejected"],
                [
                    [*map(Cell, (r.class_name, r.protocol, r.area, str(r.dice.n)))]
                    + [_mean(r.dice), _median(r.dice), _mean(r.nsd), _median(r.nsd)]
                    + [Cell(f"{r.prompts:.1f}"), Cell(str(r.rejected))]
                    for r in score_rows(measured)
                ],
            )
        ),
        "Protocols: " + "; ".join(f"`{p.name}`: {p.title} ({p.source})" for p in protocols) + ".",
    ]
    if measured.absent:
        parts.append(
            f"{sum(map(len, measured.absent.values()))} objects were left out because a case does not have the class."
        )
    for protocol in protocols:
        if protocol.name.endswith("_clicks"):
            parts += _clicks_part(measured, protocol)
    parts += [
        "Median seconds of an interaction (of one object: from its prompt until the masks of all slices are there; "
        "with `boxes`, from its first one), once the slices are encoded, which takes "
        f"{np.median(list(measured.encoding_seconds.values())):.2f} s per case:",
        _table(["protocol", "seconds"], [[p.name, f"{_seconds(measured, p.name):.3f}"] for p in protocols]),
        "## Published",
        PUBLISHED_NOTE,
        published_table(dataset, protocols),
    ]
    return "\n\n".join(parts) + "\n"


def _clicks_part(measured: Measured, protocol: Protocol) -> list[str]:
    needed = clicks_needed(measured, protocol.name)
    median = "" if needed.median is None else f", the median of these after {needed.median:g}"
    return [
        f"`{protocol.name}`, over all objects: the result of that many clicks on the slice, given one after the "
        "other, and then one propagation. Gain: of the Dice of the volume over one click less. Rejected: clicks that "
        "the model answered with nothing; the next one is elsewhere.",
        _table(
            ["clicks", "mean Dice", "median Dice", "gain of the mean", "mean Dice of the slice", "rejected"]
            + ["median seconds"],
            [
                [
                    str(r.number),
                    f"{r.dice:.3f}",
                    f"{r.median:.3f} ({r.q1:.3f} to {r.q3:.3f})",
                    f"{r.gain:+.3f}",
                    f"{r.slice_dice:.3f}",
                    str(r.rejected),
                ]
                + [f"{r.seconds:.3f}"]
                for r in click_rows(measured, protocol.name)
            ],
        ),
        f"Dice of {REACHED:g} in the volume was reached for {needed.reached} of {needed.objects} objects{median}.",
    ]


def published_table(dataset: str, protocols: Sequence[Protocol] = ()) -> str:
    """Published results of prompted segmentation; those of the same task first, of these those of the same prompts."""
    names = [protocol.name for protocol in protocols]

    def later(result: PublishedResult) -> tuple[bool, bool]:
        return task_of(result.task) != task_of(dataset), bool(names) and result.prompt not in names

    rows = [
        [r.method, r.prompt_and_area, r.task, r.statistic, r.dice, " to ".join(filter(None, r.quartiles))]
        + [r.nsd, r.cases, r.source]
        for r in sorted(published_results(), key=later)
    ]
    columns = ["method", "prompt", "task", "statistic", "Dice", "quartiles of Dice", "NSD", "cases", "source"]
    return _table(columns, rows)


def _failed(measured: Measured) -> str:
    return "; ".join(f"{name} ({reason.rstrip('.')})" for name, reason in measured.failed.items())


def _seconds(measured: Measured, protocol: str) -> float:
    return float(np.median([t.seconds for t in measured.interactions if t.protocol == protocol] or [np.nan]))


def _mean(statistic: Statistic) -> Cell:
    return Cell(f"{statistic.mean:.3f}", spread(statistic.std, 3))


def _median(statistic: Statistic) -> Cell:
    return Cell(f"{statistic.median:.3f}", f" ({statistic.q1:.3f} to {statistic.q3:.3f})")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table_as_markdown(Table("", columns, text_rows(rows)))
