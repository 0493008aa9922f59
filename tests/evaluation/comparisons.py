"""Comparisons made of stated scores: no files, no nnU-Net."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.evaluation.comparison import Comparison, compare_with, rank_methods, summarize
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.evaluation.scores import score_table


def comparison_of(scores: Mapping[str, Mapping[str, Mapping[str, MaskMetrics]]], **changes: Any) -> Comparison:
    """A comparison of scores by method, case and class; the first method is the reference."""
    methods = list(scores)
    classes = next(iter(next(iter(scores.values())).values()))
    table = score_table(scores)
    values: dict[str, Any] = {
        "dataset_name": "Dataset042_Blocks",
        "methods": {method: [Path("predictions") / str(i)] for i, method in enumerate(methods)},
        "gt_folder": Path("gt"),
        "classes": {name: (value,) for value, name in enumerate(classes, start=1)},
        "ignore_label": None,
        "tolerance_mm": 2.0,
        "scores": table,
        "missing": {method: [] for method in methods},
        "rows": summarize(table),
        "tests": compare_with(methods[0], table),
        "ranks": rank_methods(table),
    }
    return Comparison(**{**values, **changes})
