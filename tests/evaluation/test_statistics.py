from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, wilcoxon

from nnunetv2_sam2_3dmed.evaluation.statistics import (
    correct,
    holm,
    mean_interval,
    paired_test,
    rank,
    rank_biserial,
    wilcoxon_p,
)


def test_the_interval_of_many_normal_values_is_the_textbook_one():
    values = np.random.default_rng(1).normal(10, 2, size=400)
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    low, high = mean_interval(values)
    assert low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_it_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    intervals = [mean_interval(rng.beta(8, 2, size=30)) for _ in range(200)]  # as Dice: below 1, skewed
    covered = np.mean([low <= 0.8 <= high for low, high in intervals])
    assert 0.89 <= covered <= 0.99


def test_what_has_no_interval():
    assert mean_interval([0.3] * 6) == (0.3, 0.3)
    # the largest interval possible, of the values themselves, covers the median in 1 - 2^(1 - n): 93.75 % of five
    assert all(math.isnan(bound) for bound in mean_interval([0.1, 0.2, 0.3, 0.4, 0.5]))


def test_values_that_differ_by_rounding_have_an_interval_without_width_and_without_warnings():
    values = [0.9, 0.9, 0.9 + 1.2e-16, 0.9, 0.9, 0.9]
    assert len(set(values)) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mean_interval(values) == pytest.approx((0.9, 0.9), abs=1e-15)


def test_few_values_of_a_few_kinds_have_an_interval_around_their_mean():
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(100):
            values = rng.choice([0.0, 0.5, 0.9, 1.0], size=rng.integers(6, 9))
            low, high = mean_interval(values)
            assert values.min() - 1e-12 <= low <= np.mean(values) + 1e-12
            assert np.mean(values) - 1e-12 <= high <= values.max() + 1e-12


def test_holm_by_hand():
    # sorted: 0.01 * 3 = 0.03; 0.03 * 2 = 0.06; 0.04 * 1, raised to the 0.06 before it
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1, 1]
    assert holm([]) == []


def test_wilcoxon_of_six_improvements():
    # all six ranks on one side: 2 of the 2**6 equally likely sign patterns are as extreme
    reference = 0.5
    assert wilcoxon_p(np.array([0.51, 0.52, 0.54, 0.58, 0.66, 0.82]) - reference) == pytest.approx(2 / 64)


def test_wilcoxon_of_equal_scores_is_one():
    assert wilcoxon_p([0.0] * 6) == 1


def test_too_few_cases_have_no_p_and_do_not_count_in_the_correction():
    better = np.array([0.01, 0.02, 0.04, 0.08, 0.16, 0.32])
    few = paired_test("Dice", "b", "a", better[:5])
    enough = paired_test("Dice", "c", "a", better)
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
        assert wilcoxon_p(scores - reference) == pytest.approx(wilcoxon(scores, reference).pvalue, rel=1e-12)


def simulated_p(rng: np.random.Generator, difference: float) -> float:
    """The p-value of 30 cases whose scores differ by ``difference`` and noise."""
    return wilcoxon_p(rng.normal(difference, 0.05, size=30))


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
    families = [[simulated_p(rng, 0.0) for _ in range(4)] for _ in range(200)]
    assert sum(min(holm(family)) < 0.05 for family in families) <= binom.ppf(0.9995, 200, 0.05)
    # without the correction it would be 1 - 0.95**4, 19 %: the test above can fail
    assert sum(min(family) < 0.05 for family in families) > binom.ppf(0.9995, 200, 0.05)


def test_ranks_by_hand():
    # cases: a first, b first, a and b share first and second
    ranks = rank("Dice", pd.DataFrame({"c": [0.1, 0.2, 0.3], "b": [0.5, 0.9, 0.7], "a": [0.8, 0.6, 0.7]}))
    by_method = {r.method: r.mean_rank for r in ranks}
    assert by_method == {"a": pytest.approx(4.5 / 3), "b": pytest.approx(4.5 / 3), "c": pytest.approx(3)}
    assert [r.method for r in ranks][-1] == "c"


def test_a_method_that_is_always_best_is_first_in_every_resample():
    ranks = rank("NSD", pd.DataFrame({"worse": [0.1, 0.2, 0.3, 0.4], "better": [0.2, 0.3, 0.4, 0.5]}))
    assert [(r.method, r.first_share) for r in ranks] == [("better", 1), ("worse", 0)]


def test_equal_methods_share_the_first_place():
    assert [r.first_share for r in rank("Dice", pd.DataFrame({"a": [0.5, 0.6], "b": [0.5, 0.6]}))] == [0.5, 0.5]
