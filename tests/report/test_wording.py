from __future__ import annotations

from dataclasses import replace

import pytest

from nnunetv2_sam2_3dmed.evaluation.nnunet_validation import selection_note
from nnunetv2_sam2_3dmed.report.methods import describe_methods
from nnunetv2_sam2_3dmed.report.wording import caveats, summary_sentences

BASE = [0.80, 0.82, 0.78, 0.81, 0.79, 0.83, 0.77, 0.84]


def sentences(comparison) -> list[str]:
    return summary_sentences(comparison, describe_methods(comparison.methods))


def test_a_difference_that_is_significant(make_comparison):
    comparison = make_comparison({"x": {"a": BASE}, "y": {"a": [d + 0.1 for d in BASE]}})
    first, second, third = sentences(comparison)
    assert first.startswith("y has the highest mean Dice, 0.905 (95 % interval 0.")
    # eight pairs, all to one side: p = 2 / 2^8 = 0.0078; two tests, Holm doubles it
    assert second.startswith("The mean Dice of y is higher than that of x by 0.1000 (95 % interval 0.1000 to 0.1000);")
    assert second.endswith("the difference is significant after Holm's correction (p = 0.0156).")
    assert third.startswith("The mean NSD of y is higher than that of x by 0.1000")
    assert "not show that the methods are equal" not in " ".join(caveats(comparison))


def test_no_difference_found_is_not_called_equality(make_comparison):
    comparison = make_comparison({"x": {"a": BASE}, "y": {"a": BASE[::-1]}})
    first, second, third = sentences(comparison)
    assert first == "x and y have the highest mean Dice, 0.805, of 2 methods on 8 cases."
    assert second.startswith("No difference in Dice was found between y and x")
    assert third.startswith("No difference in NSD was found between y and x")
    assert "not significant" in second and "higher" not in second and "lower" not in second
    assert "that does not show that the methods are equal" in " ".join(caveats(comparison))


def test_too_few_cases_for_a_test(make_comparison):
    _, second, _ = sentences(make_comparison({"x": {"a": [0.8, 0.7]}, "y": {"a": [0.7, 0.65]}}))
    assert "lower than that of x by 0.0750" in second
    assert second.endswith("2 cases do not suffice for a test.")


def test_one_method_and_its_failures(make_comparison):
    first, second = sentences(make_comparison({"x": {"a": [0.8], "b": [None]}}))
    assert first == "x reaches a mean Dice of 0.400 over 1 case."
    assert second.endswith("(x: 1 case).")


def test_a_mean_that_two_cases_turn_against_the_others_is_not_called_significant(make_comparison):
    reference = [0.5 + 0.01 * i for i in range(40)]
    # two cases of 40 missed altogether; the others better by 0.001 to 0.0048, so that no two ranks are the same
    scores = [None, None, *(d + 0.001 + 0.0001 * i for i, d in enumerate(reference[2:]))]
    comparison = make_comparison({"b": {"a": reference}, "a": {"a": scores}})
    # the two have the ranks 39 and 40 of a sum of 820
    mean = -(0.50 + 0.51 - sum(0.001 + 0.0001 * i for i in range(38))) / 40
    assert comparison.tests[0].effect == pytest.approx((820 - 2 * (39 + 40)) / 820)
    _, dice, _, _ = sentences(comparison)
    assert dice.startswith(f"The mean Dice of a is lower than that of b by {-mean:.4f} (95 % interval")
    assert dice.endswith(
        ", but case by case a tends to be higher: in 38 of 40 cases (test of signed ranks, p < 0.0001 after Holm's "
        "correction)."
    )
    assert "significant" not in " ".join(sentences(comparison))


def test_equal_means_have_no_direction(make_comparison):
    _, dice, _ = sentences(make_comparison({"x": {"a": [0.5, 0.75]}, "y": {"a": [0.75, 0.5]}}))
    assert dice == "The mean Dice of y and that of x are equal to four digits; 2 cases do not suffice for a test."
    # 20 cases better by 1/64, one worse by as much as all of them together
    better = make_comparison({"x": {"a": [0.5] * 21}, "y": {"a": [0.5 + 1 / 64] * 20 + [0.5 - 20 / 64]}})
    _, dice, _ = sentences(better)
    assert dice.startswith("The mean Dice of y and that of x are equal to four digits, but case by case y tends to be")
    assert "higher: in 20 of 21 cases" in dice and "significant" not in dice


def test_models_that_were_chosen_by_the_scored_cases_are_among_the_caveats(make_comparison):
    comparison = make_comparison({"x": {"a": BASE}, "y": {"a": BASE[::-1]}})
    assert not any("Early stopping" in sentence for sentence in caveats(comparison))
    chosen = replace(comparison, chosen_by_scored_cases=["y"])
    (said,) = [sentence for sentence in caveats(chosen) if "Early stopping" in sentence]
    assert said == selection_note(["y"]) and "for y; only" in said
