"""Tables of a comparison, and the contents of its files: Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from nnunetv2_sam2_3dmed.evaluation.comparison import Comparison
from nnunetv2_sam2_3dmed.evaluation.metrics import EMPTY_MASK_POLICY
from nnunetv2_sam2_3dmed.evaluation.published import SOURCE
from nnunetv2_sam2_3dmed.evaluation.scores import COLUMNS, FOREGROUND, HD95, METRICS, Metric
from nnunetv2_sam2_3dmed.evaluation.statistics import Statistic
from nnunetv2_sam2_3dmed.evaluation.tables import (
    Cell,
    Table,
    as_latex,
    as_markdown,
    interval,
    number,
    p_value,
    spread,
    without_nan,
)

TESTS = (
    "two-sided Wilcoxon signed-rank on the foreground mean of each case, against the reference method, corrected by "
    "Holm over all tests of this comparison; effect: matched-pairs rank-biserial correlation"
)

FOLDS = "the mean over the cases of each fold, then mean ± sample standard deviation over the folds"

RANKS = (
    "the rank in each case by foreground mean, 1 being the best, averaged over cases; first in: the share of bootstrap "
    "resamples of the cases in which a method has the best mean rank"
)


def coverage(comparison: Comparison) -> str:
    """Number of cases that were compared, and for each method the number that only others have."""
    n = len(comparison.cases)
    sentence = f"{n} case{'s' * (n != 1)} that every method has {'were' if n != 1 else 'was'} compared."
    left_out = {case for cases in comparison.missing.values() for case in cases}
    if left_out:
        lacking = "; ".join(f"{m} lacks {len(cases)}" for m, cases in comparison.missing.items() if cases)
        sentence += f" Left out: {len(left_out)} ({lacking})."
    return sentence


def results_table(comparison: Comparison, class_name: str | None = None, note: str = "") -> Table:
    """Statistics of each score; the best mean of each class is marked.

    Methods whose means are printed alike are equally best. There is no best of a single method, nor where methods
    have the score in different cases: a method that found nothing in the hardest cases has no HD95 there.

    Args:
        comparison: to show.
        class_name: show this class only; default: all, in a first column.
        note: of the table.
    """
    rows = [row for row in comparison.rows if class_name in (None, row.class_name)]
    timed = any(row.seconds is not None for row in rows)
    best = {(name, m): _best(comparison, m, name) for name in {row.class_name for row in rows} for m in METRICS}
    body = []
    for row in rows:
        scores = [_score(row[m], m, number(row[m].mean, m.digits) == best[row.class_name, m]) for m in METRICS]
        seconds = [Cell("" if row.seconds is None else f"{row.seconds:.1f}")] * timed
        body.append(
            [Cell(row.class_name), Cell(row.method, is_method=True), *scores, Cell(str(row.failures)), *seconds]
        )
    columns = ["class", "method", *(metric.title for metric in METRICS), "failures", *["seconds"] * timed]
    if class_name is not None:
        return Table(class_name, columns[1:], [row[1:] for row in body], note)
    return Table("", columns, body, note, headings=2, groups=1)


def _best(comparison: Comparison, metric: Metric, class_name: str) -> str | None:
    """The best mean as printed; None if there is none."""
    missing = {tuple(np.isnan(comparison.case_scores(m, metric, class_name))) for m in comparison.methods}
    means = [comparison.row(method, class_name)[metric].mean for method in comparison.methods]
    if len(means) < 2 or len(missing) > 1 or np.isnan(means).any():
        return None
    return number(max(means) if metric.larger_is_better else min(means), metric.digits)


def _score(statistic: Statistic, metric: Metric, best: bool) -> Cell:
    d = metric.digits
    detail = f"({number(statistic.median, d)}) {interval(statistic.low, statistic.high, d)}".rstrip()
    if metric is HD95:
        detail += f", n={statistic.n}"
    return Cell(number(statistic.mean, d), spread(statistic.std, d), detail, best)


def tests_table(comparison: Comparison) -> Table:
    """Paired tests against the reference method."""
    rows = [
        [Cell(t.metric), Cell(t.method, is_method=True), Cell(t.reference, is_method=True)]
        + [_difference(t.mean_difference, t.low, t.high)]
        + [Cell(f"{t.effect:+.2f}"), Cell(p_value(t.p, t.n)), Cell(p_value(t.p_holm, t.n))]
        for t in comparison.tests
    ]
    columns = ["metric", "method", "against", "mean difference", "effect", "p", "p (Holm)"]
    return Table("Paired tests", columns, rows, TESTS, headings=2, groups=1)


def ranks_table(comparison: Comparison) -> Table:
    """Ranks of all methods."""
    rows = [
        [
            Cell(r.metric),
            Cell(r.method, is_method=True),
            Cell(f"{r.mean_rank:.2f}"),
            Cell(f"{100 * r.first_share:.0f} %"),
        ]
        for r in comparison.ranks
    ]
    return Table("Ranks", ["metric", "method", "mean rank", "first in"], rows, RANKS, headings=2, groups=1)


def folds_table(comparison: Comparison) -> Table:
    """Means of each fold and their spread."""
    rows = []
    for s in comparison.folds:
        start = [Cell(s.class_name), Cell(s.method, is_method=True)]
        for fold in s.folds:
            means = [Cell(number(fold.means[m.attribute], m.digits)) for m in METRICS]
            rows.append([*start, Cell(fold.fold), Cell(str(fold.n)), *means])
        over = [Cell(number(s.mean[m.attribute], m.digits), spread(s.std[m.attribute], m.digits)) for m in METRICS]
        rows.append([*start, Cell(f"all {len(s.folds)}"), Cell(str(sum(fold.n for fold in s.folds))), *over])
    columns = ["class", "method", "fold", "cases", *(metric.title for metric in METRICS)]
    return Table("Folds", columns, rows, FOLDS, headings=3, groups=2)


def published_table(comparison: Comparison) -> Table:
    """Each method beside published results of the same cases."""
    rows = [
        [Cell(pair.method, is_method=True)]
        + [Cell(text) for text in (pair.network, str(pair.n), f"{pair.dice:.3f}", f"{pair.published_dice:.3f}")]
        + [_difference(pair.dice - pair.published_dice, pair.low, pair.high), Cell(p_value(pair.p, pair.n))]
        for pair in comparison.published
    ]
    columns = ["method", "published network", "common cases", "Dice", "published Dice", "difference", "p"]
    return Table("Beside published results", columns, rows, SOURCE)


def _difference(mean: float, low: float, high: float) -> Cell:
    return Cell(f"{mean:+.4f}", detail=interval(low, high, 4, sign=True))


def further_tables(comparison: Comparison) -> list[Table]:
    """All tables after that of the results, those without rows left out."""
    makers = (folds_table, tests_table, ranks_table, published_table)
    return [table for table in (make(comparison) for make in makers) if table.rows]


def case_table(comparison: Comparison) -> Table:
    """The foreground mean of every case and method."""
    foreground = comparison.scores[comparison.scores["class"] == FOREGROUND].sort_values(["case", "method"])
    rows = [
        [Cell(case), Cell(method, is_method=True)]
        + [Cell(number(value, metric.digits)) for value, metric in zip(values, METRICS, strict=True)]
        for case, method, *values in foreground[["case", "method", *COLUMNS]].itertuples(index=False)
    ]
    columns = ["case", "method", *(metric.title for metric in METRICS)]
    return Table("Every case", columns, rows, headings=2, groups=1)


# ---- contents of files


def comparison_markdown(comparison: Comparison) -> str:
    """The whole comparison as Markdown, its tables padded to straight columns."""
    legend = (
        "Mean ± sample standard deviation (median) [95 % bootstrap confidence interval of the mean] over the cases. "
        f"NSD at {comparison.tolerance_mm:g} mm ({comparison.tolerance_source}); "
        "HD95 in mm with the number of cases that have one. "
        "Foreground mean: the mean over the classes of each case. "
        f"{EMPTY_MASK_POLICY}"
    )
    if comparison.ignore_label is not None:
        legend += (
            f" Voxels with the ignore label ({comparison.ignore_label}) in the ground truth were left out of all masks."
        )
    agreeing = [f"{check.method}: {check.n}" for check in comparison.nnunet_checks if check.n and not check.differing]
    parts = [
        f"# Comparison on {comparison.dataset_name}",
        coverage(comparison),
        *(f"**Warning:** {warning}" for warning in comparison.warnings),
        *([f"Dice and IoU are those of nnU-Net's summary.json (cases of {', '.join(agreeing)})."] if agreeing else []),
        *comparison.notes,
        as_markdown(results_table(comparison, note=legend)),
        *map(as_markdown, further_tables(comparison)),
    ]
    return "\n\n".join(parts) + "\n"


def comparison_latex(comparison: Comparison) -> str:
    """Mean and standard deviation of each score, per class and method, for the package booktabs."""
    n = len(comparison.cases)
    caption = (
        f"{comparison.dataset_name}: mean ± sample standard deviation over {n} case{'s' * (n != 1)}. "
        f"NSD at {comparison.tolerance_mm:g}\N{NO-BREAK SPACE}mm ({comparison.tolerance_source}). HD95 is the mean "
        "over the cases in which both masks have voxels, or neither. Failures are the cases in which exactly one has. "
        "The best mean of each class is in bold."
    )
    warnings = [f"% Warning: {warning}" for warning in comparison.warnings]
    return "\n".join([*warnings, as_latex(results_table(comparison, note=caption))]) + "\n"


def per_case_csv(comparison: Comparison) -> str:
    """The scores of every method, case and class, one line each; a missing HD95 is empty.

    ``off_grid_mm`` is the distance of the prediction from its ground truth by their headers; empty where there is none.
    """
    table = comparison.scores[comparison.scores["class"] != FOREGROUND]
    differences = comparison.off_grid
    apart = [
        differences[method][case].apart_mm if case in differences.get(method, {}) else None
        for method, case in zip(table["method"], table["case"])
    ]
    return table.assign(off_grid_mm=apart).to_csv(index=False, lineterminator="\n")


def summary_csv(comparison: Comparison) -> str:
    """The statistics of every method, class and score, one line each; missing values are empty.

    ``n`` is the number of cases that have the score; ``folds``, ``fold_mean`` and ``fold_std`` are over the means of
    the folds, where a method has several.
    """
    folds = {(s.method, s.class_name): s for s in comparison.folds}
    lines = []
    for row in comparison.rows:
        of_folds = folds.get((row.method, row.class_name))
        for metric in METRICS:
            s, key = row[metric], metric.attribute
            line: dict[str, Any] = {"method": row.method, "class": row.class_name, "metric": key}
            line |= {"mean": s.mean, "std": s.std, "median": s.median, "ci_low": s.low, "ci_high": s.high, "n": s.n}
            line |= {"failures": row.failures, "folds": "", "fold_mean": None, "fold_std": None}
            if of_folds:
                line |= {"folds": len(of_folds.folds), "fold_mean": of_folds.mean[key], "fold_std": of_folds.std[key]}
            lines.append(line)
    return pd.DataFrame(lines).to_csv(index=False, lineterminator="\n")


def comparison_json(comparison: Comparison, used: Mapping[str, Any]) -> str:
    """Everything: what was compared, the options, ``used`` (versions and machine), and all results but per case."""

    def listed(results: Sequence[Any]) -> list[dict[str, Any]]:
        return [asdict(result) for result in results]

    content = {
        "dataset": comparison.dataset_name,
        "methods": {m: [str(f) for f in folders] for m, folders in comparison.methods.items()},
        "truth": str(comparison.gt_folder),
        "cases": comparison.cases,
        "cases_missing": comparison.missing,
        "classes": comparison.classes,
        "ignore_label": comparison.ignore_label,
        "nsd_tolerance_mm": comparison.tolerance_mm,
        "nsd_tolerance_source": comparison.tolerance_source,
        "warnings": comparison.warnings,
        "notes": comparison.notes,
        "off_grid": {
            method: {
                case: {"truth" if name == "gt" else name: value for name, value in asdict(difference).items()}
                for case, difference in by_case.items()
            }
            for method, by_case in comparison.off_grid.items()
            if by_case
        },
        "nnunet_summary_checks": [
            {**asdict(c), "unreadable": list(map(str, c.unreadable))} for c in comparison.nnunet_checks
        ],
        "empty_masks": EMPTY_MASK_POLICY,
        "statistics": "mean with its 95 % bootstrap confidence interval (BCa), sample standard deviation and median, "
        "over the cases that have the score",
        "tests": TESTS,
        **used,
        "results": listed(comparison.rows),
        "folds": listed(comparison.folds),
        "paired_tests": listed(comparison.tests),
        "ranking": RANKS,
        "ranks": listed(comparison.ranks),
        "published": listed(comparison.published),
        "published_source": SOURCE if comparison.published else None,
    }
    return json.dumps(without_nan(content), indent=2, allow_nan=False) + "\n"
