"""Progress of each run, read from nnU-Net's files."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import fmean

from nnunetv2_sam2_3dmed.experiments.records import read_record
from nnunetv2_sam2_3dmed.experiments.runs import RunState, TrainingRun
from nnunetv2_sam2_3dmed.locks import is_held

DONE, RUNNING, FAILED, WAITING = "done", "running", "failed", "waiting"


@dataclass(frozen=True)
class RunProgress:
    """Progress of a run.

    Attributes:
        kind: done, running, failed or waiting.
        note: a few words for the display.
        share: of the training that is done, 0 to 1, as far as known.
        seconds: that it took so far; NaN if not recorded.
    """

    kind: str
    note: str = ""
    share: float = 0.0
    seconds: float = nan


@dataclass(frozen=True)
class TrainingLog:
    """Content of nnU-Net's training log.

    Attributes:
        epochs: finished epochs.
        seconds: sum of their times.
        pseudo_dice: of the last finished epoch, one number per class; empty before the first.
        finished: the training is done (the final validation may still be running).
    """

    epochs: int
    seconds: float
    pseudo_dice: tuple[float, ...]
    finished: bool


def read_training_log(text: str) -> TrainingLog:
    """Read the text of nnU-Net's training log, or of several in a row when the training was continued."""
    times = [float(value) for value in re.findall(r"Epoch time: ([\d.]+) s", text)]
    dice_lines = re.findall(r"Pseudo dice \[(.*)\]", text)
    # numpy 2 prints np.float32(0.5) where numpy 1 printed 0.5
    last = re.sub(r"np\.float\d+", "", dice_lines[-1]) if dice_lines else ""
    return TrainingLog(
        epochs=len(times),
        seconds=sum(times),
        pseudo_dice=tuple(float(value) for value in re.findall(r"nan|\d[\d.e-]*", last)),
        finished="Training done." in text,
    )


def read_training_logs(fold_folder: Path) -> TrainingLog:
    """Read all training logs in nnU-Net's folder of a fold, oldest first."""
    logs = sorted(fold_folder.glob("training_log_*.txt"), key=lambda path: path.stat().st_mtime)
    return read_training_log("".join(path.read_text(errors="replace") for path in logs))


class Watcher:
    """Reader of the progress of runs, which reads those that are done only once.

    Args:
        results: ``nnUNet_results``.
        output: the experiment's folder.
    """

    def __init__(self, results: Path, output: Path):
        self.results = results
        self.output = output
        self._done: dict[str, RunProgress] = {}

    def look(
        self, runs: Sequence[TrainingRun], mine: Mapping[str, str], failed: Collection[str]
    ) -> dict[str, RunProgress]:
        """Return the progress of each run, by its path.

        Args:
            runs: to look at.
            mine: the devices of those that this process has started, by their paths.
            failed: paths of those that have failed since this process started.
        """
        return {run.path: self._look(run, mine.get(run.path), run.path in failed) for run in runs}

    def _look(self, run: TrainingRun, device: str | None, failed: bool) -> RunProgress:
        if run.path in self._done:
            return self._done[run.path]
        seconds = read_record(self.output, run.path).seconds or nan
        folder = run.folder(self.results)
        if device is not None:
            return training_progress(folder, device)
        if run.state(self.results) is RunState.DONE:
            self._done[run.path] = RunProgress(DONE, _validation_dice(folder), 1.0, seconds)
            return self._done[run.path]
        if failed:
            return RunProgress(FAILED, "", 0.0, seconds)
        if is_held(run.lock(self.results)):
            return training_progress(folder, "elsewhere")
        return RunProgress(WAITING, "", training_progress(folder, "").share, seconds)


def training_progress(folder: Path, where: str) -> RunProgress:
    """Return a training's progress, from the newest log in its folder.

    A training that went on after an interruption has several logs, and may have done epochs twice.
    """
    logs = sorted(folder.glob("training_log_*.txt"), key=lambda path: path.stat().st_mtime)
    text = logs[-1].read_text(errors="replace") if logs else ""
    log = read_training_log(text)
    begun = [int(number) for number in re.findall(r": Epoch (\d+)\s*$", text, re.MULTILINE)]
    if log.finished or (text and not begun and (folder / "checkpoint_final.pth").exists()):
        return RunProgress(RUNNING, f"{where}: validating", 1.0, log.seconds)
    if not begun:
        return RunProgress(RUNNING, f"{where}: starting")
    epochs, minutes = _length(folder, "num_epochs"), _length(folder, "minutes")
    finished = begun[0] + log.epochs
    dice = f", pseudo Dice {fmean(log.pseudo_dice):.2f}" if log.pseudo_dice else ""
    if minutes:  # a budget, which counts what earlier attempts lost as well
        used = read_training_logs(folder).seconds
        of, share, seconds = f", {used / 60:.0f}/{minutes:g} min", used / (60 * minutes), used
    else:
        of, share = (f"/{epochs:g}", finished / epochs) if epochs else ("", 0.0)
        seconds = finished * log.seconds / max(log.epochs, 1)  # what this share takes at this pace
    return RunProgress(RUNNING, f"{where}: epoch {finished}{of}{dice}", min(share, 1.0), seconds)


def seconds_left(runs: Sequence[TrainingRun], progress: Mapping[str, RunProgress], devices: int) -> float | None:
    """Estimate the time until all runs are done, in seconds; None before anything is known.

    A run takes as long as its method did on its dataset, on average over folds that are done or in progress.
    """
    known: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        seen = progress[run.path]
        if seen.kind in (DONE, RUNNING) and seen.share > 0 and seen.seconds > 0:
            known.setdefault((run.dataset, run.method.key), []).append(seen.seconds / seen.share)
    if not known:
        return None
    overall = fmean(value for values in known.values() for value in values)
    left = 0.0
    for run in runs:
        seen = progress[run.path]
        if seen.kind in (RUNNING, WAITING):
            left += (1 - seen.share) * fmean(known.get((run.dataset, run.method.key), [overall]))
    return left / devices


def _length(folder: Path, attribute: str) -> float | None:
    """Return one of the trainer's numbers, which nnU-Net writes beside the log."""
    try:
        return float(json.loads((folder / "debug.json").read_text())[attribute])
    except (OSError, ValueError, KeyError):
        return None


def _validation_dice(folder: Path) -> str:
    try:
        return f"Dice {json.loads((folder / 'validation/summary.json').read_text())['foreground_mean']['Dice']:.3f}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
