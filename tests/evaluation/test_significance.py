from __future__ import annotations

import pytest

from nnunetv2_sam2_3dmed.evaluation.significance import correct, holm, paired_test, wilcoxon_p


def test_holm_by_hand():
    # sorted: 0.01 * 3 = 0.03; 0.03 * 2 = 0.06; 0.04 * 1, raised to the 0.06 before it
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1, 1]
    assert holm([]) == []


def test_wilcoxon_of_six_improvements():
    # all six ranks on one side: 2 of the 2**6 equally likely sign patterns are as extreme
    reference = [0.5] * 6
    assert wilcoxon_p([0.51, 0.52, 0.54, 0.58, 0.66, 0.82], reference) == pytest.approx(2 / 64)


def test_wilcoxon_of_equal_scores_is_one():
    assert wilcoxon_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == 1


def test_too_few_cases_have_no_p_and_do_not_count_in_the_correction():
    reference = [0.5] * 6
    better = [0.51, 0.52, 0.54, 0.58, 0.66, 0.82]
    few = paired_test("Dice", "b", "a", better[:5], reference[:5])
    enough = paired_test("Dice", "c", "a", better, reference)
    assert (few.n, few.p) == (5, None)
    assert enough.mean_difference == pytest.approx(0.63 / 6)
    corrected = correct([few, enough, enough])
    assert [t.p_holm for t in corrected] == [None, pytest.approx(4 / 64), pytest.approx(4 / 64)]
