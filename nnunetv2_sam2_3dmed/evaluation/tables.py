"""A comparison as Markdown (also readable in a terminal), as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nnunetv2_sam2_3dmed.evaluation.folds import METRICS, FoldSpread
from nnunetv2_sam2_3dmed.evaluation.metrics import EMPTY_MASK_POLICY
from nnunetv2_sam2_3dmed.evaluation.nnunet_summary import SummaryCheck
from nnunetv2_sam2_3dmed.evaluation.published import SOURCE, PublishedPair
from nnunetv2_sam2_3dmed.evaluation.ranking import Rank
from nnunetv2_sam2_3dmed.evaluation.significance import PairedTest
from nnunetv2_sam2_3dmed.evaluation.summary import Comparison, Row, Statistic

TESTS = (
    "two-sided Wilcoxon signed-rank on the foreground mean of each case, against the reference method, corrected by "
    "Holm over all tests of this comparison; effect: matched-pairs rank-biserial correlation"
)

FOLDS = "the mean over the cases of each fold, then mean ± sample standard deviation over the folds"

RANKS = (
    "the rank in each case by foreground mean, 1 being the best, averaged over cases; first in: the share of bootstrap "
    "resamples of the cases in which a method has the best mean rank"
)


def as_markdown(comparison: Comparison) -> str:
    """The whole comparison as Markdown, its tables padded to straight columns."""
    legend = (
        "Mean ± sample standard deviation (median) [95 % bootstrap confidence interval of the mean] over the cases. "
        f"NSD at {comparison.tolerance_mm:g} mm ({comparison.tolerance_source}); "
        "HD95 in mm with the number of cases that have one. "
        "Foreground mean: the mean over the classes of each case. "
        f"{EMPTY_MASK_POLICY}"
    )
    if comparison.ignore_label is not None:
        legend += f" Voxels with the ignore label ({comparison.ignore_label}) in the truth were left out of all masks."
    parts = [
        f"# Comparison on {comparison.dataset_name}",
        coverage(comparison),
        *(f"**Warning:** {warning}" for warning in comparison.warnings),
        *_agreements(comparison.nnunet_checks),
        *comparison.notes,
        legend,
        _results_table(comparison.rows),
    ]
    if comparison.folds:
        parts += [f"Folds: {FOLDS}.", _folds_table(comparison.folds)]
    if comparison.tests:
        parts += [f"Paired tests: {TESTS}.", _tests_table(comparison.tests)]
    if comparison.ranks:
        parts += [f"Ranks: {RANKS}.", _ranks_table(comparison.ranks)]
    if comparison.published:
        parts += [f"Beside published results: {SOURCE}.", _published_table(comparison.published)]
    return "\n\n".join(parts) + "\n"


def coverage(comparison: Comparison) -> str:
    """How many cases were compared, and which method lacks how many that others have."""
    n = len(comparison.cases)
    sentence = f"{n} case{'s' * (n != 1)} that every method has {'were' if n != 1 else 'was'} compared."
    left_out = {case for cases in comparison.missing.values() for case in cases}
    if left_out:
        lacking = "; ".join(f"{m} lacks {len(cases)}" for m, cases in comparison.missing.items() if cases)
        sentence += f" Left out: {len(left_out)} ({lacking})."
    return sentence


def _results_table(rows: Sequence[Row]) -> str:
    header = ["class", "method", "Dice", "IoU", "NSD", "HD95 (mm)", "failures"]
    timed = any(row.seconds is not None for row in rows)
    body = [
        [row.class_name, row.method, *(_score(s) for s in (row.dice, row.iou, row.nsd))]
        + [f"{_score(row.hd95_mm, digits=2)}, n={row.hd95_mm.n}", str(row.failures)]
        + (["" if row.seconds is None else f"{row.seconds:.1f}"] if timed else [])
        for row in rows
    ]
    return _table(header + ["seconds"] * timed, body)


def _agreements(checks: Sequence[SummaryCheck]) -> list[str]:
    """How many cases nnU-Net scored alike, as one sentence; none if it scored none of them, or others."""
    agreeing = [f"{check.method}: {check.n}" for check in checks if check.n and not check.differing]
    return [f"Dice and IoU are those of nnU-Net's summary.json (cases of {', '.join(agreeing)})."] if agreeing else []


def _folds_table(spreads: Sequence[FoldSpread]) -> str:
    header = ["class", "method", "fold", "cases", "Dice", "IoU", "NSD", "HD95 (mm)"]
    digits = {metric: 2 if metric == "hd95_mm" else 3 for metric in METRICS}
    body = []
    for spread in spreads:
        start = [spread.class_name, spread.method]
        body += [
            [*start, fold.fold, str(fold.n), *(_number(fold.means[metric], d) for metric, d in digits.items())]
            for fold in spread.folds
        ]
        over = [f"{_number(spread.mean[m], d)} ± {_number(spread.std[m], d)}" for m, d in digits.items()]
        body.append([*start, f"all {len(spread.folds)}", str(sum(fold.n for fold in spread.folds)), *over])
    return _table(header, body)


def _tests_table(tests: Sequence[PairedTest]) -> str:
    header = ["metric", "method", "against", "mean difference", "effect", "p", "p (Holm)"]
    body = [
        [t.metric, t.method, t.reference, _difference(t.mean_difference, t.low, t.high), f"{t.effect:+.2f}"]
        + [_p(t.p, t.n), _p(t.p_holm, t.n)]
        for t in tests
    ]
    return _table(header, body)


def _published_table(pairs: Sequence[PublishedPair]) -> str:
    header = ["method", "published network", "common cases", "Dice", "published Dice", "difference", "p"]
    body = [
        [pair.method, pair.network, str(pair.n), f"{pair.dice:.3f}", f"{pair.published_dice:.3f}"]
        + [_difference(pair.dice - pair.published_dice, pair.low, pair.high), _p(pair.p, pair.n)]
        for pair in pairs
    ]
    return _table(header, body)


def _ranks_table(ranks: Sequence[Rank]) -> str:
    header = ["metric", "method", "mean rank", "first in"]
    return _table(header, [[r.metric, r.method, f"{r.mean_rank:.2f}", f"{100 * r.first_share:.0f} %"] for r in ranks])


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    cells = [[c.replace("|", "\\|") for c in row] for row in (header, *body)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _score(statistic: Statistic, digits: int = 3) -> str:
    mean, std, median = (_number(v, digits) for v in (statistic.mean, statistic.std, statistic.median))
    interval = "" if math.isnan(statistic.low) else f" [{statistic.low:.{digits}f}, {statistic.high:.{digits}f}]"
    return f"{mean} ± {std} ({median}){interval}"


def _difference(mean: float, low: float, high: float) -> str:
    return f"{mean:+.4f}" + ("" if math.isnan(low) else f" [{low:+.4f}, {high:+.4f}]")


def _number(value: float, digits: int) -> str:
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


def _p(value: float | None, n: int) -> str:
    if value is None:
        return f"n/a (n={n})"
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def as_csv(comparison: Comparison) -> str:
    """The scores of every method, case and class, one line each; a missing HD95 is empty.

    ``off_grid_mm`` is how far the prediction lies from its truth by their headers; empty where it does not.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "case", "class", "dice", "iou", "nsd", "hd95_mm", "off_grid_mm"])
    for method, by_case in comparison.scores.items():
        for case, by_class in by_case.items():
            difference = comparison.off_grid.get(method, {}).get(case)
            apart = "" if difference is None else difference.apart_mm
            for name, m in by_class.items():
                writer.writerow([method, case, name, m.dice, m.iou, m.nsd, "" if m.failed else m.hd95_mm, apart])
    return text.getvalue()


