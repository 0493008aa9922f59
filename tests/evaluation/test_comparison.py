from __future__ import annotations

import math

import pytest

from nnunetv2_sam2_3dmed.evaluation.comparison import compare_with, rank_methods, summarize
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.evaluation.scores import FOREGROUND, score_table
from nnunetv2_sam2_3dmed.evaluation.statistics import Statistic

FAILED = MaskMetrics(0, 0, 0, math.nan)


def test_statistics_by_hand():
    statistic = Statistic.of([1, 2, 6, math.nan])
    # deviations from 3: -2, -1, 3; squares sum to 14, over n - 1 = 2
    assert (statistic.mean, statistic.median, statistic.n) == (3, 2, 3)
    assert statistic.std == pytest.approx(math.sqrt(7))
    assert (statistic.q1, statistic.q3) == (1.5, 4)  # half-way between neighbours
    assert math.isnan(Statistic.of([1]).std)
    assert math.isnan(Statistic.of([math.nan]).mean)


def test_rows_per_class_and_of_the_foreground():
    by_case = {
        "a": {"head": MaskMetrics(0.8, 0.6, 0.9, 2), "tail": MaskMetrics(0.4, 0.2, 0.5, 4)},
        "b": {"head": MaskMetrics(1.0, 1.0, 1.0, 0), "tail": FAILED},
    }
    rows = {
        (row.class_name, row.method): row for row in summarize(score_table({"x": by_case, "y": by_case}), {"y": 1.5})
    }
    assert list(rows) == [(c, m) for c in ("head", "tail", FOREGROUND) for m in ("x", "y")]
    assert rows["head", "x"].dice.mean == pytest.approx(0.9)
    assert rows["head", "x"].failures == 0
    assert rows["tail", "x"].failures == 1
    assert rows["tail", "x"].nsd.mean == pytest.approx(0.25)
    assert (rows["tail", "x"].hd95_mm.mean, rows["tail", "x"].hd95_mm.n) == (4, 1)
    # (0.6 + 0.2) / 2 classes for a, (1.0 + 0) / 2 for b
    assert rows[FOREGROUND, "x"].iou.mean == pytest.approx((0.4 + 0.5) / 2)
    # only case a has all its distances
    assert (rows[FOREGROUND, "x"].hd95_mm.mean, rows[FOREGROUND, "x"].hd95_mm.n) == (3, 1)
    assert rows[FOREGROUND, "x"].failures == 1
    assert (rows["head", "x"].seconds, rows["head", "y"].seconds) == (None, 1.5)


def test_every_method_is_tested_against_the_reference_on_both_metrics():
    gains = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32]
    scores = {
        "first": {str(i): {"organ": MaskMetrics(0.5, 0.3, 0.5, 1)} for i in range(6)},
        "same": {str(i): {"organ": MaskMetrics(0.5, 0.3, 0.5, 1)} for i in range(6)},
        "mixed": {str(i): {"organ": MaskMetrics(0.5 + g, 0.3, 0.5 - g, 1)} for i, g in enumerate(gains)},
    }
    table = score_table(scores)
    tests = {(t.metric, t.method): t for t in compare_with("first", table)}
    assert set(tests) == {(metric, method) for metric in ("Dice", "NSD") for method in ("same", "mixed")}
    assert all(t.reference == "first" and t.n == 6 for t in tests.values())
    assert tests["Dice", "same"].p == 1
    assert tests["Dice", "mixed"].mean_difference == pytest.approx(0.105)
    assert tests["NSD", "mixed"].mean_difference == pytest.approx(-0.105)
    # both raw values are 2 / 64; four tests, so the smaller two become 4 * and (raised to it) 3 * 2 / 64
    assert tests["NSD", "mixed"].p == pytest.approx(2 / 64)
    assert tests["NSD", "mixed"].p_holm == pytest.approx(8 / 64)
    assert (tests["Dice", "mixed"].effect, tests["NSD", "mixed"].effect, tests["Dice", "same"].effect) == (1, -1, 0)
    assert {t.method for t in compare_with("mixed", table)} == {"first", "same"}
    # by Dice mixed is alone before two equals; by NSD it is behind them
    ranks = {(r.metric, r.method): r.mean_rank for r in rank_methods(table)}
    assert ranks["Dice", "mixed"] == 1 and ranks["Dice", "same"] == 2.5
    assert ranks["NSD", "mixed"] == 3 and ranks["NSD", "same"] == 1.5
    assert rank_methods(score_table({"first": scores["first"]})) == []


def test_scores_are_paired_by_case():
    # the same five scores, each one case later: 0.1 worse in five cases, 0.6 better in one. Ranks 1 to 5 speak against
    # the method and 6 for it
    reference, method = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.7, 0.1, 0.2, 0.3, 0.4, 0.5]
    table = score_table(
        {
            name: {str(i): {"organ": MaskMetrics(dice, dice, 0.5, 1)} for i, dice in enumerate(values)}
            for name, values in (("first", reference), ("other", method))
        }
    )
    dice, _ = compare_with("first", table)
    assert dice.effect == pytest.approx((6 - 15) / 21)
    assert dice.mean_difference == pytest.approx(0.1 / 6)
