"""Paired tests of methods on the same cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata, wilcoxon

# with 5 pairs, no result of the two-sided test lies below 0.05 either
from nnunetv2_sam2_3dmed.evaluation.bootstrap import FEWEST_CASES, mean_interval


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
        effect: matched-pairs rank-biserial correlation, -1 to 1: the share of the rank sum that speaks for the
            method minus the share that speaks against it; 0 if all pairs are equal.
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


def wilcoxon_p(scores: Sequence[float], reference_scores: Sequence[float]) -> float | None:
    """Two-sided p-value of the Wilcoxon signed-rank test on paired scores.

    Returns:
        1 if all pairs are equal; None if there are fewer than :data:`FEWEST_CASES` pairs.
    """
    if len(scores) < FEWEST_CASES:
        return None
    differences = np.asarray(scores) - np.asarray(reference_scores)
    if not differences.any():  # scipy's answer to this depends on its version
        return 1.0
    return float(wilcoxon(differences).pvalue)


def paired_test(
    metric: str, method: str, reference: str, scores: Sequence[float], reference_scores: Sequence[float]
) -> PairedTest:
    """Tests ``scores`` against ``reference_scores``, which hold the same cases in the same order."""
    differences = np.asarray(scores) - np.asarray(reference_scores)
    low, high = mean_interval(differences)
    return PairedTest(
        metric,
        method,
        reference,
        n=len(scores),
        mean_difference=float(differences.mean()),
        low=low,
        high=high,
        effect=rank_biserial(differences),
        p=wilcoxon_p(scores, reference_scores),
    )


def rank_biserial(differences: np.ndarray) -> float:
    """The effect size that goes with the Wilcoxon signed-rank test (Kerby 2014); equal pairs are left out of it."""
    differences = differences[differences != 0]
    if not len(differences):
        return 0.0
    ranks = rankdata(abs(differences))
    return float((ranks * np.sign(differences)).sum() / ranks.sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p-values that control the chance of any false finding among them all.

    The smallest of m p-values is multiplied by m, the next by m - 1, and so on; none may be smaller than the
    one before it, nor larger than 1.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def correct(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """The same tests with :attr:`PairedTest.p_holm`, taking those that have a p-value as one family."""
    corrected = iter(holm([t.p for t in tests if t.p is not None]))
    return [t if t.p is None else replace(t, p_holm=next(corrected)) for t in tests]
