"""Progress read from nnU-Net's logs and files, the estimate of the remaining time, and the display."""

from __future__ import annotations

import io
import json
import os
from math import isnan

import pytest
from rich.console import Console

from nnunetv2_sam2_3dmed.experiments.display import Display
from nnunetv2_sam2_3dmed.experiments.progress import (
    DONE,
    FAILED,
    RUNNING,
    WAITING,
    RunProgress,
    Watcher,
    read_training_log,
    read_training_logs,
    seconds_left,
    training_progress,
)
from nnunetv2_sam2_3dmed.experiments.runs import TrainingRun
from nnunetv2_sam2_3dmed.experiments.specification import Method, Specification
from nnunetv2_sam2_3dmed.locks import held
from tests.experiments.conftest import finish

EPOCH = """
2026-01-02 03:04:05.000000: Epoch {number}
2026-01-02 03:04:05.000000: Current learning rate: 0.01
2026-01-02 03:04:35.000000: Pseudo dice [np.float32(0.25), np.float32({dice})]
2026-01-02 03:04:35.000000: Epoch time: 30.0 s
"""
# as nnU-Net 2.8.1 ends its lines, under numpy 2
NNUNET_START = "2026-01-02 03:04:05.000001: This split has 19 training and 5 validation cases. \n"
NNUNET_EPOCH = "2026-01-02 03:04:05.000001:  \n2026-01-02 03:04:05.000001: Epoch {number} \n"
NNUNET_END = """2026-01-02 03:04:45.000001: val_loss -0.0567 \n2026-01-02 03:04:45.000001: Pseudo dice [{dice}] \n"""
NNUNET_END += "2026-01-02 03:04:45.000001: Epoch time: {seconds} s \n"
METHODS = (Method("A", "3d"), Method("B", "3d", name="ours"))
RUNS = [TrainingRun("Dataset001_X", method, fold) for fold in (0, 1) for method in METHODS]


def log(fold, name: str, numbers, age: int = 0, end: str = "") -> None:
    fold.mkdir(parents=True, exist_ok=True)
    file = fold / f"training_log_{name}.txt"
    file.write_text("".join(EPOCH.format(number=n, dice=0.1 * n) for n in numbers) + end)
    os.utime(file, (1e9 - age, 1e9 - age))


def epoch(number: int, dice: str, seconds: float) -> str:
    return NNUNET_EPOCH.format(number=number) + NNUNET_END.format(dice=dice, seconds=seconds)


def test_a_log_of_two_epochs():
    text = NNUNET_START + epoch(0, "np.float32(0.0)", 40.5)
    text += epoch(1, "np.float32(0.6306), np.float32(0.02), nan", 30.25)
    read = read_training_log(text)
    assert (read.epochs, read.seconds, read.finished) == (2, 70.75, False)
    assert read.pseudo_dice[:2] == (0.6306, 0.02) and isnan(read.pseudo_dice[2])
    assert read_training_log(text + "2026-01-02 03:09:00.000001: Training done. \n").finished


@pytest.mark.parametrize("dice, expected", [("0.5, 0.25", (0.5, 0.25)), ("np.float64(1e-05), 1.0", (1e-5, 1.0))])
def test_spellings_of_the_pseudo_dice(dice, expected):
    assert read_training_log(epoch(0, dice, 1)).pseudo_dice == expected


def test_a_continued_training_has_several_logs(tmp_path):
    # by time: nnU-Net does not pad months and days, so the names do not sort
    for name, text, time in (("9_2", epoch(0, "0.1", 40), 1), ("10_1", epoch(1, "0.2", 30), 2)):
        path = tmp_path / f"training_log_2026_{name}.txt"
        path.write_text(text)
        os.utime(path, (time, time))
    read = read_training_logs(tmp_path)
    assert (read.epochs, read.seconds, read.pseudo_dice) == (2, 70, (0.2,))


