"""How far a mean over cases could have come out otherwise, with other cases of the same kind."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import bootstrap

FEWEST_CASES = 6
RESAMPLES = 2000
CONFIDENCE = 0.95
_SEED = 0  # the same numbers every time
_ROUNDING = 1e-12  # relative; values that differ by less are the same value, computed differently


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The 95 % bootstrap confidence interval (BCa, over cases) of the mean; NaN with fewer than :data:`FEWEST_CASES`.

    It lies within the values. Symmetric ones all lie on one side of their centre with probability 2^(1 - n), so that
    no interval of five of them or fewer covers it in 95 % of samples.

    Args:
        values: one per case, without NaN.
    """
    cases = np.asarray(values, float)
    if len(cases) < FEWEST_CASES:
        return math.nan, math.nan
    if np.ptp(cases) <= _ROUNDING * np.abs(cases).max():  # every resample is alike, and BCa is not defined
        return float(cases.min()), float(cases.max())
    result = bootstrap(
        (cases,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, random_state=np.random.default_rng(_SEED)
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def resampled_cases(number: int) -> np.ndarray:
    """Indices of bootstrap resamples of ``number`` cases: (resamples, number)."""
    return np.random.default_rng(_SEED).integers(number, size=(RESAMPLES, number))
