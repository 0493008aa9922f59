from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, wilcoxon

from nnunetv2_sam2_3dmed.evaluation.significance import correct, holm, paired_test, rank_biserial, wilcoxon_p


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


def test_effect_size_by_hand():
    # ranks of the absolute differences 1, 2, 3, 4 (the equal pair is left out): 1 + 2 + 4 for, 3 against, of 10
    assert rank_biserial(np.array([0.1, 0.2, -0.3, 0.4, 0.0])) == pytest.approx((7 - 3) / 10)


def test_it_is_scipys_test_with_its_defaults():
    rng = np.random.default_rng(4)
    for n in (6, 12, 40, 90):
        scores, reference = rng.beta(8, 2, size=(2, n))
        scores[: n // 6] = reference[: n // 6]  # equal pairs, which the test leaves out
        assert wilcoxon_p(scores, reference) == pytest.approx(wilcoxon(scores, reference).pvalue, rel=1e-12)


def simulated_p(rng: np.random.Generator, difference: float) -> float:
    """The p-value of 30 cases whose scores differ by ``difference`` and noise."""
    reference = rng.beta(8, 2, size=30)
    return wilcoxon_p(reference + rng.normal(difference, 0.05, size=30), reference)


def test_a_planted_difference_is_found():
    # one standard deviation: the paired t-test, which Wilcoxon's comes close to, has a power of 0.9997
    rng = np.random.default_rng(0)
    assert all(simulated_p(rng, 0.05) < 0.05 for _ in range(50))


def test_without_a_difference_the_level_is_kept():
    rng = np.random.default_rng(1)
    false_alarms = sum(simulated_p(rng, 0.0) < 0.05 for _ in range(200))
    fewest, most = binom.interval(0.999, 200, 0.05)
    assert fewest <= false_alarms <= most


def test_the_family_keeps_its_level_after_holm():
    # four methods that do not differ: any of them is called different in at most 5 % of the comparisons
    rng = np.random.default_rng(2)
    families = [holm([simulated_p(rng, 0.0) for _ in range(4)]) for _ in range(200)]
    assert sum(min(family) < 0.05 for family in families) <= binom.ppf(0.9995, 200, 0.05)
    # without the correction it would be 1 - 0.95**4, 19 %: the test above can fail
    uncorrected = [min(simulated_p(rng, 0.0) for _ in range(4)) for _ in range(200)]
    assert sum(p < 0.05 for p in uncorrected) > binom.ppf(0.9995, 200, 0.05)