def test_epochs_of_a_training_that_went_on_are_not_counted_twice(tmp_path):
    assert training_progress(tmp_path, "cpu").note == "cpu: starting"
    (tmp_path / "debug.json").write_text(json.dumps({"num_epochs": "20"}))
    log(tmp_path, "1", range(4), age=100)
    # went on from the checkpoint after epoch 1
    log(tmp_path, "2", range(2, 5), end="2026-01-02 03:04:05.000000: Epoch 5\n")
    seen = training_progress(tmp_path, "cpu")
    assert seen.note == "cpu: epoch 5/20, pseudo Dice 0.33"  # (0.25 + 0.4) / 2
    assert (seen.share, seen.seconds) == (0.25, 150.0)


def test_a_budget_of_minutes(tmp_path):
    (tmp_path / "debug.json").write_text(json.dumps({"num_epochs": "1000", "minutes": "10"}))
    log(tmp_path, "1", range(4), age=100)
    log(tmp_path, "2", range(2, 5))
    seen = training_progress(tmp_path, "cpu")
    assert seen.note.startswith("cpu: epoch 5, 4/10 min")
    assert (seen.share, seen.seconds) == (0.35, 210.0)  # 7 epochs of 30 s, of 600 s


def test_validating(tmp_path):
    log(tmp_path, "1", range(2), end="2026-01-02 03:04:05.000000: Training done.\n")
    assert training_progress(tmp_path, "cuda:0") == RunProgress(RUNNING, "cuda:0: validating", 1.0, 60.0)


def test_the_rest_by_hand():
    progress = {
        RUNS[0].path: RunProgress(DONE, "", 1.0, 100.0),
        RUNS[1].path: RunProgress(RUNNING, "", 0.25, 100.0),  # B: 400 s, 300 of them to come
        RUNS[2].path: RunProgress(WAITING),  # A: 100 s
        RUNS[3].path: RunProgress(FAILED),
    }
    assert seconds_left(RUNS, progress, 2) == pytest.approx((300 + 100) / 2)
    assert seconds_left(RUNS, {run.path: RunProgress(WAITING) for run in RUNS}, 1) is None


def test_each_kind(results, tmp_path):
    finish(RUNS[0], results)
    log(RUNS[1].folder(results), "1", range(2))
    watcher = Watcher(results, tmp_path)
    with held(RUNS[3].lock(results)):
        seen = watcher.look(RUNS, {RUNS[1].path: "cuda:1"}, {RUNS[2].path})
    assert [seen[run.path].kind for run in RUNS] == [DONE, RUNNING, FAILED, RUNNING]
    assert seen[RUNS[0].path].note == "Dice 0.500"
    assert seen[RUNS[1].path].note.startswith("cuda:1: epoch 2,")
    assert seen[RUNS[3].path].note == "elsewhere: starting"
    assert isnan(seen[RUNS[0].path].seconds)  # it was trained by somebody else
    assert watcher.look(RUNS, {}, ())[RUNS[3].path].kind == WAITING


def display(terminal: bool) -> tuple[Display, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120)
    return Display(Specification("mine", ("1",), (0, 1), METHODS), RUNS, 1, console), text


PROGRESS = {
    RUNS[0].path: RunProgress(DONE, "Dice 0.812", 1.0, 60.0),
    RUNS[1].path: RunProgress(RUNNING, "cpu: epoch 3/9"),
    RUNS[2].path: RunProgress(WAITING),
    RUNS[3].path: RunProgress(FAILED),
}


def test_lines_of_changes_where_there_is_no_terminal():
    shown, text = display(terminal=False)
    with shown:
        shown.show(PROGRESS)
        shown.show(PROGRESS)
    lines = text.getvalue().splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        f"done    {RUNS[0].path} (Dice 0.812)",
        f"running {RUNS[1].path} (cpu: epoch 3/9)",
        f"failed  {RUNS[3].path}",
    ]


def test_a_table_on_a_terminal():
    shown, text = display(terminal=True)
    with shown:
        shown.show(PROGRESS)
        shown.say("a [failure] as it is")
    rows = [line for line in text.getvalue().splitlines() if "Dataset001_X" in line]
    assert any("A__nnUNetPlans__3d" in row and "Dice 0.812" in row and "waiting" in row for row in rows)
    assert any("ours" in row and "epoch 3/9" in row and "failed" in row for row in rows)
    assert "a [failure] as it is" in text.getvalue()
    assert "left: about 0:02:00" in text.getvalue()  # 60 s for each of the two that are not done
