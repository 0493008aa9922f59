"""Each baseline trains, saves, and predicts in a new process."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.end_to_end import walk_trainers
from tests.end_to_end.conftest import DATASET, SHAPE, preprocessed, preprocessed_once, read_volume

__all__ = ["preprocessed", "preprocessed_once"]  # fixtures

TRAINERS = ("nnUNetTrainer_SwinUNETR", "nnUNetTrainer_UNETR", "nnUNetTrainer_MedNeXt_S")
PAIRS = [f"3d_fullres:{trainer}" for trainer in TRAINERS]
SCRIPT = str(Path(walk_trainers.__file__))


@pytest.fixture(scope="module")
def trained(preprocessed):
    pytest.importorskip("monai")
    preprocessed.run("python", SCRIPT, "train", "301", *PAIRS)
    return preprocessed


@pytest.mark.parametrize("trainer", TRAINERS)
def test_trained(trained, trainer):
    fold = trained.results(DATASET, trainer, "3d_fullres") / "fold_0"
    checkpoint = torch.load(fold / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    for losses in ("train_losses", "val_losses"):
        assert len(checkpoint["logging"][losses]) == 1 and np.isfinite(checkpoint["logging"][losses]).all()


def test_validated_without_deep_supervision(trained):
    trainer = TRAINERS[-1]
    trained.run("nnUNetv2_train", "301", "3d_fullres", "0", "-device", "cpu", "-tr", trainer, "--val")
    validation = trained.results(DATASET, trainer, "3d_fullres") / "fold_0" / "validation"
    assert (validation / "summary.json").is_file() and len(list(validation.glob("*.nii.gz"))) == 2


def test_predicted_in_a_new_process(trained, tmp_path):
    images = trained.root / "nnUNet_raw" / DATASET / "imagesTs"
    trained.run("python", SCRIPT, "predict", DATASET, str(images / "test_00_0000.nii.gz"), str(tmp_path), *PAIRS)
    predictions = {trainer: read_volume(tmp_path / f"{trainer}.nii.gz") for trainer in TRAINERS}
    for segmentation in predictions.values():
        assert segmentation.shape == SHAPE and np.isin(segmentation, [0, 1, 2]).all()
    trained.run(
        *("nnUNetv2_predict", "-d", "301", "-c", "3d_fullres", "-tr", TRAINERS[-1], "-f", "0", "-device", "cpu"),
        *("-i", str(images), "-o", str(tmp_path / "command")),
    )
    assert np.array_equal(read_volume(tmp_path / "command" / "test_00.nii.gz"), predictions[TRAINERS[-1]])
