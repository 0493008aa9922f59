from __future__ import annotations

import math
from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.evaluation.cases import ComparedCase
from nnunetv2_sam2_3dmed.evaluation.folds import fold_names, spread_over_folds
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.evaluation.scores import FOREGROUND, score_table

RESULTS = Path("results")


def test_folders_are_called_after_their_fold_or_themselves():
    folders = [RESULTS / "fold_0" / "validation", RESULTS / "fold_all" / "validation", Path("mine")]
    assert list(fold_names(folders).values()) == ["fold_0", "fold_all", "mine"]
    folders = [Path("a/fold_0/validation"), Path("b/fold_0/validation"), Path("c/seed_1"), Path("d/seed_2")]
    assert list(fold_names(folders).values()) == ["a/fold_0", "b/fold_0", "c/seed_1", "d/seed_2"]


def metrics(dice: float, hd95_mm: float = 1.0) -> MaskMetrics:
    return MaskMetrics(dice, dice / 2, dice / 4, hd95_mm)


def test_means_of_folds_and_their_spread_by_hand():
    folders = [RESULTS / f"fold_{i}" / "validation" for i in (0, 1)]
    other = [Path("pooled")]
    fold_of = {"a": 0, "b": 0, "c": 0, "d": 1}
    cases = [
        ComparedCase(name, Path("truth"), {"x": folders[i] / f"{name}.nii.gz", "y": other[0] / f"{name}.nii.gz"})
        for name, i in fold_of.items()
    ]
    organ = {"a": metrics(0.9), "b": metrics(0.6), "c": metrics(0.0, math.nan), "d": metrics(0.7, 4.0)}
    scores = {method: {name: {"organ": m} for name, m in organ.items()} for method in ("x", "y")}
    spreads = spread_over_folds({"x": folders, "y": other}, cases, score_table(scores))
    # y lies in one folder and has no folds
    assert [(s.method, s.class_name) for s in spreads] == [("x", "organ"), ("x", FOREGROUND)]
    spread = spreads[0]
    assert [(f.fold, f.n) for f in spread.folds] == [("fold_0", 3), ("fold_1", 1)]
    # (0.9 + 0.6 + 0) / 3 = 0.5 and 0.7: mean 0.6, and not 0.55 as over cases; deviation 0.2 / sqrt(2)
    assert [f.means["dice"] for f in spread.folds] == pytest.approx([0.5, 0.7])
    assert (spread.mean["dice"], spread.std["dice"]) == pytest.approx((0.6, 0.2 / math.sqrt(2)))
    assert spread.mean["iou"] == pytest.approx(0.3)
    # the missing distance is left out: 1 and 4
    assert (spread.mean["hd95_mm"], spread.std["hd95_mm"]) == pytest.approx((2.5, 3 / math.sqrt(2)))


def test_a_fold_without_distances_does_not_count_for_hd95():
    folders = [Path("fold_0/validation"), Path("fold_1/validation")]
    cases = [ComparedCase(n, Path("truth"), {"x": folders[i] / f"{n}.nii.gz"}) for i, n in enumerate("ab")]
    scores = {"x": {"a": {"organ": metrics(0, math.nan)}, "b": {"organ": metrics(1, 3.0)}}}
    spread = spread_over_folds({"x": folders}, cases, score_table(scores))[0]
    assert math.isnan(spread.folds[0].means["hd95_mm"])
    assert spread.mean["hd95_mm"] == 3
    assert math.isnan(spread.std["hd95_mm"])


def test_folders_whose_cases_are_not_shared_are_no_folds():
    folders = [Path("fold_0/validation"), Path("fold_1/validation")]
    cases = [ComparedCase("a", Path("truth"), {"x": folders[0] / "a.nii.gz"})]
    assert spread_over_folds({"x": folders}, cases, score_table({"x": {"a": {"organ": metrics(1)}}})) == []
