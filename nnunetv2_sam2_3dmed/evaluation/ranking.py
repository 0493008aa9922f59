"""Which method is best on most cases, and whether other cases would say so too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from nnunetv2_sam2_3dmed.evaluation.bootstrap import resampled_cases


@dataclass(frozen=True)
class Rank:
    """A method's place among the methods.

    Attributes:
        metric: the score that was ranked, as foreground mean per case.
        method: the method.
        mean_rank: its rank in each case (1 is best, ties share), averaged over the cases.
        first_share: in how many of the bootstrap resamples of the cases it has the best mean rank, 0 to 1;
            a resample in which several are best is shared out.
    """

    metric: str
    method: str
    mean_rank: float
    first_share: float


def rank(metric: str, scores: Mapping[str, Sequence[float]]) -> list[Rank]:
    """Ranks methods case by case, then averages; best first.

    Args:
        metric: the name of the score.
        scores: each method's score of every case, in the same order of cases; larger is better.
    """
    methods = list(scores)
    ranks = rankdata([[-value for value in scores[method]] for method in methods], axis=0)  # (methods, cases)
    means = ranks[:, resampled_cases(ranks.shape[1])].mean(axis=-1)  # (methods, resamples)
    best = np.isclose(means, means.min(axis=0))
    shares = (best / best.sum(axis=0)).mean(axis=1)
    found = [Rank(metric, m, float(ranks[i].mean()), float(shares[i])) for i, m in enumerate(methods)]
    return sorted(found, key=lambda r: r.mean_rank)
