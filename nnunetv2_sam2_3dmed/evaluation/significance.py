"""Paired tests of methods on the same cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import wilcoxon

FEWEST_CASES = 6  # with 5 pairs, no result of the two-sided test lies below 0.05


@dataclass(frozen=True)
class PairedTest:
    """A two-sided Wilcoxon signed-rank test of one method against the reference method.

    Attributes:
        metric: the score that was compared, as foreground mean per case.
        method: the method tested.
        reference: the method it is tested against.
        n: number of cases.
        mean_difference: mean over the cases of the method's score minus the reference's.
        p: p-value; None with fewer than :data:`FEWEST_CASES` cases.
        p_holm: p-value after Holm's correction over all tests of the comparison; None if ``p`` is.
    """

    metric: str
    method: str
    reference: str
    n: int
    mean_difference: float
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
    difference = float(np.mean(np.asarray(scores) - np.asarray(reference_scores)))
    return PairedTest(metric, method, reference, len(scores), difference, wilcoxon_p(scores, reference_scores))


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
