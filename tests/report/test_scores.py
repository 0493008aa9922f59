from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.report.gallery import chosen_by_case
from nnunetv2_sam2_3dmed.report.methods import describe_methods
from nnunetv2_sam2_3dmed.report.scores import METRICS, case_scores, choose_cases, class_names


def chosen(comparison, method="m"):
    return [(c.why, c.case, round(c.dice, 6)) for c in choose_cases(comparison, method)]


def test_best_median_and_worst_by_foreground_mean(make_comparison):
    # means over the two classes: 0.75, 0.5, 0.9, 0.2, 0.6
    comparison = make_comparison({"m": {"a": [0.9, 0.4, 0.8, 0.4, 0.6], "b": [0.6, 0.6, 1.0, None, 0.6]}})
    assert chosen(comparison) == [("best", "case_2", 0.9), ("median", "case_4", 0.6), ("worst", "case_3", 0.2)]


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ([0.5], [("best", "case_0", 0.5)]),
        ([0.5, 0.7], [("best", "case_1", 0.7), ("worst", "case_0", 0.5)]),
        # of an even number, the better of the two in the middle
        ([0.1, 0.2, 0.3, 0.4], [("best", "case_3", 0.4), ("median", "case_2", 0.3), ("worst", "case_0", 0.1)]),
        # ties: by name
        ([0.5, 0.5, 0.5], [("best", "case_0", 0.5), ("median", "case_1", 0.5), ("worst", "case_2", 0.5)]),
    ],
)
def test_few_cases_and_ties(make_comparison, dice, expected):
    assert chosen(make_comparison({"m": {"a": dice}})) == expected


def test_a_case_that_several_methods_chose_is_shown_once(make_comparison):
    comparison = make_comparison({"x": {"a": [0.9, 0.5, 0.1]}, "y": {"a": [0.8, 0.1, 0.5]}})
    reasons = chosen_by_case(comparison, describe_methods(comparison.methods))
    assert reasons == {
        "case_0": ["best of x", "best of y"],
        "case_1": ["median of x", "worst of y"],
        "case_2": ["median of y", "worst of x"],
    }


def test_scores_of_classes_and_their_mean(make_comparison):
    comparison = make_comparison({"m": {"a": [0.8, 0.6], "b": [0.4, None]}})
    dice, hd95 = METRICS[0], METRICS[3]
    assert class_names(comparison) == ["a", "b", "foreground mean"]
    assert case_scores(comparison, "m", dice) == pytest.approx([0.6, 0.3])
    assert case_scores(comparison, "m", hd95, "a") == pytest.approx([2, 4])
    np.testing.assert_allclose(case_scores(comparison, "m", hd95), [4, np.nan])
    assert class_names(make_comparison({"m": {"a": [0.5]}})) == ["a"]
