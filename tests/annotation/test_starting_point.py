"""Half the learning rates of what made the checkpoint, and which checkpoint is the last."""

import pytest
import torch

from nnunetv2_sam2_3dmed.annotation.finetuning import check_ended, last_checkpoint, put_aside, starting_point
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from nnunetv2_sam2_3dmed.nnunet.environment import trainers_folder
from nnunetv2_sam2_3dmed.prompt_training.finetuning import fold_folder
from tests.interactive.reference import TINY, random_weights

PLANS = {"dataset_name": "Dataset301_Tiny", "plans_name": "nnUNetPlans"}
TRAINER = "SAM2_PromptTrainer_finetune"


@pytest.fixture(autouse=True)
def found_by_nnunet(monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_extTrainer", trainers_folder())
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))


def described(file) -> dict:
    """A checkpoint without its weights, which a starting point does not read."""
    content = torch.load(file, weights_only=False, mmap=True)
    return {**content, "network_weights": {}}


def test_half_of_what_random_weights_were_trained_with(tmp_path, promptable_file):
    content = described(promptable_file)
    point = starting_point(promptable_file, 6, ["new_1"])
    assert (point.peak_lr, point.trunk_lr, point.epochs, point.cases) == (2e-4, None, 6, ["new_1"])
    assert point.trained_by == "SAM2_PromptTrainer_noPretrain_tuned" and point.sha256 == sha256_of(promptable_file)
    assert point.network == content["init_args"]["prompted"]["network"]

    content["trainer_name"] = "SAM2_PromptTrainer"
    torch.save(content, tmp_path / "a.pth")
    point = starting_point(tmp_path / "a.pth", 15)
    assert (point.peak_lr, point.trunk_lr) == (2.5e-5, 1.5e-5)

    content["trainer_name"] = "SAM2_PromptTrainer_ofMine"
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match="was made by SAM2_PromptTrainer_ofMine, which nnU-Net does not find"):
        starting_point(tmp_path / "a.pth", 6)


def test_half_of_the_recipe_for_official_weights(tmp_path):
    torch.save({"model": random_weights()}, tmp_path / "MedSAM2_latest.pt")
    point = starting_point(tmp_path / "MedSAM2_latest.pt", 6)
    assert (point.peak_lr, point.trunk_lr) == (2.5e-5, 1.5e-5)
    assert point.network == {"backbone": TINY} and point.trained_by == "MedSAM2_latest"


def test_later_rounds_keep_the_rates(tmp_path, promptable_file):
    content = described(promptable_file)
    first = starting_point(promptable_file, 6)
    content["init_args"]["finetuned"] = {**vars(first)}
    content["trainer_name"] = TRAINER
    torch.save(content, tmp_path / "b.pth")
    second = starting_point(tmp_path / "b.pth", 15)
    assert (second.peak_lr, second.trunk_lr, second.epochs) == (2e-4, None, 15)
    assert second.trained_by == TRAINER and second.sha256 != first.sha256
    content["init_args"]["finetuned"]["trunk_lr"] = 1.5e-5
    torch.save(content, tmp_path / "c.pth")
    assert starting_point(tmp_path / "c.pth", 15).trunk_lr == 1.5e-5


def test_models_without_prompts_are_refused(tmp_path, promptable_file):
    content = described(promptable_file)
    del content["init_args"]["prompted"]
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match="segments without prompts"):
        starting_point(tmp_path / "a.pth", 6)


def test_the_last_checkpoint_and_the_rounds_before(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM2_3dMed_weights", str(tmp_path / "weights"))
    fold = fold_folder(TRAINER, PLANS, "3d_slices8", 0)
    assert fold.parts[-3:] == ("Dataset301_Tiny", f"{TRAINER}__nnUNetPlans__3d_slices8", "fold_0")

    def last():
        return last_checkpoint(TRAINER, PLANS, "3d_slices8", 0)

    def trained(folder):
        (folder / "validation").mkdir(parents=True)
        for name in ("checkpoint_final.pth", "validation/summary.json"):
            (folder / name).touch()
        return folder / "checkpoint_final.pth"

    with pytest.raises(UserError, match="MedSAM2_latest.pt are not in"):
        last()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "MedSAM2_latest.pt").touch()
    assert last() == tmp_path / "weights" / "MedSAM2_latest.pt"
    # not of this fold or configuration, not promptable, or of a trainer that is gone
    trained(fold_folder("SAM2_PromptTrainer_corrected", PLANS, "3d_slices8", 1))
    trained(fold_folder("SAM2_PromptTrainer_corrected", PLANS, "3d_slices6", 0))
    for name in ("SAM2_3dMedTrainer", "SAM2_PromptTrainer_ofMine"):
        trained(fold_folder(name, PLANS, "3d_slices8", 0))
    assert last() == tmp_path / "weights" / "MedSAM2_latest.pt"
    for name in ("SAM2_PromptTrainer_corrected", "SAM2_PromptTrainer_batch8"):
        trained(fold_folder(name, PLANS, "3d_slices8", 0))
    with pytest.raises(UserError, match=r"_batch8__\S+, \S+_corrected__\S+: give the one to start from with --model"):
        last()
    first = trained(fold_folder("SAM2_PromptTrainer", PLANS, "3d_slices8", 0))
    assert last() == first

    assert put_aside(fold) is None
    check_ended(fold)
    for number in range(1, 12):
        assert last() == (first if number == 1 else fold.with_name(f"round_{number - 1}_fold_0") / first.name)
        assert last() != trained(fold) == last()
        assert put_aside(fold) == fold.with_name(f"round_{number}_fold_0") and not fold.exists()
    fold.mkdir()
    for name in ("checkpoint_latest.pth", "checkpoint_final.pth"):  # the validation comes after both
        (fold / name).touch()
        with pytest.raises(UserError, match="has not ended, or was not validated: add --c, or delete"):
            check_ended(fold)
