"""`sam2_3dmed experiment` through real trainings: killed and started again, with a failing trainer, with seeds."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest
import torch

from nnunetv2_sam2_3dmed.experiments.runs import LOCK
from nnunetv2_sam2_3dmed.locks import is_held
from tests.end_to_end.conftest import DATASET, Workplace

TRAINERS = Path(__file__).parents[1] / "experiments" / "trainers"
METHODS = ("BenchmarkTrainer_nnUNet__nnUNetPlans__3d_fullres", "BenchmarkTrainer_SAM2__nnUNetPlans__3d")
FAILING = "BenchmarkTrainer_fails__nnUNetPlans__3d_fullres"

SPECIFICATION = """
name: tiny
datasets: [301]
folds: [0, 1]
methods:
  - {trainer: BenchmarkTrainer_nnUNet, configuration: 3d_fullres, name: nnU-Net}
  - {trainer: BenchmarkTrainer_fails, configuration: 3d_fullres}
  - {trainer: BenchmarkTrainer_SAM2, configuration: 3d}
reference: BenchmarkTrainer_SAM2__nnUNetPlans__3d
"""

SEEDS = """
name: seeds
datasets: [301]
folds: [0]
seeds: [3]
methods:
  - {trainer: BenchmarkTrainer_nnUNet, configuration: 3d_fullres}
"""


@pytest.fixture(scope="module")
def place(planned) -> Workplace:
    planned.environment["nnUNet_extTrainer"] += os.pathsep + str(TRAINERS)
    return planned


def write(place: Workplace, name: str, text: str) -> str:
    (place.root / name).write_text(text)
    return name


def training_logs(fold: Path) -> str:
    return "".join(log.read_text() for log in sorted(fold.glob("training_log_*.txt")))


def wait_until(condition, seconds: float) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, "nothing came of it in time"
        sleep(0.1)


def test_killed_and_started_again_it_finishes_everything_once(place):
    write(place, "tiny.yaml", SPECIFICATION)
    results = place.root / "nnUNet_results" / DATASET
    output = place.root / "nnUNet_results" / "experiment_tiny"
    command = ("sam2_3dmed", "experiment", "tiny.yaml", "--devices", "cpu")

    first, second = results / METHODS[0] / "fold_0", results / METHODS[1] / "fold_0"
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        env=place.environment,
        cwd=place.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: (second / "checkpoint_best.pth").exists() or process.poll() is not None, 600)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    # what it had started does not live on
    wait_until(lambda: not is_held(second / LOCK), 60)
    assert (first / "validation" / "summary.json").exists()
    assert not (second / "validation" / "summary.json").exists()

    printed = place.run(*command, status=1)
    for method, epochs in zip(METHODS, (4, 10), strict=True):
        for fold in (0, 1):
            folder = results / method / f"fold_{fold}"
            assert training_logs(folder).count("Training done.") == 1
            assert torch.load(folder / "checkpoint_final.pth", weights_only=False)["current_epoch"] == epochs
    # what was done before was not started again
    attempts = [json.loads((output / "records" / DATASET / m / "fold_0.json").read_text())["attempts"] for m in METHODS]
    assert attempts == [1, 2]
    assert "--c " in (output / "logs" / DATASET / METHODS[1] / "fold_0.log").read_text()
    assert "--c " not in (output / "logs" / DATASET / METHODS[1] / "fold_1.log").read_text()

    for fold in (0, 1):
        assert f"FAILED {DATASET}/{FAILING}/fold_{fold}: exit status 1" in printed
        assert f"missing: {DATASET}/{FAILING}/fold_{fold} (exit status 1" in printed
    assert "ValueError: this trainer fails on purpose" in printed

    # the table is over the cases that folds 0 and 1 hold out, of both methods
    splits = json.loads((place.root / "nnUNet_preprocessed" / DATASET / "splits_final.json").read_text())
    held_out = sorted(splits[0]["val"] + splits[1]["val"])
    with (output / DATASET / "per_case.csv").open() as file:
        rows = {(row["method"], row["case"]) for row in csv.DictReader(file)}
    assert rows == {(method, case) for method in METHODS for case in held_out}
    tests = json.loads((output / DATASET / "comparison.json").read_text())["paired_tests"]
    assert {test["reference"] for test in tests} == {METHODS[1]}


def test_a_seed_is_a_method_of_its_own(place):
    write(place, "seeds.yaml", SEEDS)
    place.run("sam2_3dmed", "experiment", "seeds.yaml", "--devices", "cpu", "-o", "seeds out")
    trainer = "BenchmarkTrainer_nnUNet_seed3"
    fold = place.results(DATASET, trainer, "3d_fullres") / "fold_0"
    assert ": seed 3 " in training_logs(fold)
    assert torch.load(fold / "checkpoint_final.pth", weights_only=False)["trainer_name"] == trainer
    dice = json.loads((fold / "validation" / "summary.json").read_text())["foreground_mean"]["Dice"]
    spreads = json.loads((place.root / "seeds out" / "seeds.json").read_text())
    (foreground,) = [s for s in spreads if (s["class_name"], s["metric"]) == ("foreground mean", "dice")]
    assert foreground["method"] == "BenchmarkTrainer_nnUNet__nnUNetPlans__3d_fullres"
    assert foreground["by_seed"] == {"3": pytest.approx(dice, abs=1e-6)}
    # the printed commands work as they are
    plan = (place.root / "seeds out" / "plan.txt").read_text().splitlines()
    assert f"{place.root / 'seeds out' / 'trainers'}" in next(p for p in plan if "nnUNet_extTrainer" in p)
    assert plan[-1] == "nnUNetv2_train 301 3d_fullres 0 -tr BenchmarkTrainer_nnUNet_seed3 -p nnUNetPlans -device cpu"
