"""Checkpoints that a full disk leaves alone, and validations whose files are all there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_sam2_3dmed.baselines.trainers import MonaiTrainer
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.training.names import nnUNetTrainer_2minutes
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from nnunetv2_sam2_3dmed.training.whole_files import WholeFilesTrainer


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "validation"
    folder.mkdir()
    for name in ("a", "b", "c"):
        labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(folder / f"{name}.nii.gz"))
    (folder / "._a.nii.gz").write_bytes(b"left by macOS")
    (folder / "summary.json").write_text("{}")
    return folder


@pytest.fixture
def trainer(folder):
    made = object.__new__(WholeFilesTrainer)
    made.local_rank, made.output_folder, made.dataset_json = 0, str(folder.parent), {"file_ending": ".nii.gz"}
    return made


def test_a_validation_of_whole_files_stands(folder, trainer, monkeypatch):
    monkeypatch.setattr(nnUNetTrainer, "perform_actual_validation", lambda self, save: None)
    trainer.perform_actual_validation()
    assert (folder / "summary.json").exists()


@pytest.mark.parametrize("scored", [True, False], ids=["scored", "nnU-Net could not read it"])
def test_scores_of_half_a_prediction_do_not_stay(folder, trainer, monkeypatch, scored):
    def on_a_full_disk(self, save):
        (folder / "b.nii.gz").write_bytes((folder / "b.nii.gz").read_bytes()[:-20])
        if not scored:
            raise RuntimeError("of the reader")

    monkeypatch.setattr(nnUNetTrainer, "perform_actual_validation", on_a_full_disk)
    with pytest.raises(UserError, match=r"1 predictions of the validation in .* are not whole \(b.nii.gz\)"):
        trainer.perform_actual_validation()
    assert not (folder / "summary.json").exists() and (folder / "a.nii.gz").exists()


@pytest.mark.parametrize("torn", [0.0, 0.5, 0.99], ids=["nothing", "half", "all but the end"])
def test_a_torn_checkpoint_does_not_replace_the_one_before(trainer, tmp_path, monkeypatch, torn):
    """torch.save returns, but not all of the file is there, as on a full disk of some file systems."""
    file = tmp_path / "checkpoint_latest.pth"
    trainer.disable_checkpointing = False
    content = {"network_weights": {"w": torch.zeros(1000)}}
    monkeypatch.setattr(nnUNetTrainer, "save_checkpoint", lambda self, name: torch.save(content, name))
    trainer.save_checkpoint(str(file))
    before = file.read_bytes()
    assert torch.load(file)["network_weights"]["w"].shape == (1000,)

    def save_torn(self, name):
        torch.save(content, name)
        Path(name).write_bytes(Path(name).read_bytes()[: int(torn * len(before))])

    monkeypatch.setattr(nnUNetTrainer, "save_checkpoint", save_torn)
    with pytest.raises(UserError):
        trainer.save_checkpoint(str(file))
    assert file.read_bytes() == before and list(tmp_path.glob("checkpoint*")) == [file]


def test_every_trainer_of_the_package_looks():
    for trainer in (SAM2_3dMedTrainer, MonaiTrainer, nnUNetTrainer_2minutes):
        assert trainer.save_checkpoint is WholeFilesTrainer.save_checkpoint
        assert trainer.perform_actual_validation is WholeFilesTrainer.perform_actual_validation
