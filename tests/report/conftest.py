"""Comparisons made of stated Dice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.evaluation.comparison import Comparison
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from tests.evaluation.comparisons import comparison_of


def metrics_of(dice: float | None) -> MaskMetrics:
    """Scores that go with a Dice; None is a failure: one of the masks is empty."""
    if dice is None:
        return MaskMetrics(0.0, 0.0, 0.0, math.nan)
    return MaskMetrics(dice, dice / (2 - dice), min(1.0, dice + 0.05), 10 * (1 - dice))


@pytest.fixture(scope="session")
def make_comparison():
    """A comparison from Dice by method and class, one value per case; case names are given or made."""

    def make(
        dice: Mapping[str, Mapping[str, Sequence[float | None]]],
        cases: Sequence[str] | None = None,
        dataset: str = "Dataset042_Blocks",
        folders: Mapping[str, Sequence[Path]] | None = None,
    ) -> Comparison:
        cases = cases or [f"case_{i}" for i in range(len(next(iter(next(iter(dice.values())).values()))))]
        scores = {
            method: {case: {c: metrics_of(values[i]) for c, values in by_class.items()} for i, case in enumerate(cases)}
            for method, by_class in dice.items()
        }
        return comparison_of(scores, dataset_name=dataset, **({"methods": folders} if folders else {}))

    return make
