"""How far a running command has come, read from the files that it writes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Protocol


class Watch(Protocol):
    """Tells how much of ``total`` is done, and a note; ``amount`` says both in tqdm's format."""

    @property
    def total(self) -> float: ...

    @property
    def amount(self) -> str: ...

    def __call__(self) -> tuple[float, str]: ...


@dataclass(frozen=True)
class FileCount:
    """Counts the files named ``pattern`` in ``folder``, one per case."""

    folder: Path
    pattern: str
    total: float
    amount: str = "{n:.0f} of {total:.0f} cases"

    def __call__(self) -> tuple[float, str]:
        return float(sum(1 for _ in self.folder.glob(self.pattern))), ""


@dataclass(frozen=True)
class TrainingLog:
    """What nnU-Net's training log says.

    Attributes:
        started: the first epoch has begun.
        epochs: finished epochs.
        seconds: sum of their times.
        pseudo_dice: of the last finished epoch, one number per class; empty before the first.
        finished: the training is done (the final validation may still be running).
    """

    started: bool
    epochs: int
    seconds: float
    pseudo_dice: tuple[float, ...]
    finished: bool


def read_training_log(text: str) -> TrainingLog:
    """Reads the text of nnU-Net's training log, or of several in a row when the training was continued."""
    times = [float(value) for value in re.findall(r"Epoch time: ([\d.]+) s", text)]
    dice_lines = re.findall(r"Pseudo dice \[(.*)\]", text)
    # numpy 2 prints np.float32(0.5) where numpy 1 printed 0.5
    last = re.sub(r"np\.float\d+", "", dice_lines[-1]) if dice_lines else ""
    return TrainingLog(
        started=bool(re.search(r": Epoch \d+\s*$", text, re.MULTILINE)),
        epochs=len(times),
        seconds=sum(times),
        pseudo_dice=tuple(float(value) for value in re.findall(r"nan|\d[\d.e-]*", last)),
        finished="Training done." in text,
    )


def read_training_logs(fold_folder: Path) -> TrainingLog:
    """Reads all training logs in nnU-Net's folder of a fold, oldest first."""
    logs = sorted(fold_folder.glob("training_log_*.txt"), key=lambda path: path.stat().st_mtime)
    return read_training_log("".join(path.read_text(errors="replace") for path in logs))


@dataclass
class TrainingTime:
    """Minutes of training against the budget, with the last pseudo Dice, from the logs in ``fold_folder``."""

    fold_folder: Path
    total: float
    amount: str = "{n:.1f} of {total:g} minutes"
    _epochs_seen: int = field(default=-1, init=False)
    _since: float = field(default=0.0, init=False)

    def __call__(self) -> tuple[float, str]:
        log = read_training_logs(self.fold_folder)
        if log.finished:
            return log.seconds / 60, "final validation"
        if not log.started:
            return 0.0, "starting"
        if log.epochs != self._epochs_seen:
            self._epochs_seen, self._since = log.epochs, monotonic()
        dice = " ".join(f"{value:.2f}" for value in log.pseudo_dice) or "not known yet"
        return (log.seconds + monotonic() - self._since) / 60, f"epoch {log.epochs}, Pseudo dice {dice}"
