"""Spread of each method's scores over the seeds that its trainings started from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nnunetv2_sam2_3dmed.evaluation.scores import COLUMNS, METRICS
from nnunetv2_sam2_3dmed.experiments.specification import Method
from nnunetv2_sam2_3dmed.files import write_text

GROUP = ["dataset", "class_name", "method", "metric"]


def seed_scores(comparison: Mapping[str, Any], methods: Sequence[Method], seeds: Sequence[int]) -> pd.DataFrame:
    """Return the means over cases of each method, class, metric and seed as one long table.

    Args:
        comparison: the content of ``comparison.json``, in which each seed is a method of its own.
        methods: without seeds.
        seeds: those that were asked for.

    Returns:
        Columns ``dataset``, ``class_name``, ``method`` (its title), ``metric`` (one of ``COLUMNS`` of the score table),
        ``seed`` and ``score``. Rows without a score are left out: HD95 where no case has a distance.
    """
    of_key = {method.seeded(seed).key: (method.title, seed) for method in methods for seed in seeds}
    rows = [
        (comparison["dataset"], row["class_name"], title, metric, seed, row[metric]["mean"])
        for row in comparison["results"]
        if row["method"] in of_key
        for title, seed in [of_key[row["method"]]]
        for metric in COLUMNS
    ]
    return pd.DataFrame(rows, columns=[*GROUP, "seed", "score"]).dropna(subset="score")


def spreads_as_json(scores: pd.DataFrame) -> str:
    """Return the mean and sample standard deviation over seeds (null for a single one), with the score of each seed."""
    entries = []
    for keys, group in scores.groupby(GROUP, sort=False):
        spread = group["score"].std()
        entries.append(
            {
                **dict(zip(GROUP, keys)),
                "by_seed": dict(zip(group["seed"].astype(str), group["score"])),
                "mean": group["score"].mean(),
                "std": None if pd.isna(spread) else spread,
            }
        )
    return json.dumps(entries, indent=2) + "\n"


def spreads_as_markdown(scores: pd.DataFrame) -> str:
    """Return one table of mean ± standard deviation for each dataset."""
    lines = [
        "# Spread over seeds",
        "",
        "Mean ± sample standard deviation over seeds of the mean over cases (number of seeds). The seeds share their "
        "test cases: this is the spread of the training alone, not that over cases.",
    ]
    table = scores.groupby(GROUP, sort=False)["score"].agg(["mean", "std", "count"])
    text = table.apply(
        lambda row: (
            f"{row['mean']:.3f} ± {'n/a' if pd.isna(row['std']) else format(row['std'], '.3f')} ({row['count']:.0f})"
        ),
        axis=1,
    )
    titles = " | ".join(metric.title for metric in METRICS)
    for dataset, cells in text.groupby("dataset", sort=False):
        wide = cells.droplevel("dataset").unstack("metric", fill_value="n/a", sort=False).reindex(columns=list(COLUMNS))
        lines += ["", f"## {dataset}", "", f"| class | method | {titles} |", "|---" * 6 + "|"]
        lines += [f"| {' | '.join([*keys, *row.fillna('n/a')])} |" for keys, row in wide.iterrows()]
    return "\n".join(lines) + "\n"


def write_seeds(folder: Path, scores: pd.DataFrame) -> None:
    """Write ``seeds.md`` and ``seeds.json``."""
    write_text(folder / "seeds.md", spreads_as_markdown(scores))
    write_text(folder / "seeds.json", spreads_as_json(scores))
