"""`sam2_3dmed experiment` through real trainings of seconds, of which one fails, to the report.

What a kill does to it is tested in ``tests/commands/test_experiment.py``, with trainings that are not real.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
import torch

from tests.end_to_end.conftest import DATASET, Workplace

TRAINERS = Path(__file__).parents[1] / "experiments" / "trainers"
NNUNET, SAM2 = (
    "ExperimentTrainer_nnUNet_seed3__nnUNetPlans__3d_fullres",
    "ExperimentTrainer_SAM2_seed3__nnUNetPlans__3d",
)
FAILING = "ExperimentTrainer_fails_seed3__nnUNetPlans__3d_fullres"

SPECIFICATION = """
name: tiny
datasets: [301]
folds: [1]
seeds: [3]
methods:
  - {trainer: ExperimentTrainer_nnUNet, configuration: 3d_fullres, name: nnU-Net}
  - {trainer: ExperimentTrainer_fails, configuration: 3d_fullres}
  - {trainer: ExperimentTrainer_SAM2, configuration: 3d}
reference: ExperimentTrainer_SAM2__nnUNetPlans__3d
"""


@pytest.fixture(scope="module")
def place(planned) -> Workplace:
    planned.environment["nnUNet_extTrainer"] += os.pathsep + str(TRAINERS)
    return planned


def test_from_the_file_to_the_report(place):
    (place.root / "tiny.yaml").write_text(SPECIFICATION)
    results, output = place.root / "nnUNet_results" / DATASET, place.root / "the output"
    printed = place.run("sam2_3dmed", "experiment", "tiny.yaml", "--devices", "cpu", "-o", "the output", status=1)

    for method in (NNUNET, SAM2):
        fold = results / method / "fold_1"
        log = "".join(file.read_text() for file in fold.glob("training_log_*.txt"))
        assert ": seed 3 " in log and log.count("Training done.") == 1
        assert torch.load(fold / "checkpoint_final.pth", weights_only=False)["trainer_name"] == method.split("__")[0]
    assert f"FAILED {DATASET}/{FAILING}/fold_1: exit status 1" in printed
    assert f"missing: {DATASET}/{FAILING}/fold_1 (exit status 1" in printed
    assert "ValueError: this trainer fails on purpose" in printed

    # the table is over the cases that fold 1 holds out, of both methods
    splits = json.loads((place.root / "nnUNet_preprocessed" / DATASET / "splits_final.json").read_text())
    with (output / DATASET / "per_case.csv").open() as file:
        rows = {(row["method"], row["case"]) for row in csv.DictReader(file)}
    assert rows == {(method, case) for method in (NNUNET, SAM2) for case in splits[1]["val"]}
    tests = json.loads((output / DATASET / "comparison.json").read_text())["paired_tests"]
    assert {test["reference"] for test in tests} == {SAM2}
    assert "<html" in (output / DATASET / "report.html").read_text()

    dice = json.loads((results / NNUNET / "fold_1" / "validation" / "summary.json").read_text())["foreground_mean"]
    spreads = json.loads((output / "seeds.json").read_text())
    (foreground,) = [
        s for s in spreads if (s["class_name"], s["metric"], s["method"]) == ("foreground mean", "dice", "nnU-Net")
    ]
    assert foreground["by_seed"] == {"3": pytest.approx(dice["Dice"], abs=1e-6)}
    plan = (output / "plan.txt").read_text().splitlines()
    assert plan[-3] == "nnUNetv2_train 301 3d_fullres 1 -tr ExperimentTrainer_nnUNet_seed3 -p nnUNetPlans -device cpu"
