"""The trainer reads its settings beside its checkpoints, and starts from all of the weights."""

import copy
import json
import os
from pathlib import Path

import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2_sam2_3dmed.plans.planner import PlanOptions, add_configurations

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from nnunetv2_sam2_3dmed.prompt_training.finetuning import (
    Finetuning,
    SAM2_PromptTrainer_finetune,
    fold_folder,
    with_network,
)
from tests.interactive.reference import TINY, random_weights
from tests.plans.test_planner import DATASET, make_plans

CONFIGURATION = "3d_slices8"


@pytest.fixture
def plans(tmp_path, monkeypatch) -> dict:
    for name in ("preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    made = make_plans()
    made["transpose_forward"] = [0, 1, 2]
    statistics = {"mean": 100.0, "std": 40.0, "percentile_00_5": -20.0, "percentile_99_5": 220.0}
    made["foreground_intensity_properties_per_channel"] = {"0": statistics}
    made["configurations"]["3d_fullres"]["use_mask_for_norm"] = [False]
    add_configurations(made, DATASET, PlanOptions(image_size=96, slices=4, patch_size=(24, 20)))
    return made


def make_trainer(plans: dict) -> SAM2_PromptTrainer_finetune:
    plans = {**copy.deepcopy(plans), "continue_training": False}
    return SAM2_PromptTrainer_finetune(plans, CONFIGURATION, 0, DATASET, torch.device("cpu"))


@pytest.fixture
def begun(plans, tmp_path, promptable_file):
    """A checkpoint, and the settings in the folder of the fold."""
    os.link(promptable_file, tmp_path / "a.pth")
    content = torch.load(promptable_file, weights_only=False, mmap=True)
    network = content["init_args"]["prompted"]["network"]
    settings = Finetuning(
        *(str(tmp_path / "a.pth"), sha256_of(tmp_path / "a.pth"), "a_trainer", network, 2e-5, 1e-5),
        epochs=6,
        cases=["new_1", "new_2"],
    )
    settings.write(fold_folder("SAM2_PromptTrainer_finetune", plans, CONFIGURATION, 0))
    return content, settings


def test_without_settings_the_command_is_named(plans):
    with pytest.raises(UserError, match="start it with `sam2_3dmed annotate finetune`"):
        make_trainer(plans)


def test_rates_epochs_and_all_weights(plans, begun):
    content, settings = begun
    trainer = make_trainer(plans)
    assert (trainer.num_epochs, trainer.save_every) == (6, 1)
    assert trainer.my_init_kwargs["finetuned"] == vars(settings)
    assert trainer.my_init_kwargs["prompted"]["network"]["image_size"] == 64
    trainer.network = trainer.build_network_architecture(trainer.plans_manager, trainer.configuration_manager, 1, 3)
    trainer._load_pretrained(trainer._find_checkpoint())
    assert trainer.my_init_kwargs["unknown_start"]  # the start does not name its training cases
    assert not trainer.my_init_kwargs["given_weights"]
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, content["network_weights"][name])
    optimizer, schedule = trainer.configure_optimizers()
    schedule.step(0)
    encoder = {id(p) for name, p in trainer.network.named_parameters() if name.startswith("image_encoder.")}
    assert [group["lr"] for group in optimizer.param_groups] == [2e-5, 1e-5]
    assert {id(p) for p in optimizer.param_groups[1]["params"]} == encoder
    schedule.step(5)
    assert optimizer.param_groups[0]["lr"] < 0.5 * 2e-5  # it falls within these epochs


def test_its_cases_are_trained_on_and_no_other_training_is_told(plans, begun, tmp_path):
    folds = [{"train": ["a", "new_1"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]
    trainer = make_trainer(plans)
    into = Path(trainer.preprocessed_dataset_folder)
    into.mkdir(parents=True)
    for case in ("a", "b", "new_1", "new_2", "new_3"):
        (into / f"{case}.b2nd").touch()
    splits = into.parent / "splits_final.json"
    splits.write_text(json.dumps(folds))
    assert trainer.do_split() == (["a", "new_1", "new_2"], ["b"])
    assert json.loads(splits.read_text()) == folds
    splits.write_text(json.dumps([{"train": ["a"], "val": ["b", "new_2"]}]))
    with pytest.raises(UserError, match="fold 0 validates against new_2, which this fine-tuning trains on"):
        trainer.do_split()


@pytest.mark.parametrize("text", ['{"checkpoint": ""', "[]", '{"sha256": "", "more": 1}'])
def test_damaged_settings(plans, text):
    folder = fold_folder("SAM2_PromptTrainer_finetune", plans, CONFIGURATION, 0)
    folder.mkdir(parents=True)
    (folder / "finetune.json").write_text(text)
    with pytest.raises(UserError, match="finetune.json is no.*delete its folder and start again"):
        make_trainer(plans)


def test_official_weights(plans, begun, tmp_path):
    weights = random_weights()
    torch.save({"model": weights}, tmp_path / "official.pt")
    file = tmp_path / "official.pt"
    settings = Finetuning(str(file), sha256_of(file), "official", {"backbone": TINY}, 2.5e-5, 1.5e-5, 6)
    settings.write(fold_folder("SAM2_PromptTrainer_finetune", plans, CONFIGURATION, 0))
    trainer = make_trainer(plans)
    assert trainer.my_init_kwargs["prompted"]["network"]["image_size"] == 96
    trainer.network = trainer.build_network_architecture(trainer.plans_manager, trainer.configuration_manager, 1, 3)
    trainer._load_pretrained(trainer._find_checkpoint())
    assert trainer.my_init_kwargs["unknown_start"]  # of another checksum than SAM 2's own
    assert all(torch.equal(value, weights[name]) for name, value in trainer.network.state_dict().items())


def test_another_file_in_its_place_is_not_taken(plans, begun, tmp_path):
    trainer = make_trainer(plans)
    (tmp_path / "a.pth").unlink()
    (tmp_path / "a.pth").write_bytes(b"another one")
    with pytest.raises(UserError, match="has changed since the fine-tuning"):
        trainer._find_checkpoint()
    (tmp_path / "a.pth").unlink()
    with pytest.raises(UserError, match="a.pth is missing"):
        trainer._find_checkpoint()


def test_plans_with_another_network_leave_the_others_alone(plans):
    before = copy.deepcopy(plans)
    changed = with_network(plans, CONFIGURATION, {"dropout": 0.0})
    assert plans == before
    architecture = PlansManager(changed).get_configuration(CONFIGURATION).network_arch_init_kwargs
    assert architecture == {
        **PlansManager(plans).get_configuration(CONFIGURATION).network_arch_init_kwargs,
        "dropout": 0.0,
    }
    assert changed["configurations"]["3d"] == plans["configurations"]["3d"]
