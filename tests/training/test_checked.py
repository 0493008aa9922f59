"""Trainers look at their data before they begin, and at their losses in each step."""

from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_sam2_3dmed.baselines.trainers import MonaiTrainer
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.prompt_training.trainer import SAM2_PromptTrainer
from nnunetv2_sam2_3dmed.training.checked import CheckedTraining
from nnunetv2_sam2_3dmed.training.names import nnUNetTrainer_2minutes
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from nnunetv2_sam2_3dmed.training.variants import SAM2_3dMedTrainer_noPretrain
from tests.nnunet.test_preprocessed_labels import write_case


@pytest.mark.parametrize("trainer", [SAM2_3dMedTrainer, SAM2_PromptTrainer, MonaiTrainer, nnUNetTrainer_2minutes])
def test_all_of_our_trainers_do(trainer):
    assert trainer.on_train_start is not nnUNetTrainer.on_train_start
    assert issubclass(trainer, CheckedTraining)


@pytest.fixture
def trainer(make_trainer, monkeypatch):
    """Fold 0 trains on a and b, and validates on c; nothing is built."""
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda trainer: trainer.print_to_log_file("begun"))
    made = make_trainer(SAM2_3dMedTrainer_noPretrain, ["a", "b"], ["c"])
    for case in "abc":
        write_case(Path(made.preprocessed_dataset_folder), case, [-1, 1, 2])
    return made


def log_of(trainer) -> str:
    return Path(trainer.log_file).read_text()


def test_declared_labels_are_trained(trainer):
    trainer.on_train_start()
    assert "begun" in log_of(trainer) and "WARNING: None" not in log_of(trainer)


@pytest.mark.parametrize("case", ["a", "c"])
def test_a_stray_label_in_one_case_of_the_fold_ends_it(trainer, case):
    write_again(trainer, case, [1, 2, 7])
    with pytest.raises(UserError, match=f"case {case} of Dataset009_Spleen holds the label 7, .* declares 0, 1, 2:"):
        trainer.on_train_start()
    assert "begun" not in log_of(trainer)


def test_a_class_that_the_fold_does_not_train_on_is_told(trainer):
    for case in "ab":
        write_again(trainer, case, [1])  # c has both
    trainer.on_train_start()
    assert "WARNING: None of the 2 training cases of fold 0" in log_of(trainer) and "begun" in log_of(trainer)
    for case in "ab":
        write_again(trainer, case, [])
    with pytest.raises(UserError, match="none of the 2 training cases of fold 0 .* holds any voxel of organ, lesion"):
        trainer.on_train_start()


def test_labels_with_a_gap_end_it_before_the_trainer_is_made(trainer):
    gap = {**trainer.dataset_json, "labels": {"background": 0, "organ": 1, "lesion": 3}}
    with pytest.raises(UserError, match="leave out 2"):
        type(trainer)(trainer.plans_manager.plans, "3d", 0, gap, torch.device("cpu"))


def write_again(trainer, case: str, values: list[int]) -> None:
    folder = Path(trainer.preprocessed_dataset_folder)
    for file in folder.glob(f"{case}*"):
        file.unlink()
    write_case(folder, case, values)


@pytest.fixture
def stepping(trainer, monkeypatch):
    """The trainer with its network and a batch of two stacks; no data loaders."""
    trainer.initialize()
    data = torch.randn(2, 1, 4, 24, 20)
    target = torch.zeros(2, 1, 4, 24, 20, dtype=torch.int16)
    target[:, :, 1:, 4:12, 5:9] = 1
    return trainer, {"data": data, "target": target, "keys": np.array(["a", "b"])}


def test_a_step_with_nan_voxels_names_the_case(stepping):
    trainer, batch = stepping
    assert np.isfinite(trainer.train_step(batch)["loss"])
    batch["data"][1, 0, 2, 3, 4] = float("nan")
    with pytest.raises(UserError, match="a training step .* image of the case b has NaN"):
        trainer.train_step(batch)


def test_a_validation_with_nan_voxels_names_the_case(stepping):
    trainer, batch = stepping
    trainer.network.eval()
    batch["data"][0, 0, 2, 3, 4] = float("nan")
    with torch.no_grad(), pytest.raises(UserError, match="a validation step .* image of the case a has NaN"):
        trainer.validation_step(batch)


def test_weights_that_are_no_numbers_are_told_from_broken_voxels(stepping):
    trainer, batch = stepping
    with torch.no_grad():
        next(p for p in trainer.network.parameters() if p.requires_grad).fill_(float("nan"))
    with pytest.raises(UserError, match="for the cases a, b, whose voxels are finite: the training has diverged"):
        trainer.train_step(batch)
