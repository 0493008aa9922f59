import math
import warnings

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.evaluation.bootstrap import mean_interval


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
