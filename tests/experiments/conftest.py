"""Files as nnU-Net leaves them, and a training that takes a second."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.experiments import one_run
from nnunetv2_sam2_3dmed.experiments.runs import TrainingRun
from nnunetv2_sam2_3dmed.experiments.specification import Method

FAKE_TRAINING = Path(__file__).parent / "fake_training.py"


def write_checkpoint(path: Path, whole: bool = True) -> None:
    """A zip file, as torch.save writes; cut in half if not ``whole``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", bytes(1000))
    if not whole:
        path.write_bytes(path.read_bytes()[:500])


def write_summary(fold: Path, dice: float = 0.5, cases: Sequence[str] = ()) -> None:
    folder = fold / "validation"
    folder.mkdir(parents=True, exist_ok=True)
    per_case = [{"prediction_file": str(folder / f"{case}.nii.gz")} for case in cases]
    summary = {"foreground_mean": {"Dice": dice}, "metric_per_case": per_case}
    (folder / "summary.json").write_text(json.dumps(summary))


def finish(run: TrainingRun, results: Path) -> None:
    write_checkpoint(run.folder(results) / "checkpoint_final.pth")
    write_summary(run.folder(results))


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_results", str(folder))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return folder


@pytest.fixture
def run() -> TrainingRun:
    return TrainingRun("Dataset009_Spleen", Method("SAM2_3dMedTrainer", "3d"), 2)


@pytest.fixture
def fake_training(monkeypatch) -> None:
    """nnUNetv2_train is replaced by ``fake_training.py`` in this process."""
    monkeypatch.setattr(one_run, "resolve_command", lambda name: [sys.executable, str(FAKE_TRAINING)])
    monkeypatch.setattr(one_run, "POLL_SECONDS", 0.05)
