"""Texts of the report: the summary in sentences that claim no more than the comparison shows, caveats and facts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.evaluation.comparison import Comparison
from nnunetv2_sam2_3dmed.evaluation.metrics import EMPTY_MASK_POLICY
from nnunetv2_sam2_3dmed.evaluation.scores import METRICS
from nnunetv2_sam2_3dmed.evaluation.statistics import PairedTest
from nnunetv2_sam2_3dmed.report.methods import ReportMethod

LEVEL = 0.05


def summary_sentences(comparison: Comparison, methods: Sequence[ReportMethod]) -> list[str]:
    """The summary at the head of the report, a sentence or two per entry."""
    labels = {method.name: method.label for method in methods}
    rows = sorted((comparison.row(m.name) for m in methods), key=lambda row: -row.dice.mean)
    best = rows[0]
    if len(rows) == 1:
        mean = _with_interval(best.dice.mean, best.dice.low, best.dice.high)
        sentences = [f"{labels[best.method]} reaches a mean Dice of {mean} over {_cases(len(comparison.cases))}."]
    else:
        ties = [row for row in rows if f"{row.dice.mean:.3f}" == f"{best.dice.mean:.3f}"]
        if len(ties) > 1:
            names = " and ".join(labels[row.method] for row in ties)
            first = f"{names} have the highest mean Dice, {best.dice.mean:.3f}"
        else:
            interval = _with_interval(best.dice.mean, best.dice.low, best.dice.high)
            first = f"{labels[best.method]} has the highest mean Dice, {interval}"
        sentences = [f"{first}, of {len(rows)} methods on {_cases(len(comparison.cases))}."]
    # both scores of a method together
    for method in methods:
        sentences += [_difference(comparison, test, labels) for test in comparison.tests if test.method == method.name]
    failures = [(labels[row.method], row.failures) for row in rows if row.failures]
    if failures:
        counts = "; ".join(f"{label}: {_cases(count)}" for label, count in failures)
        sentences.append(f"A class was missed altogether, or found where there is none, in some cases ({counts}).")
    return sentences


def caveats(comparison: Comparison) -> list[str]:
    """Limits of the numbers, in sentences."""
    sentences = ["Dice and NSD are here the mean over the classes of each case."] if len(comparison.classes) > 1 else []
    sentences.append(
        "Intervals and tests are over cases: they say how far the result could differ on other cases of the same kind."
    )
    sentences += comparison.notes
    trainings = max(len(folders) for folders in comparison.methods.values())
    if trainings == 1:
        sentences.append(
            "There is one training per method: how much a repeated training would differ, by its random start alone, "
            "is not known from this report."
        )
    if any(test.p_holm is not None and test.p_holm >= LEVEL for test in comparison.tests):
        sentences.append("Where no difference was found, that does not show that the methods are equal.")
    return sentences


def _difference(comparison: Comparison, test: PairedTest, labels: dict[str, str]) -> str:
    method, reference = labels[test.method], labels[test.reference]
    size = f"{abs(test.mean_difference):.4f}"
    equal = float(size) == 0  # as printed
    if not math.isnan(test.low):
        low, high = sorted((abs(test.low), abs(test.high)))
        same_sign = test.low * test.high > 0
        size += (
            f" (95 % interval {low:.4f} to {high:.4f})"
            if same_sign
            else f" (95 % interval of the difference {test.low:+.4f} to {test.high:+.4f})"
        )
    if equal:
        means = f"The mean {test.metric} of {method} and that of {reference} are equal to four digits"
    else:
        direction = "higher" if test.mean_difference > 0 else "lower"
        means = f"The mean {test.metric} of {method} is {direction} than that of {reference} by {size}"
    if test.p_holm is None:
        return f"{means}; {_cases(test.n)} do not suffice for a test."
    if test.p_holm >= LEVEL:
        return (
            f"No difference in {test.metric} was found between {method} and {reference}: the means differ by {size}, "
            f"which is not significant after Holm's correction (p = {test.p_holm:.4f})."
        )
    p = "p < 0.0001" if test.p_holm < 1e-4 else f"p = {test.p_holm:.4f}"
    if not equal and test.mean_difference * test.effect > 0:
        return f"{means}; the difference is significant after Holm's correction ({p})."
    # the test is of ranks, and a few large differences can turn the mean against it
    return (
        f"{means}, but case by case {method} tends to be {'higher' if test.effect > 0 else 'lower'}: "
        f"{_direction_of_cases(comparison, test)} (test of signed ranks, {p} after Holm's correction)."
    )


def _direction_of_cases(comparison: Comparison, test: PairedTest) -> str:
    """Number of cases in which the method differs in the direction of the test's effect, in words."""
    metric = next(metric for metric in METRICS if metric.name == test.metric)
    differences = comparison.case_scores(test.method, metric) - comparison.case_scores(test.reference, metric)
    return f"in {int((differences * test.effect > 0).sum())} of {_cases(test.n)}"


def _with_interval(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f}" if math.isnan(low) else f"{mean:.3f} (95 % interval {low:.3f} to {high:.3f})"


def _cases(count: int) -> str:
    return f"{count} case" if count == 1 else f"{count} cases"


def facts(
    comparison: Comparison,
    methods: Sequence[ReportMethod],
    folds: Sequence[str],
    used: Mapping[str, Any],
    now: datetime,
) -> list[tuple[str, str]]:
    """Names and values of the facts at the foot of the report.

    Args:
        comparison: to report.
        methods: of it.
        folds: nnU-Net's, as the user named them.
        used: versions and machine, as ``software_and_machine`` states them.
        now: the date of the report.
    """
    of_folds = any(method.fold_folders for method in methods)
    classes = ", ".join(f"{name} ({' + '.join(map(str, values))})" for name, values in comparison.classes.items())
    found = [
        ("Dataset", comparison.dataset_name),
        ("Cases", str(len(comparison.cases))),
        ("Classes (label values)", classes),
        ("Folds", ", ".join(folds) if of_folds else "none: folders of predictions were given"),
        ("Methods", "; ".join(method.name for method in methods)),
        ("NSD tolerance", f"{comparison.tolerance_mm:g} mm ({comparison.tolerance_source})"),
        ("Empty masks", EMPTY_MASK_POLICY),
        # not the whole path: a report is shared, and the folders of a machine are private
        ("Ground truth", "/".join(Path(comparison.gt_folder).parts[-2:])),
        ("Date", now.strftime("%Y-%m-%d %H:%M")),
    ]
    if comparison.ignore_label is not None:
        found.insert(3, ("Ignore label", f"{comparison.ignore_label}; its voxels are left out of all masks"))
    found += [(title, _listed(used[key])) for key, title in _TITLES.items() if used.get(key)]
    trained = {method.label: training_hardware(method.fold_folders) for method in methods}
    if any(trained.values()):
        found.append(("Trained on", "; ".join(f"{label}: {on}" for label, on in trained.items() if on)))
    return found


_TITLES = {"versions": "Software", "machine": "Compared on"}


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items() if value is not None)


def training_hardware(fold_folders: Sequence[Path]) -> str:
    """The devices on which the folds were trained, as nnU-Net notes them in ``debug.json``; empty if it does not."""
    devices: list[str] = []
    for folder in fold_folders:
        try:
            notes = json.loads((folder / "debug.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        name = notes.get("gpu_name") if "cuda" in str(notes.get("device")) else notes.get("device")
        if name and str(name) not in devices:
            devices.append(str(name))
    return ", ".join(devices)
