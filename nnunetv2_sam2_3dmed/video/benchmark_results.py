"""Tables of a benchmark of prompts on videos."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_sam2_3dmed.evaluation.published_prompts import published_results
from nnunetv2_sam2_3dmed.evaluation.statistics import Statistic
from nnunetv2_sam2_3dmed.evaluation.tables import Table, text_rows, without_nan
from nnunetv2_sam2_3dmed.evaluation.tables import as_markdown as table_as_markdown
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.video.benchmark import TITLES, MeasuredVideos, VideoResult

ALL = "all classes"
# column -> the score of an object
SCORES = {
    "Dice": lambda scores: scores.mean(),
    "Dice with the prompt's frame": lambda scores: scores.mean(with_prompts=True),
    "J": lambda scores: scores.davis("j")[0],
    "F": lambda scores: scores.davis("f")[0],
    "J&F": lambda scores: scores.j_and_f(),
    "excess at the prompt": lambda scores: scores.excess_at_prompts(),
    "over-propagation": lambda scores: scores.over_propagation(),
    "decay with distance": lambda scores: scores.decay_with_distance(),
}
DAVIS_MEANS = ("J", "F", "J&F")  # over objects, whatever videos they are in
DAVIS = ("J recall", "J decay", "F recall", "F decay")
PUBLISHED_NOTE = (
    "**Published, and not comparable**: other videos and splits. Median Dice over videos in per cent, with quartiles, "
    "of the authors' own hold-out videos; the paper states neither their prompt nor if its frame counts."
)
EXPLANATION = (
    "Median over videos (first to third quartile); of a video, the mean over its frames with ground truth as MedSAM2 "
    "does, from the prompt on. The prompt's own frame is left out, but for the column that says so. J, F and J&F as "
    "DAVIS' semi-supervised task: means over objects, without the last frame of the video. Excess at the prompt: "
    "pixels outside the object on the frame with the prompt, as a share of the object's. Over-propagation: share of "
    "the frames without the object on which it has a mask. Decay: Dice on the quarter of frames nearest to the prompt "
    "minus that on the farthest quarter."
)


def per_video_csv(measured: MeasuredVideos) -> str:
    """One row per protocol, video and object."""
    columns = ["protocol", "video", "class", "frames", *SCORES, *DAVIS, "rejected"]
    rows = []
    for one in measured.results:
        values = [score(one.scores) for score in SCORES.values()]
        davis = [value for name in "jf" for value in one.scores.davis(name)[1:]]
        about = [one.protocol, one.video, one.class_name, len(one.scores.frames)]
        rows.append([*about, *(_cell(value) for value in (*values, *davis)), int(one.rejected)])
    return _csv(columns, rows)


def per_frame_csv(measured: MeasuredVideos) -> str:
    """One row per protocol, video, object and frame with ground truth."""
    columns = ["protocol", "video", "class", "frame", "prompt", "Dice", "J", "F", "gt pixels", "pixels", "excess"]
    rows = [
        [one.protocol, one.video, one.class_name, frame.frame, int(frame.frame in one.scores.prompted)]
        + [_cell(value) for value in (frame.dice, frame.j, frame.f)]
        + [frame.gt_pixels, frame.pixels, frame.excess]
        for one in measured.results
        for frame in one.scores.frames
    ]
    return _csv(columns, rows)


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6f}"


def _csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def summary(results: Sequence[VideoResult], classes: Sequence[str]) -> list[tuple[str, str, dict[str, Statistic], int]]:
    """Return protocol, class, scores and rejected prompts.

    Scores are over videos, of all classes a video's mean over its own; those of :data:`DAVIS_MEANS` over objects.
    """
    rows = []
    for protocol in dict.fromkeys(one.protocol for one in results):
        of_protocol = [one for one in results if one.protocol == protocol]
        for name in (*classes, *([ALL] if len(classes) > 1 else [])):
            chosen = [one for one in of_protocol if name in (ALL, one.class_name)]
            if not chosen:
                continue
            scores = {}
            for column, score in SCORES.items():
                grouped: dict[str | tuple[str, str], list[float]] = {}
                for one in chosen:
                    unit = (one.video, one.class_name) if column in DAVIS_MEANS else one.video
                    grouped.setdefault(unit, []).append(score(one.scores))
                known = [[value for value in values if not np.isnan(value)] for values in grouped.values()]
                scores[column] = Statistic.of([float(np.mean(values)) for values in known if values])
            rows.append((protocol, name, scores, sum(one.rejected for one in chosen)))
    return rows


def as_json(measured: MeasuredVideos, classes: Sequence[str], used: Mapping[str, Any]) -> str:
    """Settings and all summaries as JSON."""
    return json.dumps(
        without_nan(
            {
                **used,
                "failed": measured.failed,
                "absent": measured.absent,
                "results": [
                    {
                        "protocol": protocol,
                        "class": name,
                        "rejected": rejected,
                        **{column: asdict(values) for column, values in scores.items()},
                    }
                    for protocol, name, scores, rejected in summary(measured.results, classes)
                ],
                "median seconds per frame": {
                    protocol: _seconds(measured, protocol)
                    for protocol in dict.fromkeys(one.protocol for one in measured.results)
                },
            }
        ),
        indent=2,
    )


def as_markdown(measured: MeasuredVideos, classes: Sequence[str], used: Mapping[str, Any]) -> str:
    """All tables, with published results beside them."""
    rows = summary(measured.results, classes)
    protocols = list(dict.fromkeys(row[0] for row in rows))
    videos = len({one.video for one in measured.results})
    failed = "; ".join(f"{name} ({reason.rstrip('.')})" for name, reason in measured.failed.items())
    columns = list(SCORES)
    parts = [
        f"# Prompts on the videos of {used['dataset']}",
        f"{videos} video{'s' * (videos != 1)}; model {used['model']}, images of {used['image_size']} pixels, "
        f"{used['device']}. Prompts are made from the ground truth.",
        *([f"**Left out**, for they failed: {failed}."] if failed else []),
        EXPLANATION,
        _table(
            ["class", "protocol", "videos", *columns, "rejected"],
            [
                [name, protocol, str(scores["Dice"].n), *(_shown(c, scores[c]) for c in columns), str(rejected)]
                for protocol, name, scores, rejected in rows
            ],
        ),
        "Protocols: " + "; ".join(f"`{name}`: {TITLES[name]}" for name in protocols) + ". Rejected: prompts in which "
        "the model saw no object, whose masks are empty. Median seconds per frame, all objects together: "
        + ", ".join(f"`{name}` {_seconds(measured, name):.3f}" for name in protocols)
        + ".",
        "## Published",
        PUBLISHED_NOTE,
        published_table(),
    ]
    return "\n\n".join(parts) + "\n"


def published_table() -> str:
    """Published results of prompted segmentation of videos."""
    return _table(
        ["method", "prompt", "task", "Dice", "videos", "source"],
        [
            [
                result.method,
                result.prompt_and_area,
                result.task,
                f"{result.dice} ({' to '.join(result.quartiles)})",
                result.cases,
                result.source,
            ]
            for result in published_results()
            if "videos" in result.task
        ],
    )


def write_results(folder: Path, measured: MeasuredVideos, classes: Sequence[str], used: Mapping[str, Any]) -> str:
    """Write all tables into ``folder``, and return the Markdown page.

    Raises:
        UserError: a file cannot be written.
    """
    page = as_markdown(measured, classes, used)
    write_text(folder / "per_frame.csv", per_frame_csv(measured))
    write_text(folder / "per_video.csv", per_video_csv(measured))
    write_text(folder / "prompt_benchmark.json", as_json(measured, classes, used) + "\n")
    write_text(folder / "prompt_benchmark.md", page)
    return page


def _seconds(measured: MeasuredVideos, protocol: str) -> float:
    known = [seconds for (name, _), seconds in measured.seconds_per_frame.items() if name == protocol]
    return float(np.median(known)) if known else float("nan")


def _shown(column: str, values: Statistic) -> str:
    if not values.n:
        return "-"
    if column in DAVIS_MEANS:
        return f"{values.mean:.3f}"
    return f"{values.median:.3f} ({values.q1:.3f} to {values.q3:.3f})"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table_as_markdown(Table("", columns, text_rows(rows)))
