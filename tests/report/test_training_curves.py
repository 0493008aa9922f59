from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet.checkpoints import load_checkpoint
from nnunetv2_sam2_3dmed.report.training_curves import curve_of_log, curve_of_logging, read_training_curve

LOG = """
2026-01-01 10:00:00.000001: Epoch 0
2026-01-01 10:00:00.000002: Current learning rate: 0.01
2026-01-01 10:30:00.000003: train_loss terms {'segmentation': 0.7, 'srpp': 3.3}
2026-01-01 10:30:00.000003: train_loss 0.25
2026-01-01 10:30:00.000004: val_loss -0.125
2026-01-01 10:30:00.000005: Pseudo dice [np.float32(0.5), np.float32(0.25)]
2026-01-01 10:30:00.000006: Epoch time: 1800.0 s
2026-01-01 10:30:01.000001: Yayy! New best EMA pseudo Dice: 0.3
2026-01-01 10:30:02.000001: Epoch 1
2026-01-01 11:30:02.000003: train_loss -0.5
2026-01-01 11:30:02.000004: val_loss -1e-05
2026-01-01 11:30:02.000005: Pseudo dice [0.75, nan]
2026-01-01 11:30:02.000006: Epoch time: 3600.0 s
2026-01-01 11:30:03.000001: Epoch 2
2026-01-01 11:40:03.000003: train_loss -0.6
"""


def test_a_log_by_hand():
    curve = curve_of_log(LOG, "0")
    assert curve.epochs.tolist() == [0, 1]  # epoch 2 was not finished
    assert curve.hours.tolist() == [0.5, 1.5]
    assert curve.train_loss.tolist() == [0.25, -0.5]
    assert curve.val_loss.tolist() == [-0.125, -1e-05]
    assert curve.pseudo_dice.tolist() == [0.375, 0.75]  # a class without voxels is left out of the mean


def test_an_epoch_that_was_trained_again_counts_once():
    again = LOG.replace("train_loss -0.5\n", "train_loss -0.7\n").replace("3600.0", "7200.0")
    curve = curve_of_log(LOG + again[again.index("2026-01-01 10:30:02") :], "0")
    assert curve.train_loss.tolist() == [0.25, -0.7]
    assert curve.hours.tolist() == [0.5, 2.5]


def test_no_epoch_is_no_curve(tmp_path):
    assert curve_of_log("2026-01-01 10:00:00.000001: Epoch 0\n", "0") is None
    assert curve_of_logging({"train_losses": []}, "0") is None
    assert read_training_curve(tmp_path) is None


def logging():
    return {
        "train_losses": [np.float32(0.5), np.float64(0.25)],
        "val_losses": [0.75, 0.5],
        "mean_fg_dice": [np.float32(0.125), np.float32(0.5)],
        "dice_per_class_or_region": [[np.float32(0.125)], [np.float32(0.5)]],
        # an epoch of an hour, a pause, an epoch of half an hour
        "epoch_start_timestamps": [0.0, 9000.0],
        "epoch_end_timestamps": [3600.0, 10800.0],
    }


def test_a_checkpoint_goes_before_the_logs(tmp_path):
    fold = tmp_path / "fold_3"
    fold.mkdir()
    (fold / "training_log_2026_1_1_10_00_00.txt").write_text(LOG)
    assert read_training_curve(fold).hours.tolist() == [0.5, 1.5]
    torch.save({"logging": logging(), "network_weights": {"w": torch.zeros(2)}}, fold / "checkpoint_final.pth")
    curve = read_training_curve(fold)
    assert curve.fold == "3"
    assert curve.hours.tolist() == [1, 1.5]
    assert curve.train_loss.tolist() == [0.5, 0.25]
    assert curve.pseudo_dice.tolist() == [0.125, 0.5]


class Code:
    """Contents that a stranger may put into a checkpoint."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    fold, made = tmp_path / "fold_0", tmp_path / "made"
    fold.mkdir()
    torch.save({"logging": Code(made)}, fold / "checkpoint_final.pth")
    with pytest.raises(UserError, match="needs posix.mkdir to be unpickled, which is refused"):
        load_checkpoint(fold / "checkpoint_final.pth")
    (fold / "training_log_2026_1_1_10_00_00.txt").write_text(LOG)
    assert read_training_curve(fold).hours.tolist() == [0.5, 1.5]
    assert not made.exists()
