from __future__ import annotations

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
