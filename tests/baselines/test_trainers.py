"""The trainers: what they tell nnU-Net, and how nnU-Net finds them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunetv2_sam2_3dmed.baselines.trainers import (
    nnUNetTrainer_MedNeXt_S,
    nnUNetTrainer_SwinUNETR,
    nnUNetTrainer_UNETR,
)
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet.environment import trainers_folder

PATCH = [6, 20, 33]
DATASET_JSON = {"labels": {"background": 0, "one": 1, "two": 2}, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}
TRAINERS = (nnUNetTrainer_SwinUNETR, nnUNetTrainer_UNETR, nnUNetTrainer_MedNeXt_S)


def plans(patch: list[int]) -> dict:
    """As much of a plan as a trainer reads before it sees data."""
    configuration = {
        "data_identifier": "none",
        "batch_size": 2,
        "patch_size": patch,
        "batch_dice": False,
        "spacing": [1.0] * len(patch),
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {"strides": [[1] * len(patch), [2] * len(patch)]},
            "_kw_requires_import": [],
        },
    }
    return {
        "dataset_name": "Dataset999_None",
        "plans_name": "nnUNetPlans",
        "configurations": {"3d_fullres": configuration},
        "label_manager": "LabelManager",
        "continue_training": False,
    }


@pytest.fixture
def make_trainer(tmp_path, monkeypatch):
    pytest.importorskip("monai")
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))

    def make(trainer, patch=PATCH):
        return trainer(plans(patch), "3d_fullres", 0, DATASET_JSON, torch.device("cpu"))

    return make


@pytest.mark.parametrize(
    ("trainer", "rate", "decay", "epsilon"),
    [
        (nnUNetTrainer_SwinUNETR, 1e-4, 1e-5, 1e-8),
        (nnUNetTrainer_UNETR, 1e-4, 1e-5, 1e-8),
        (nnUNetTrainer_MedNeXt_S, 1e-3, 3e-5, 1e-4),
    ],
)
def test_optimizers(make_trainer, trainer, rate, decay, epsilon):
    trainer = make_trainer(trainer)
    trainer.network = torch.nn.Linear(2, 2)
    optimizer, schedule = trainer.configure_optimizers()
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (group["lr"], group["weight_decay"], group["eps"]) == (rate, decay, epsilon)
    schedule.step(525)
    # MedNeXt has nnU-Net's polynomial; for the others it is half-way from the warm-up to the end of the cosine
    polynomial = isinstance(trainer, nnUNetTrainer_MedNeXt_S)
    assert group["lr"] == pytest.approx(rate * (1 - 0.525) ** 0.9 if polynomial else rate / 2)


def test_the_warm_up_rises_with_each_iteration(make_trainer, monkeypatch):
    trainer = make_trainer(nnUNetTrainer_UNETR)
    trainer.network = torch.nn.Linear(2, 2)
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    monkeypatch.setattr(nnUNetTrainer, "train_step", lambda self, batch: {"loss": 0.0})
    trainer.current_epoch = 3
    trainer.on_train_epoch_start()
    rates = []
    for _ in range(2):
        trainer.train_step({})
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    # 3 of 50 epochs are over, and one and two of 250 iterations
    assert rates == pytest.approx([1e-4 * (3 + i / 250) / 50 for i in (1, 2)])


def test_the_step_that_compiles_comes_before_any_epoch(make_trainer, monkeypatch):
    trainer = make_trainer(nnUNetTrainer_UNETR)
    trainer.network = torch.nn.Linear(2, 2)
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    monkeypatch.setattr(nnUNetTrainer, "train_step", lambda self, batch: {"loss": 0.0})
    trainer.train_step({})
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4 / 250 / 50)


@pytest.mark.parametrize("patch", [[40, 56, 40], [6, 20, 12], [5, 33, 96]])
def test_mednext_s_outputs_have_the_sizes_of_nnunet_s_targets(make_trainer, patch):
    trainer = make_trainer(nnUNetTrainer_MedNeXt_S, patch)
    transform = DownsampleSegForDSTransform(trainer._get_deep_supervision_scales())
    targets = transform(segmentation=torch.randint(0, 3, (1, *patch)))["segmentation"]
    network = trainer.build_network_architecture(
        trainer.plans_manager, trainer.configuration_manager, 1, 3, trainer.enable_deep_supervision
    )
    with torch.no_grad():
        outputs = network(torch.randn(1, 1, *patch))
    assert [o.shape[2:] for o in outputs] == [t.shape[1:] for t in targets]
    # nnU-Net's loss takes the outputs in this order; of its weights the last is zero and the rest halve
    loss = trainer._build_loss()
    assert loss.weight_factors == pytest.approx(np.array([8, 4, 2, 1, 0]) / 15)
    assert torch.isfinite(loss(outputs, [t[None] for t in targets]))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_prediction_builds_the_network_that_training_saved(make_trainer, trainer):
    trained = make_trainer(trainer)
    arguments = (trained.plans_manager, trained.configuration_manager, 1, 3)
    network = trained.build_network_architecture(*arguments, trained.enable_deep_supervision)
    rebuilt = trainer.build_network_architecture(*arguments, enable_deep_supervision=False)
    rebuilt.load_state_dict(network.state_dict())  # strict, as nnU-Net's
    with torch.no_grad():
        assert rebuilt.eval()(torch.randn(1, 1, *PATCH)).shape == (1, 3, *PATCH)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_two_dimensional_configurations_stop_at_once(make_trainer, trainer, tmp_path):
    with pytest.raises(UserError, match="two-dimensional"):
        make_trainer(trainer, [64, 64])
    assert not list(tmp_path.iterdir())


def test_without_monai_other_trainers_are_found_and_these_say_what_is_missing(tmp_path):
    (tmp_path / "monai").mkdir()
    (tmp_path / "monai" / "__init__.py").write_text("raise ModuleNotFoundError('No module', name='monai')\n")
    code = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
for name in ("SAM2_3dMedTrainer", "nnUNetTrainer_20minutes", "nnUNetTrainer_SwinUNETR"):
    assert find(name).__name__ == name
from nnunetv2_sam2_3dmed.errors import UserError
try:
    find("nnUNetTrainer_SwinUNETR_8minutes")({}, "3d_fullres", 0, {})
except UserError as error:
    assert "nnunetv2-sam2-3dmed[monai]" in str(error), error
else:
    raise SystemExit("no error")
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "nnUNet_extTrainer": trainers_folder()}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)


def test_each_is_found_under_its_name(monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", trainers_folder())
    for name in (f"nnUNetTrainer_MedNeXt_{size}" for size in "SBML"):
        assert recursive_find_trainer_class_by_name(name).size == name[-1]
    for trainer in TRAINERS:
        assert recursive_find_trainer_class_by_name(trainer.__name__) is trainer


@pytest.mark.parametrize("epochs", [1000, 20])
def test_the_transformers_warm_up_over_a_twentieth_of_their_epochs(make_trainer, epochs):
    """50 of 1000 epochs in the authors' code; a shorter training anneals as well."""
    trainer = make_trainer(nnUNetTrainer_SwinUNETR)
    trainer.num_epochs = epochs
    trainer.network = torch.nn.Linear(2, 2)
    optimizer, schedule = trainer.configure_optimizers()
    schedule.step(epochs / 20)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    schedule.step(epochs / 40)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5e-4)
    schedule.step(epochs)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
