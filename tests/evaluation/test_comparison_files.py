from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest

from nnunetv2_sam2_3dmed.evaluation.comparison import Comparison
from nnunetv2_sam2_3dmed.evaluation.comparison_files import (
    comparison_json,
    comparison_latex,
    comparison_markdown,
    per_case_csv,
    summary_csv,
)
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.evaluation.scores import FOREGROUND
from nnunetv2_sam2_3dmed.evaluation.tables import latex_escape
from tests.evaluation.comparisons import comparison_of


@pytest.fixture(scope="module")
def failure() -> Comparison:
    """One method that missed the organ of its only case."""
    return comparison_of({"a|b": {"case": {"organ": MaskMetrics(0, 0, 0, math.nan)}}})


def test_what_is_missing_is_null_in_json(failure):
    row = json.loads(comparison_json(failure, used={}))["results"][0]
    missing = dict.fromkeys(("mean", "std", "median", "low", "high", "q1", "q3"))
    assert row["hd95_mm"] == {**missing, "n": 0}
    assert row["dice"] == {"mean": 0, "std": None, "median": 0, "low": None, "high": None, "n": 1, "q1": 0, "q3": 0}
    assert row["failures"] == 1


def test_what_is_missing_is_empty_in_csv(failure):
    assert per_case_csv(failure).splitlines()[1] == "a|b,case,organ,0.0,0.0,0.0,,"


def test_the_summary_has_a_line_for_each_score_and_leaves_out_what_is_missing(failure):
    lines = summary_csv(failure).splitlines()
    assert lines[0] == ("method,class,metric,mean,std,median,ci_low,ci_high,n,failures,folds,fold_mean,fold_std")
    assert lines[1] == "a|b,organ,dice,0.0,,0.0,,,1,1,,,"
    assert lines[4] == "a|b,organ,hd95_mm,,,,,,0,1,,,"
    assert len(lines) == 1 + 2 * 4  # the class and the foreground mean


def test_markdown_has_straight_columns_and_no_test_of_a_single_method(failure):
    report = comparison_markdown(failure)
    table = [line for line in report.splitlines() if line.startswith("|")]
    assert len(table) == 4  # header, rule, organ, foreground mean
    assert len({len(line) for line in table}) == 1
    assert "n/a (n/a), n=0" in table[2]
    assert r"a\|b" in table[2]
    assert "Wilcoxon" not in report
    assert "1 case that every method has was compared." in report


def comparison(scores: dict) -> Comparison:
    return comparison_of(scores, dataset_name="Dataset042_A&B", tolerance_mm=2.5, tolerance_source="50 % of a voxel")


def case(dice: float, nsd: float, hd95_mm: float) -> dict:
    return {"left_organ": MaskMetrics(dice, dice / 2, nsd, hd95_mm)}


@pytest.fixture
def scores() -> dict:
    return {
        "nnUNet_x": {"a": case(0.9, 0.5, 3.0), "b": case(0.7, 0.5, 5.0)},
        "ours 100%": {"a": case(0.6, 0.50001, 2.0), "b": case(0.8, 0.5, 2.5)},
    }


@pytest.fixture
def lost() -> dict:
    """Found nothing in the hard case, and so has the smallest mean distance."""
    return {"a": case(0.0, 0.0, math.nan), "b": case(0.9, 0.5, 0.1)}


def cells(table: str, method: str) -> list[str]:
    line = next(line for line in table.splitlines() if f"& {latex_escape(method)} &" in line)
    return [cell.strip() for cell in line.strip().removesuffix(r"\\").split("&")]


def test_the_best_of_each_score_is_bold(scores):
    table = comparison_latex(comparison(scores))
    # 0.9 and 0.7: mean 0.8, deviation 0.1 * sqrt(2); distances 3 and 5
    assert cells(table, "nnUNet_x") == [
        r"left\_organ",
        r"nnUNet\_x",
        r"\textbf{0.800} $\pm$ 0.141",
        r"\textbf{0.400} $\pm$ 0.071",
        r"\textbf{0.500} $\pm$ 0.000",
        r"4.00 $\pm$ 1.41",
        "0",
    ]
    ours = cells(table, "ours 100%")
    assert ours[2].startswith("0.700 ")
    assert ours[4] == r"\textbf{0.500} $\pm$ 0.000"  # better in a digit that is not printed
    assert ours[5] == r"\textbf{2.25} $\pm$ 0.35"  # smaller is better


def test_distances_over_different_cases_have_no_best(scores, lost):
    table = comparison_latex(comparison({**scores, "lost": lost}))
    assert [cells(table, method)[5] for method in (*scores, "lost")] == [
        r"4.00 $\pm$ 1.41",
        r"2.25 $\pm$ 0.35",
        "0.10",
    ]
    assert cells(table, "lost")[6] == "1"


def test_a_distance_that_no_case_has(scores):
    nothing = {name: case(0.0, 0.0, math.nan) for name in "ab"}
    assert cells(comparison_latex(comparison({**scores, "lost": nothing})), "lost")[2:] == [
        *[r"0.000 $\pm$ 0.000"] * 3,
        "--",
        "2",
    ]


def test_a_single_method_is_not_the_best(lost):
    assert r"\textbf" not in comparison_latex(comparison({"lost": lost}))


def test_it_is_a_booktabs_table_of_one_block_per_class(scores):
    table = comparison_latex(comparison(scores))
    assert table.count(r"\toprule") == table.count(r"\bottomrule") == 1
    assert table.count(r"\midrule") == 2
    assert latex_escape(FOREGROUND) in table
    rows = [line for line in table.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + 2 * 2
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {6}
    assert re.search(r"\\begin\{tabular\}\{(.*)\}", table)[1] == "ll" + "r" * 5
    environments = re.findall(r"\\(begin|end)\{(\w+)\}", table)
    assert environments == [("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")]
    assert r"Dataset042\_A\&B" in table and r"NSD at 2.5~mm (50 \% of a voxel)" in table
    assert table.replace(r"\{", "").count("{") == table.replace(r"\}", "").count("}")


def test_what_latex_would_take_for_commands_is_escaped():
    assert latex_escape(r"a_b & 5% #1 ${x}$ ~ ^ \n <|>") == (
        r"a\_b \& 5\% \#1 \$\{x\}\$ \textasciitilde{} \textasciicircum{} \textbackslash{}n "
        r"\textless{}\textbar{}\textgreater{}"
    )


def test_the_number_of_cases_is_stated(scores):
    one = {method: {"a": by_case["a"]} for method, by_case in scores.items()}
    assert "deviation over 1 case." in comparison_latex(comparison(one))
    assert cells(comparison_latex(replace(comparison(one), tolerance_mm=2.0)), "nnUNet_x")[2] == r"\textbf{0.900}"
