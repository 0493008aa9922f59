"""One training with its validation, and its state according to nnU-Net's own files."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.specification import Method, Specification

LOCK = ".sam2_3dmed.lock"


class RunState(Enum):
    """State of a run."""

    WAITING = "waiting"  # nothing to go on from
    STARTED = "started"  # there is a checkpoint of an unfinished training
    TRAINED = "trained"  # the training is finished, its validation is not
    DONE = "done"


@dataclass(frozen=True)
class TrainingRun:
    """Training and validation of a method on one fold of a dataset (``dataset`` is its full name)."""

    dataset: str
    method: Method
    fold: int

    @property
    def path(self) -> str:
        """The run's folder in ``nnUNet_results``, which is also its name."""
        return f"{self.dataset}/{self.method.key}/fold_{self.fold}"

    @classmethod
    def from_path(cls, path: str) -> TrainingRun:
        """Return the run with this :attr:`path`.

        Raises:
            UserError: it is no run's path.
        """
        try:
            dataset, key, fold = path.split("/")
            trainer, plans, configuration = key.split("__")
            return cls(dataset, Method(trainer, configuration, plans), int(fold.removeprefix("fold_")))
        except ValueError:
            raise UserError(f"the run is {path!r}, expected DATASET/TRAINER__PLANS__CONFIG/fold_N.") from None

    def folder(self, results: Path) -> Path:
        """Return the run's folder in ``results``."""
        return results / self.path

    def lock(self, results: Path) -> Path:
        """Return the lock that the process that trains it holds."""
        return self.folder(results) / LOCK

    def state(self, results: Path) -> RunState:
        """Return the run's state."""
        folder = self.folder(results)
        final = folder / "checkpoint_final.pth"
        if is_whole(final):
            return (
                RunState.DONE if _validated_since(folder / "validation" / "summary.json", final) else RunState.TRAINED
            )
        if any(is_whole(folder / f"checkpoint_{name}.pth") for name in ("latest", "best")):
            return RunState.STARTED
        return RunState.WAITING

    def command(self, device: str, state: RunState = RunState.WAITING) -> list[str]:
        """Return nnU-Net's command that takes the run from ``state`` to its end.

        Args:
            device: ``cuda`` or ``cpu``.
            state: of the run. ``--c`` would do for a finished training too, but starts nnU-Net's data loaders and
                writes the last checkpoint anew before it validates.
        """
        number = str(int(self.dataset[len("Dataset") :][:3]))
        return [
            *("nnUNetv2_train", number, self.method.configuration, str(self.fold)),
            *("-tr", self.method.trainer, "-p", self.method.plans, "-device", device),
            *{RunState.STARTED: ("--c",), RunState.TRAINED: ("--val",)}.get(state, ()),
        ]


def list_runs(specification: Specification, datasets: Sequence[str]) -> list[TrainingRun]:
    """Return all runs, in the order in which they are started.

    Methods take turns on a fold, so that there is something to compare before everything is done.

    Args:
        specification: content of the YAML file.
        datasets: the full names of its datasets.
    """
    return [
        TrainingRun(dataset, method.seeded(seed), fold)
        for dataset in datasets
        for seed in specification.seeds or (None,)
        for fold in specification.folds
        for method in specification.methods
    ]


def is_whole(checkpoint: Path) -> bool:
    """Return True if the file exists and is complete: a zip file's directory is written last."""
    return checkpoint.is_file() and zipfile.is_zipfile(checkpoint)


def set_torn_aside(folder: Path) -> list[str]:
    """Rename checkpoints that an interruption cut short, which nnU-Net would fail to load.

    nnU-Net's own trainers write checkpoints in place.

    Returns:
        The names of the files that were renamed to ``NAME.torn``.
    """
    torn = [c for c in (folder / f"checkpoint_{n}.pth" for n in ("final", "latest", "best")) if c.is_file()]
    torn = [c for c in torn if not is_whole(c)]
    for checkpoint in torn:
        os.replace(checkpoint, checkpoint.with_name(f"{checkpoint.name}.torn"))
    return [checkpoint.name for checkpoint in torn]


def _validated_since(summary: Path, checkpoint: Path) -> bool:
    """Return True if ``summary`` is complete and not older than ``checkpoint``, as after a second training."""
    try:
        json.loads(summary.read_text())
        return summary.stat().st_mtime >= checkpoint.stat().st_mtime
    except (OSError, ValueError):
        return False
