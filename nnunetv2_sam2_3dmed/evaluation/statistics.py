"""Statistics over cases: means with bootstrap confidence intervals, paired tests and ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, rankdata, wilcoxon

# of five symmetric values or fewer no interval covers the centre with 95 %, and no two-sided signed-rank test of five
# pairs can fall below 0.05
FEWEST_CASES = 6
RESAMPLES = 2000
CONFIDENCE = 0.95
_SEED = 0  # the same numbers every time
_ROUNDING = 1e-12  # relative; values that differ by less are the same value, computed differently


@dataclass(frozen=True)
class Statistic:
    """Mean, sample standard deviation, median and quartiles of a score over the ``n`` cases that have it.

    ``low`` and ``high`` bound the mean's 95 % bootstrap confidence interval. Undefined values (the mean of no case, the
    deviation of fewer than two, the interval of fewer than :data:`FEWEST_CASES`) are NaN.
    """

    mean: float
    std: float
    median: float
    low: float
    high: float
    n: int
    q1: float
    q3: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray | pd.Series) -> Statistic:
        """Statistics of ``values``, leaving out those that are NaN."""
        present = np.asarray(values, float)
        present = present[~np.isnan(present)]
        low, high = mean_interval(present)
        q1, q3 = np.percentile(present, (25, 75)) if len(present) else (np.nan, np.nan)
        return cls(
            mean=float(present.mean()) if len(present) else np.nan,
            std=float(present.std(ddof=1)) if len(present) > 1 else np.nan,
            median=float(np.median(present)) if len(present) else np.nan,
            low=low,
            high=high,
            n=len(present),
            q1=float(q1),
            q3=float(q3),
        )


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Bootstrap confidence interval (95 %, BCa, over cases) of the mean; NaN with fewer than :data:`FEWEST_CASES`.

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


@dataclass(frozen=True)
class PairedTest:
    """A two-sided Wilcoxon signed-rank test of one method against the reference method.

    Attributes:
        metric: the score that was compared, as foreground mean per case.
        method: the method tested.
        reference: the method it is tested against.
        n: number of cases.
        mean_difference: mean over the cases of the method's score minus the reference's.
        low: lower bound of its 95 % bootstrap confidence interval over cases; NaN with fewer than
            :data:`FEWEST_CASES`.
        high: upper bound of it.
        effect: matched-pairs rank-biserial correlation, -1 to 1: the share of the rank sum in favour of the method
            minus the share against it; 0 if all pairs are equal.
        p: p-value; None with fewer than :data:`FEWEST_CASES` cases.
        p_holm: p-value after Holm's correction over all tests of the comparison; None if ``p`` is.
    """

    metric: str
    method: str
    reference: str
    n: int
    mean_difference: float
    low: float
    high: float
    effect: float
    p: float | None
    p_holm: float | None = None


def wilcoxon_p(differences: Sequence[float] | np.ndarray) -> float | None:
    """Two-sided p-value of the Wilcoxon signed-rank test on the differences of paired scores.

    Returns:
        1 if all pairs are equal; None if there are fewer than :data:`FEWEST_CASES` pairs.
    """
    differences = np.asarray(differences, float)
    if len(differences) < FEWEST_CASES:
        return None
    if not differences.any():  # scipy's answer to this depends on its version
        return 1.0
    return float(wilcoxon(differences).pvalue)


def paired_test(metric: str, method: str, reference: str, differences: np.ndarray) -> PairedTest:
    """Test the differences of a method's scores from the reference's, one per case."""
    low, high = mean_interval(differences)
    return PairedTest(
        metric,
        method,
        reference,
        n=len(differences),
        mean_difference=float(differences.mean()),
        low=low,
        high=high,
        effect=rank_biserial(differences),
        p=wilcoxon_p(differences),
    )


def rank_biserial(differences: np.ndarray) -> float:
    """Effect size of the Wilcoxon signed-rank test (Kerby 2014); equal pairs are left out."""
    differences = differences[differences != 0]
    if not len(differences):
        return 0.0
    ranks = rankdata(abs(differences))
    return float((ranks * np.sign(differences)).sum() / ranks.sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, which controls the chance of any false finding in the family.

    The smallest of m p-values is multiplied by m, the next by m - 1, and so on; none may be smaller than the
    one before it, nor larger than 1.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected


def correct(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """The same tests with :attr:`PairedTest.p_holm`, taking those that have a p-value as one family."""
    corrected = iter(holm([t.p for t in tests if t.p is not None]))
    return [t if t.p is None else replace(t, p_holm=next(corrected)) for t in tests]


@dataclass(frozen=True)
class Rank:
    """A method's place among the methods.

    Attributes:
        metric: the score that was ranked, as foreground mean per case.
        method: the method.
        mean_rank: its rank in each case (1 is best, ties share), averaged over the cases.
        first_share: share of the bootstrap resamples of the cases in which it has the best mean rank, 0 to 1;
            a resample in which several are best is shared out.
    """

    metric: str
    method: str
    mean_rank: float
    first_share: float


def rank(metric: str, scores: pd.DataFrame, larger_is_better: bool = True) -> list[Rank]:
    """Rank methods case by case, then average; best first.

    Args:
        metric: the name of the score.
        scores: of each case (rows) and method (columns).
        larger_is_better: false for distances.
    """
    ranks = scores.rank(axis="columns", ascending=not larger_is_better).to_numpy()  # (cases, methods)
    resamples = np.random.default_rng(_SEED).integers(len(ranks), size=(RESAMPLES, len(ranks)))
    means = ranks[resamples].mean(axis=1)  # (resamples, methods)
    best = np.isclose(means, means.min(axis=1, keepdims=True))
    shares = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    found = [Rank(metric, m, float(ranks[:, i].mean()), float(shares[i])) for i, m in enumerate(scores.columns)]
    return sorted(found, key=lambda r: r.mean_rank)
