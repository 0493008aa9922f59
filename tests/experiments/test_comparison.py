"""Coverage of an experiment's comparison, and the spread over seeds."""

from __future__ import annotations

import json
import statistics

import pytest

from nnunetv2_sam2_3dmed.experiments.comparison import COMMAND, comparison_command, coverage
from nnunetv2_sam2_3dmed.experiments.runs import TrainingRun
from nnunetv2_sam2_3dmed.experiments.seeds import seed_scores, spreads_as_json, spreads_as_markdown
from nnunetv2_sam2_3dmed.experiments.specification import Method
from tests.experiments.conftest import finish

A, B, C = (Method(name, "3d") for name in "ABC")
DATASET = "Dataset001_X"
RUNS = [TrainingRun(DATASET, method, fold) for fold in range(3) for method in (A, B, C)]


def done(results, *runs: tuple[Method, int]) -> None:
    for method, fold in runs:
        finish(TrainingRun(DATASET, method, fold), results)


def test_folds_that_all_have_and_methods_that_have_any(results, tmp_path):
    done(results, (A, 0), (A, 1), (A, 2), (C, 1), (C, 2))
    covered = coverage(DATASET, RUNS, results)
    assert (covered.methods, covered.folds) == ((A, C), (1, 2))
    assert set(covered.missing) == {f"{DATASET}/B__nnUNetPlans__3d/fold_{fold}" for fold in range(3)} | {
        f"{DATASET}/C__nnUNetPlans__3d/fold_0"
    }
    common = ["sam2_3dmed", COMMAND, "-d", DATASET, "-f", "1", "2", "-m", A.key, C.key, "-o", str(tmp_path / DATASET)]
    assert comparison_command(covered, tmp_path, None) == common
    assert comparison_command(covered, tmp_path, C) == [*common, "--reference", C.key]
    assert comparison_command(covered, tmp_path, B) == common  # it has no results


def test_nothing_in_common(results):
    assert not coverage(DATASET, RUNS, results).possible
    done(results, (A, 0), (B, 1))
    covered = coverage(DATASET, RUNS, results)
    assert not covered.possible and "nothing to compare" in covered.text()


def row(method: Method, dice: float, hd95: float | None) -> dict:
    scores = {metric: {"mean": dice} for metric in ("dice", "iou", "nsd")}
    return {"method": method.key, "class_name": "spleen", **scores, "hd95_mm": {"mean": hd95}}


def test_the_spread_over_seeds_against_the_statistics_module():
    dice = {0: 0.8, 1: 0.9, 2: 0.85}
    results = [row(A.seeded(seed), value, 3.0 + seed if seed else None) for seed, value in dice.items()]
    comparison = {"dataset": DATASET, "results": [*results, row(B.seeded(1), 0.5, 1.0), row(C, 0.1, 9.0)]}
    scores = seed_scores(comparison, (A, B), (0, 1, 2))
    found = {(s["method"], s["metric"]): s for s in json.loads(spreads_as_json(scores))}
    of_a = found[A.key, "dice"]
    assert (of_a["dataset"], of_a["class_name"]) == (DATASET, "spleen")
    assert of_a["by_seed"] == {str(seed): value for seed, value in dice.items()}
    assert of_a["mean"] == pytest.approx(statistics.mean(dice.values()))
    assert of_a["std"] == pytest.approx(statistics.stdev(dice.values()))
    assert found[A.key, "hd95_mm"]["by_seed"] == {"1": 4.0, "2": 5.0}  # the first has none
    assert found[B.key, "dice"]["std"] is None
    assert {method for method, _ in found} == {A.key, B.key}  # the third was not asked for
    lines = spreads_as_markdown(scores).splitlines()
    # stdev of 0.80, 0.85, 0.90 is 0.05; of 4 and 5, 0.707
    three = "0.850 ± 0.050 (3)"
    assert f"| spleen | {A.key} | {three} | {three} | {three} | 4.500 ± 0.707 (2) |" in lines
    assert f"| spleen | {B.key} | {' | '.join(['0.500 ± n/a (1)'] * 3)} | 1.000 ± n/a (1) |" in lines
