"""A job of an experiment in which ``fake_training.py`` plays nnUNetv2_train; importable where the job runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_sam2_3dmed.experiments import one_run
from nnunetv2_sam2_3dmed.experiments.slurm import RunTask


@dataclass(frozen=True)
class FakeTask(RunTask):
    def __call__(self) -> str:
        one_run.resolve_command = lambda name: [sys.executable, str(Path(__file__).parent / "fake_training.py")]
        return super().__call__()
