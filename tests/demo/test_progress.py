"""What the progress bars read from nnU-Net's files."""

from __future__ import annotations

import math
import os

import pytest

from nnunetv2_sam2_3dmed.demo import progress
from nnunetv2_sam2_3dmed.demo.progress import FileCount, TrainingTime, read_training_log, read_training_logs

# as nnU-Net 2.8.1 writes it under numpy 2
START = "2026-01-02 03:04:05.000001: This split has 19 training and 5 validation cases. \n"
EPOCH = """2026-01-02 03:04:05.000001:  
2026-01-02 03:04:05.000001: Epoch {number} 
2026-01-02 03:04:05.000001: Current learning rate: 0.01 
"""  # noqa: W291  (nnU-Net ends its lines with a blank)
END = """2026-01-02 03:04:45.000001: train_loss 0.1234 
2026-01-02 03:04:45.000001: val_loss -0.0567 
2026-01-02 03:04:45.000001: Pseudo dice [{dice}] 
2026-01-02 03:04:45.000001: Epoch time: {seconds} s 
"""  # noqa: W291
DONE = "2026-01-02 03:09:00.000001: Training done. \n"


def epoch(number: int, dice: str, seconds: float) -> str:
    return EPOCH.format(number=number) + END.format(dice=dice, seconds=seconds)


def test_a_log_of_two_epochs():
    text = START + epoch(0, "np.float32(0.0)", 40.5) + epoch(1, "np.float32(0.6306), np.float32(0.02), nan", 30.25)
    log = read_training_log(text)
    assert (log.started, log.epochs, log.seconds, log.finished) == (True, 2, 70.75, False)
    assert log.pseudo_dice[:2] == (0.6306, 0.02) and math.isnan(log.pseudo_dice[2])
    assert read_training_log(text + DONE).finished


@pytest.mark.parametrize("dice, expected", [("0.5, 0.25", (0.5, 0.25)), ("np.float64(1e-05), 1.0", (1e-5, 1.0))])
def test_spellings_of_the_pseudo_dice(dice, expected):
    assert read_training_log(epoch(0, dice, 1)).pseudo_dice == expected


def test_a_log_before_the_first_epoch():
    log = read_training_log(START)
    assert not log.started and log.epochs == 0 and log.pseudo_dice == ()
    assert read_training_log(START + EPOCH.format(number=0)).started


def test_a_continued_training_has_several_logs(tmp_path):
    # by time: nnU-Net does not pad months and days, so the names do not sort
    for name, text, time in (("9_2", epoch(0, "0.1", 40), 1), ("10_1", epoch(1, "0.2", 30), 2)):
        path = tmp_path / f"training_log_2026_{name}.txt"
        path.write_text(text)
        os.utime(path, (time, time))
    log = read_training_logs(tmp_path)
    assert (log.epochs, log.seconds, log.pseudo_dice) == (2, 70, (0.2,))


def test_training_time_runs_on_within_an_epoch(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(progress, "monotonic", lambda: clock[0])
    log, watch = tmp_path / "training_log_1.txt", TrainingTime(tmp_path, 3)
    assert watch() == (0.0, "starting")  # no log yet
    log.write_text(START + EPOCH.format(number=0))
    assert watch()[0] == 0
    clock[0] += 30
    assert watch() == (0.5, "epoch 0, Pseudo dice not known yet")
    log.write_text(START + epoch(0, "np.float32(0.61), np.float32(0.0)", 60) + EPOCH.format(number=1))
    assert watch() == (1.0, "epoch 1, Pseudo dice 0.61 0.00")
    clock[0] += 15
    assert watch()[0] == 1.25
    log.write_text(START + epoch(0, "0.6", 60) + epoch(1, "0.7", 90) + DONE)
    assert watch() == (2.5, "final validation")


def test_files_are_counted(tmp_path):
    watch = FileCount(tmp_path / "later", "*.png", 4)
    assert watch() == (0.0, "")
    (tmp_path / "later").mkdir()
    for name in ("a.png", "b.png", "c.json"):
        (tmp_path / "later" / name).touch()
    assert watch() == (2.0, "")
