"""The spread over seeds: how much a method's score depends on where it started."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from nnunetv2_sam2_3dmed.evaluation.scores import COLUMNS, METRICS
from nnunetv2_sam2_3dmed.experiments.specification import Method
from nnunetv2_sam2_3dmed.files import write_text


@dataclass(frozen=True)
class SeedSpread:
    """A score of one method on one class over its seeds.

    Attributes:
        dataset: full name.
        method: its title.
        class_name: the class, or the mean over all of them.
        metric: one of ``COLUMNS`` of the score table.
        by_seed: the mean over cases for each seed.
        mean: over seeds.
        std: sample standard deviation over seeds; None for a single one.
    """

    dataset: str
    method: str
    class_name: str
    metric: str
    by_seed: dict[int, float]
    mean: float
    std: float | None


def seed_spreads(comparison: Mapping[str, Any], methods: Sequence[Method], seeds: Sequence[int]) -> list[SeedSpread]:
    """The spreads of all methods, classes and metrics.

    Args:
        comparison: the content of ``comparison.json``, in which each seed is a method of its own.
        methods: without seeds.
        seeds: those that were asked for; a method without one of them is summarised over the others.
    """
    rows = {(row["method"], row["class_name"]): row for row in comparison["results"]}
    spreads = []
    for class_name in dict.fromkeys(name for _, name in rows):
        for method in methods:
            for metric in COLUMNS:
                by_seed = {}
                for seed in seeds:
                    row = rows.get((method.seeded(seed).key, class_name))
                    if row is not None and row[metric]["mean"] is not None:  # no case has an HD95
                        by_seed[seed] = row[metric]["mean"]
                if by_seed:
                    values = list(by_seed.values())
                    spread = stdev(values) if len(values) > 1 else None
                    spreads.append(
                        SeedSpread(
                            comparison["dataset"], method.title, class_name, metric, by_seed, fmean(values), spread
                        )
                    )
    return spreads


def as_markdown(spreads: Sequence[SeedSpread]) -> str:
    """The spreads as one table for each dataset."""
    lines = [
        "# Spread over seeds",
        "",
        "Mean ± sample standard deviation over seeds of the mean over cases (number of seeds). The seeds share their "
        "test cases: this is the spread of the training alone, not that over cases.",
    ]
    for dataset in dict.fromkeys(s.dataset for s in spreads):
        here = {(s.class_name, s.method, s.metric): s for s in spreads if s.dataset == dataset}
        titles = " | ".join(metric.title for metric in METRICS)
        lines += ["", f"## {dataset}", "", f"| class | method | {titles} |", "|---" * 6 + "|"]
        for class_name, method in dict.fromkeys((c, m) for c, m, _ in here):
            cells = [_cell(here.get((class_name, method, metric))) for metric in COLUMNS]
            lines.append(f"| {' | '.join([class_name, method, *cells])} |")
    return "\n".join(lines) + "\n"


def write_seeds(folder: Path, spreads: Sequence[SeedSpread]) -> None:
    """Writes ``seeds.md`` and ``seeds.json``."""
    write_text(folder / "seeds.md", as_markdown(spreads))
    write_text(folder / "seeds.json", json.dumps([asdict(s) for s in spreads], indent=2) + "\n")


def _cell(spread: SeedSpread | None) -> str:
    if spread is None:
        return "n/a"
    deviation = "n/a" if spread.std is None else f"{spread.std:.3f}"
    return f"{spread.mean:.3f} ± {deviation} ({len(spread.by_seed)})"
