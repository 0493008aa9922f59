"""Losses and pseudo Dice of a training by epoch, from nnU-Net's checkpoint, or else from its log files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError

_LINES = {
    "train_loss": re.compile(r": train_loss (\S+)\s*$"),
    "val_loss": re.compile(r": val_loss (\S+)\s*$"),
    "pseudo_dice": re.compile(r": Pseudo dice \[(.*)\]\s*$"),
    "seconds": re.compile(r": Epoch time: (\S+) s\s*$"),
}
_EPOCH = re.compile(r": Epoch (\d+)\s*$")


@dataclass(frozen=True)
class TrainingCurve:
    """One training, a value per finished epoch.

    Attributes:
        fold: such as ``0`` or ``all``.
        epochs: their numbers, from 0.
        hours: of training at the end of each epoch; time between epochs (checkpoints, interruptions) is not
            counted.
        train_loss: mean over the iterations of the epoch.
        val_loss: the same, over validation patches.
        pseudo_dice: nnU-Net's Dice over validation patches, the mean over the classes.
    """

    fold: str
    epochs: np.ndarray
    hours: np.ndarray
    train_loss: np.ndarray
    val_loss: np.ndarray
    pseudo_dice: np.ndarray


def read_training_curve(fold_folder: Path) -> TrainingCurve | None:
    """The curve of a ``fold_N`` folder; None where neither a readable checkpoint nor a log tells of an epoch."""
    fold = fold_folder.name.removeprefix("fold_")
    return _from_checkpoint(fold_folder / "checkpoint_final.pth", fold) or _from_logs(fold_folder, fold)


def _from_checkpoint(file: Path, fold: str) -> TrainingCurve | None:
    if not file.is_file():
        return None
    from nnunetv2_sam2_3dmed.nnunet.checkpoints import load_checkpoint  # imports torch

    try:
        return curve_of_logging(load_checkpoint(file).get("logging", {}), fold)
    except UserError:  # the logs tell nearly as much
        return None


def curve_of_logging(logging: Mapping[str, Sequence[Any]], fold: str) -> TrainingCurve | None:
    """The curve in the logging that nnU-Net stores in a checkpoint; None if it has no finished epoch."""
    keys = ("train_losses", "val_losses", "mean_fg_dice", "epoch_start_timestamps", "epoch_end_timestamps")
    columns = [np.asarray(logging.get(key, ()), float) for key in keys]
    count = min(map(len, columns))
    if not count:
        return None
    train_loss, val_loss, dice, start, end = (column[:count] for column in columns)
    return TrainingCurve(fold, np.arange(count), np.cumsum(end - start) / 3600, train_loss, val_loss, dice)


def _from_logs(fold_folder: Path, fold: str) -> TrainingCurve | None:
    # their names hold the time at which they were begun
    logs = sorted(fold_folder.glob("training_log_*.txt"))
    return curve_of_log("\n".join(log.read_text(encoding="utf-8", errors="replace") for log in logs), fold)


def curve_of_log(text: str, fold: str) -> TrainingCurve | None:
    """The curve in the text of nnU-Net's log, or of several in a row when the training was continued.

    Epochs that were not finished are left out; of an epoch that was trained again, the last time counts.
    """
    epochs: dict[int, dict[str, float]] = {}
    for number, values in _logged_epochs(text):
        if values.keys() == _LINES.keys():
            epochs[number] = values
    if not epochs:
        return None
    numbers = sorted(epochs)
    columns = {key: np.array([epochs[number][key] for number in numbers]) for key in _LINES}
    return TrainingCurve(
        fold,
        np.array(numbers),
        np.cumsum(columns["seconds"]) / 3600,
        columns["train_loss"],
        columns["val_loss"],
        columns["pseudo_dice"],
    )


def _logged_epochs(text: str) -> Iterator[tuple[int, dict[str, float]]]:
    number: int | None = None
    values: dict[str, float] = {}
    for line in text.splitlines():
        if begun := _EPOCH.search(line):
            if number is not None:
                yield number, values
            number, values = int(begun[1]), {}
        for key, pattern in _LINES.items():
            if found := pattern.search(line):
                values[key] = _mean(found[1])
    if number is not None:
        yield number, values


def _mean(text: str) -> float:
    """The mean of the numbers in ``text`` that are not NaN; NaN if all are. numpy 2 prints np.float32(0.5)."""
    numbers = [
        float(n) for n in re.findall(r"nan|[-+]?(?:inf|\d[\d.]*(?:e[-+]?\d+)?)", re.sub(r"np\.float\d+", "", text))
    ]
    present = [n for n in numbers if not np.isnan(n)]
    return float(np.mean(present)) if present else float("nan")
