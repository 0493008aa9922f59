"""The report's tables as rows of text, with as many digits as comparison.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nnunetv2_sam2_3dmed.evaluation.summary import Comparison, Row, Statistic
from nnunetv2_sam2_3dmed.report.methods import Method
from nnunetv2_sam2_3dmed.report.scores import METRICS, Metric, case_scores, class_names

NOTHING = "n/a"


@dataclass(frozen=True)
class Cell:
    """What stands in a table's cell.

    Attributes:
        text: the main line.
        detail: a second line in small type.
        best: the best mean of its class; printed bold.
        method: the method that the cell names, for its colour and symbol.
    """

    text: str
    detail: str = ""
    best: bool = False
    method: Method | None = None


@dataclass(frozen=True)
class Table:
    """A table: its caption, its header, and its rows.

    Attributes:
        caption: what the table shows.
        header: of the columns.
        rows: of cells; the first ``headings`` of each row are its heading.
        headings: number of columns that say what a row is about.
        groups: the rows before which a line is drawn.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    headings: int = 1
    groups: frozenset[int] = field(default_factory=frozenset)


def number(value: float, digits: int, sign: bool = False) -> str:
    """``value``, or :data:`NOTHING` where there is none."""
    return NOTHING if math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def p_value(value: float | None, n: int) -> str:
    """A p-value as in comparison.md; without one, the number of cases that were too few."""
    if value is None:
        return f"{NOTHING} (n={n})"
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def results_tables(comparison: Comparison, methods: Sequence[Method]) -> list[Table]:
    """A table per class, and one for the foreground mean, which comes first."""
    names = class_names(comparison)
    names = [*names[-1:], *names[:-1]]
    return [_results(comparison, methods, name) for name in names]


def _results(comparison: Comparison, methods: Sequence[Method], class_name: str) -> Table:
    rows = [comparison.row(method.name, class_name) for method in methods]
    best = {
        metric.name: _best(rows, metric) if _same_cases(comparison, methods, metric, class_name) else set()
        for metric in METRICS
    }
    body = [
        [
            Cell(method.label, method=method),
            *(_score(getattr(row, m.attribute), m, row.method in best[m.name], len(comparison.cases)) for m in METRICS),
            Cell(str(row.failures)),
        ]
        for method, row in zip(methods, rows, strict=True)
    ]
    header = ["method", *(metric.title for metric in METRICS), "failures"]
    return Table(class_name, header, body)


def _same_cases(comparison: Comparison, methods: Sequence[Method], metric: Metric, class_name: str) -> bool:
    """Whether all methods have the metric in the same cases: means over different cases have no best."""
    missing = {tuple(np.isnan(case_scores(comparison, method.name, metric, class_name))) for method in methods}
    return len(missing) == 1


def _best(rows: Sequence[Row], metric: Metric) -> set[str]:
    """The methods whose mean, as printed, is the best; none where there is only one method."""
    means = {row.method: number(getattr(row, metric.attribute).mean, metric.digits) for row in rows}
    present = [float(mean) for mean in means.values() if mean != NOTHING]
    if len(rows) < 2 or not present:
        return set()
    best = number(max(present) if metric.larger_is_better else min(present), metric.digits)
    return {method for method, mean in means.items() if mean == best}


def _score(statistic: Statistic, metric: Metric, best: bool, cases: int) -> Cell:
    d = metric.digits
    detail = f"median {number(statistic.median, d)}"
    if not math.isnan(statistic.low):
        detail += f", [{number(statistic.low, d)}, {number(statistic.high, d)}]"
    if statistic.n < cases:
        detail += f", n={statistic.n}"
    return Cell(f"{number(statistic.mean, d)} ± {number(statistic.std, d)}", detail, best)


