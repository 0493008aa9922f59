from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.evaluation.summary import Comparison, compare_with, rank_methods, summarize
from nnunetv2_sam2_3dmed.evaluation.tables import as_csv, as_json, as_markdown, as_summary_csv


@pytest.fixture
def failure() -> Comparison:
    """One method that missed the organ of its only case."""
    scores = {"a|b": {"case": {"organ": MaskMetrics(0, 0, 0, math.nan)}}}
    return Comparison(
        dataset_name="Dataset042_Blocks",
        methods={"a|b": [Path("predictions")]},
        truth_folder=Path("truth"),
        classes={"organ": (1,)},
        ignore_label=None,
        tolerance_mm=2.0,
        scores=scores,
        missing={"a|b": []},
        rows=summarize(scores),
        tests=compare_with("a|b", scores),
        ranks=rank_methods(scores),
    )


def test_what_is_missing_is_null_in_json(failure):
    row = json.loads(as_json(failure, used={}))["results"][0]
    assert row["hd95_mm"] == {"mean": None, "std": None, "median": None, "low": None, "high": None, "n": 0}
    assert row["dice"] == {"mean": 0, "std": None, "median": 0, "low": None, "high": None, "n": 1}
    assert row["failures"] == 1


def test_what_is_missing_is_empty_in_csv(failure):
    assert as_csv(failure).splitlines()[1] == "a|b,case,organ,0,0,0,,"


def test_the_summary_has_a_line_for_each_score_and_leaves_out_what_is_missing(failure):
    lines = as_summary_csv(failure).splitlines()
    assert lines[0] == ("method,class,metric,mean,std,median,ci_low,ci_high,n,failures,folds,fold_mean,fold_std")
    assert lines[1] == "a|b,organ,dice,0.0,,0.0,,,1,1,,,"
    assert lines[4] == "a|b,organ,hd95_mm,,,,,,0,1,,,"
    assert len(lines) == 1 + 2 * 4  # the class and the foreground mean


def test_markdown_has_straight_columns_and_no_test_of_a_single_method(failure):
    report = as_markdown(failure)
    table = [line for line in report.splitlines() if line.startswith("|")]
    assert len(table) == 4  # header, rule, organ, foreground mean
    assert len({len(line) for line in table}) == 1
    assert "n/a ± n/a (n/a), n=0" in table[2]
    assert r"a\|b" in table[2]
    assert "Wilcoxon" not in report
    assert "1 case that every method has was compared." in report
