import math

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
    assert mean_interval([0.3, 0.3, 0.3]) == (0.3, 0.3)
    assert all(math.isnan(bound) for bound in mean_interval([0.3]))