def paired_table(comparison: Comparison, methods: Sequence[Method]) -> Table | None:
    """The paired tests; None if there are none."""
    by_name = {method.name: method for method in methods}
    rows = [
        [
            Cell(t.metric),
            Cell(by_name[t.method].label, method=by_name[t.method]),
            Cell(by_name[t.reference].label, method=by_name[t.reference]),
            Cell(number(t.mean_difference, 4, sign=True), f"[{number(t.low, 4, True)}, {number(t.high, 4, True)}]"),
            Cell(f"{t.effect:+.2f}"),
            Cell(p_value(t.p, t.n)),
            Cell(p_value(t.p_holm, t.n)),
        ]
        for t in comparison.tests
    ]
    header = ["metric", "method", "against", "mean difference", "effect", "p", "p (Holm)"]
    return Table("Paired tests", header, rows, 2, _changes(rows)) if rows else None


def rank_table(comparison: Comparison, methods: Sequence[Method]) -> Table | None:
    """The ranks; None if there are none."""
    by_name = {method.name: method for method in methods}
    rows = [
        [
            Cell(r.metric),
            Cell(by_name[r.method].label, method=by_name[r.method]),
            Cell(f"{r.mean_rank:.2f}"),
            Cell(f"{100 * r.first_share:.0f} %"),
        ]
        for r in comparison.ranks
    ]
    return Table("Ranks", ["metric", "method", "mean rank", "first in"], rows, 2, _changes(rows)) if rows else None


def fold_table(comparison: Comparison, methods: Sequence[Method]) -> Table | None:
    """The means of each fold and their spread; None if no method has several folds."""
    by_name = {method.name: method for method in methods}
    rows = []
    for spread in comparison.folds:
        method = by_name[spread.method]
        start = [Cell(spread.class_name), Cell(method.label, method=method)]
        for fold in spread.folds:
            means = [Cell(number(fold.means[m.attribute], m.digits)) for m in METRICS]
            rows.append([*start, Cell(fold.fold), Cell(str(fold.n)), *means])
        over = [
            Cell(f"{number(spread.mean[m.attribute], m.digits)} ± {number(spread.std[m.attribute], m.digits)}")
            for m in METRICS
        ]
        rows.append([*start, Cell(f"all {len(spread.folds)}"), Cell(str(sum(f.n for f in spread.folds))), *over])
    header = ["class", "method", "fold", "cases", *(metric.title for metric in METRICS)]
    return Table("Folds", header, rows, 3, _changes(rows, columns=2)) if rows else None


def pair_table(comparison: Comparison, methods: Sequence[Method]) -> Table | None:
    """Each method beside published scores of the same cases; None if they were not asked for."""
    by_name = {method.name: method for method in methods}
    rows = [
        [
            Cell(by_name[pair.method].label, method=by_name[pair.method]),
            Cell(pair.network),
            Cell(str(pair.n)),
            Cell(number(pair.dice, 3)),
            Cell(number(pair.published_dice, 3)),
            Cell(
                number(pair.dice - pair.published_dice, 4, True),
                f"[{number(pair.low, 4, True)}, {number(pair.high, 4, True)}]",
            ),
            Cell(p_value(pair.p, pair.n)),
        ]
        for pair in comparison.published
    ]
    header = ["method", "published network", "common cases", "Dice", "published Dice", "difference", "p"]
    return Table("Beside published results of the same cases", header, rows) if rows else None


def case_table(comparison: Comparison, methods: Sequence[Method]) -> Table:
    """The foreground mean of every case and method."""
    scores = {(m.name, metric.name): case_scores(comparison, m.name, metric) for m in methods for metric in METRICS}
    rows = [
        [
            Cell(case),
            Cell(method.label, method=method),
            *(Cell(number(scores[method.name, metric.name][index], metric.digits)) for metric in METRICS),
        ]
        for index, case in enumerate(comparison.cases)
        for method in methods
    ]
    header = ["case", "method", *(metric.title for metric in METRICS)]
    return Table("Every case", header, rows, 2, _changes(rows))


def _changes(rows: Sequence[Sequence[Cell]], columns: int = 1) -> frozenset[int]:
    """The rows, but the first, whose first cells differ from those of the row above."""
    keys = [[cell.text for cell in row[:columns]] for row in rows]
    return frozenset(i for i in range(1, len(keys)) if keys[i] != keys[i - 1])
