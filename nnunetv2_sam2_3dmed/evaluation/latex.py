"""A comparison as a LaTeX table, to be used with the package booktabs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from nnunetv2_sam2_3dmed.evaluation.summary import Comparison, Row, Statistic

# attribute of a row, heading, decimals, and whether more is better
_COLUMNS = (
    ("dice", "Dice", 3, True),
    ("iou", "IoU", 3, True),
    ("nsd", "NSD", 3, True),
    ("hd95_mm", "HD95 (mm)", 2, False),
)
_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def as_latex(comparison: Comparison) -> str:
    """Mean and standard deviation of each score, per class and method, the best mean of each class in bold.

    Methods whose means are printed alike are equally best. With one method nothing is bold.
    """
    n = len(comparison.cases)
    caption = (
        f"{escape(comparison.dataset_name)}: mean $\\pm$ sample standard deviation over {n} case{'s' * (n != 1)}. "
        f"NSD at {comparison.tolerance_mm:g}~mm ({escape(comparison.tolerance_source)}). HD95 is the mean over the "
        "cases in which both masks have voxels, or neither. Failures are the cases in which exactly one has. "
        "The best mean of each class is in bold."
    )
    lines = [
        *(f"% Warning: {warning}" for warning in comparison.warnings),
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{caption}}}",
        r"  \begin{tabular}{ll" + "r" * (len(_COLUMNS) + 1) + "}",
        r"    \toprule",
        "    " + " & ".join(["Class", "Method", *(heading for _, heading, _, _ in _COLUMNS), "Failures"]) + r" \\",
    ]
    for class_name, rows in groupby(comparison.rows, key=lambda row: row.class_name):
        lines.append(r"    \midrule")
        lines += _class_lines(class_name, list(rows))
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """``text`` with what LaTeX would take for commands made printable."""
    return text.translate(_ESCAPES)


def _class_lines(class_name: str, rows: Sequence[Row]) -> list[str]:
    columns = [
        _cells([getattr(row, attribute) for row in rows], digits, larger_is_better)
        for attribute, _, digits, larger_is_better in _COLUMNS
    ]
    lines = []
    for i, row in enumerate(rows):
        cells = [escape(class_name) if i == 0 else "", escape(row.method), *(c[i] for c in columns), str(row.failures)]
        lines.append("    " + " & ".join(cells) + r" \\")
    return lines


def _cells(statistics: Sequence[Statistic], digits: int, larger_is_better: bool) -> list[str]:
    """One score of every method, the best in bold, if all are means over as many cases.

    A method that found nothing in the hardest cases has no HD95 there: its mean is one of easier cases.
    """
    present = [s.mean for s in statistics if not math.isnan(s.mean)]
    best = (max if larger_is_better else min)(present, default=math.nan)
    comparable = len(statistics) > 1 and len({s.n for s in statistics}) == 1
    cells = []
    for statistic in statistics:
        mean = "--" if math.isnan(statistic.mean) else f"{statistic.mean:.{digits}f}"
        deviation = "" if math.isnan(statistic.std) else f" $\\pm$ {statistic.std:.{digits}f}"
        is_best = comparable and mean == f"{best:.{digits}f}"
        cells.append((rf"\textbf{{{mean}}}" if is_best else mean) + deviation)
    return cells