def as_summary_csv(comparison: Comparison) -> str:
    """The statistics of every method, class and score, one line each; what is missing is empty.

    ``n`` is the number of cases that have the score; ``folds``, ``fold_mean`` and ``fold_std`` are over the means of
    the folds, where a method has several.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["method", "class", "metric", "mean", "std", "median", "ci_low", "ci_high", "n", "failures"]
        + ["folds", "fold_mean", "fold_std"]
    )
    spreads = {(spread.method, spread.class_name): spread for spread in comparison.folds}
    for row in comparison.rows:
        spread = spreads.get((row.method, row.class_name))
        for metric in METRICS:
            s: Statistic = getattr(row, metric)
            values: list[float | int | str] = [s.mean, s.std, s.median, s.low, s.high, s.n, row.failures]
            values += [len(spread.folds), spread.mean[metric], spread.std[metric]] if spread else ["", "", ""]
            cells = ["" if isinstance(v, float) and math.isnan(v) else v for v in values]
            writer.writerow([row.method, row.class_name, metric, *cells])
    return text.getvalue()


def as_json(comparison: Comparison, used: Mapping[str, Any]) -> str:
    """What was compared, how, with what (``used``: versions and machine), and what came out."""
    content = {
        "dataset": comparison.dataset_name,
        "methods": {m: [str(f) for f in folders] for m, folders in comparison.methods.items()},
        "truth": str(comparison.truth_folder),
        "cases": comparison.cases,
        "cases_missing": comparison.missing,
        "classes": comparison.classes,
        "ignore_label": comparison.ignore_label,
        "nsd_tolerance_mm": comparison.tolerance_mm,
        "nsd_tolerance_source": comparison.tolerance_source,
        "warnings": comparison.warnings,
        "notes": comparison.notes,
        "off_grid": {
            method: {case: asdict(difference) for case, difference in by_case.items()}
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
        "results": [asdict(row) for row in comparison.rows],
        "folds": [asdict(spread) for spread in comparison.folds],
        "paired_tests": [asdict(test) for test in comparison.tests],
        "ranking": RANKS,
        "ranks": [asdict(place) for place in comparison.ranks],
        "published": [asdict(pair) for pair in comparison.published],
        "published_source": SOURCE if comparison.published else None,
    }
    return json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n"


def _without_nan(value: Any) -> Any:
    """``value`` with every NaN, which JSON does not know, replaced by None."""
    if isinstance(value, Mapping):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
