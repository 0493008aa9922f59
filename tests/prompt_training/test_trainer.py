"""The recipe, and what of the plan the network is built from."""

from copy import deepcopy
from pathlib import Path

import nnunetv2_sam2_3dmed.trainers.sam2_3dmed_trainers as found_by_nnunet
import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2_sam2_3dmed.plans.planner import PlanOptions, add_configurations

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.promptable_sam2 import Answer
from nnunetv2_sam2_3dmed.prompt_evaluation.leakage import GIVEN_WEIGHTS, UNKNOWN_START
from nnunetv2_sam2_3dmed.prompt_training import trainer as trainer_module
from nnunetv2_sam2_3dmed.prompt_training.losses import bce_loss
from nnunetv2_sam2_3dmed.prompt_training.stacks import objects_to_validate
from nnunetv2_sam2_3dmed.prompt_training.trainer import SAM2_PromptTrainer, hits_of
from nnunetv2_sam2_3dmed.training.checks import check_slices
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from tests.interactive.reference import random_weights
from tests.plans.test_planner import DATASET, make_plans


@pytest.fixture
def plans() -> dict:
    made = make_plans()
    add_configurations(made, DATASET, PlanOptions(image_size=64, slices=4, patch_size=(24, 20)))
    return made


def test_the_plan_has_stacks_of_eight_slices_and_others_are_refused(plans):
    assert PlansManager(plans).get_configuration("3d_slices8").patch_size[0] == 8
    check_slices(plans, "3d_slices8", "SAM2_PromptTrainer", SAM2_PromptTrainer.required_slices)
    with pytest.raises(UserError, match="use the configuration `3d_slices8`"):
        check_slices(plans, "3d", "SAM2_PromptTrainer", SAM2_PromptTrainer.required_slices)


def test_trainers_that_nnunet_finds():
    recipe = {name: getattr(found_by_nnunet, name) for name in found_by_nnunet.__all__ if "Prompt" in name}
    assert all(trainer.__name__ == name and issubclass(trainer, SAM2_PromptTrainer) for name, trainer in recipe.items())
    assert (SAM2_PromptTrainer.trunk_lr, SAM2_PromptTrainer.peak_lr) == (3e-5, 5e-5)
    for trainer in (value for name, value in recipe.items() if name.endswith("noPretrain_tuned")):
        assert not trainer.pretrained and trainer.peak_lr == 4e-4 and trainer.trunk_lr is None


@pytest.fixture
def complete_plans(plans, tmp_path, monkeypatch) -> dict:
    """Plans of which a trainer can be made."""
    for folder in ("preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{folder}", str(tmp_path / folder))
    statistics = {"mean": 100.0, "std": 40.0, "percentile_00_5": -20.0, "percentile_99_5": 220.0}
    return plans | {
        "transpose_forward": [0, 1, 2],
        "continue_training": False,
        "foreground_intensity_properties_per_channel": {"0": statistics},
    }


@pytest.mark.parametrize(("name", "epochs"), [("SAM2_PromptTrainer", 70), ("SAM2_PromptTrainer_noPretrain_tuned", 500)])
def test_seventy_epochs_as_in_medsam2_and_more_from_random_weights(name, epochs, complete_plans):
    trainer = getattr(found_by_nnunet, name)(complete_plans, "3d_slices8", 0, DATASET, torch.device("cpu"))
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.weight_decay) == (epochs, 250, 0.01)
    assert trainer.oversample_foreground_percent == 1  # a stack without an object cannot be prompted


def test_prompts_are_drawn_from_what_was_seeded_last(complete_plans):
    """A training that goes on is seeded anew after the trainer was made."""
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(0)
        trainer = SAM2_PromptTrainer(deepcopy(complete_plans), "3d_slices8", 0, DATASET, torch.device("cpu"))
        torch.manual_seed(seed)
        drawn.append(trainer.rng.random())
    assert drawn[0] != drawn[1]


def test_checkpoints_know_of_weights_that_nnunet_was_given(complete_plans, tmp_path, monkeypatch):
    monkeypatch.setattr(SAM2_3dMedTrainer, "on_train_start", lambda self: None)
    monkeypatch.setattr(SAM2_PromptTrainer, "do_split", lambda self: (["a"], ["b"]))
    monkeypatch.setattr(SAM2_PromptTrainer, "_find_checkpoint", lambda self: tmp_path / "official.pt")
    monkeypatch.setattr(trainer_module, "is_official", lambda sha256: True)
    torch.save({"model": random_weights()}, tmp_path / "official.pt")

    def start(given: bool = False, resumed: bool = False, trainer: str = "SAM2_PromptTrainer") -> bool:
        trainer = getattr(found_by_nnunet, trainer)(
            deepcopy(complete_plans), "3d_slices8", 0, DATASET, torch.device("cpu")
        )
        case = Path(trainer.preprocessed_dataset_folder) / "a.b2nd"
        case.parent.mkdir(parents=True, exist_ok=True)
        case.touch()  # by which nnU-Net knows the format
        trainer.initialize()
        if given:
            load_pretrained_weights(trainer.network, file)
        if resumed:
            trainer.load_checkpoint(file)
        trainer.on_train_start()
        trainer.save_checkpoint(file)
        noted = torch.load(file, weights_only=False)["init_args"]
        assert not noted.get(UNKNOWN_START, False)
        return noted.get(GIVEN_WEIGHTS, False)

    file = str(tmp_path / "given.pth")
    assert not start(trainer="SAM2_PromptTrainer_noPretrain_tuned")
    assert not start()  # with the trainer's own weights
    assert not start(resumed=True)
    assert start(given=True)
    assert start(resumed=True)  # what was given stays noted


@pytest.mark.parametrize("gpus", [1, 12])
def test_eight_stacks_per_gpu_as_in_medsam2(gpus, complete_plans, monkeypatch):
    if gpus > 1:  # of MedSAM2's twelve processes this is the last one
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: gpus - 1)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: gpus)
    before = PlansManager(complete_plans).get_configuration("3d_slices8").batch_size
    trainer = found_by_nnunet.SAM2_PromptTrainer_batch8(complete_plans, "3d_slices8", 0, DATASET, torch.device("cpu"))
    trainer._set_batch_size_and_oversample()
    assert trainer.batch_size == 8 and trainer.oversample_foreground_percent == 1
    assert PlansManager(complete_plans).get_configuration("3d_slices8").batch_size == before != 8


def test_neither_noise_nor_blur_nor_mosaic_as_in_medsam2(complete_plans):
    trainer = SAM2_PromptTrainer(complete_plans, "3d_slices8", 0, DATASET, torch.device("cpu"))
    made = trainer.get_training_transforms((8, 24, 20), None, None, (2,), True)
    drawn = [t.apply_probability for t in made.transforms if isinstance(t, RandomTransform)]
    assert drawn == [0.0, 0.0, 0.0]


def test_corrected_trainers_differ_in_nothing_else():
    plain, corrected = (
        [getattr(found_by_nnunet, f"SAM2_PromptTrainer{name}{end}") for name in ("", "_noPretrain_tuned")]
        for end in ("", "_corrected")
    )
    for parent, trainer in zip(plain, corrected, strict=True):
        assert trainer.__base__ is parent and trainer.mix == parent.mix._replace(later=0.5)


def test_a_model_from_random_weights_is_fine_tuned_as_it_was_trained():
    tuned, fresh = (getattr(found_by_nnunet, f"SAM2_PromptTrainer_{name}_tuned") for name in ("finetune", "noPretrain"))
    for name in ("mix", "slice_steps", "affine_probability", "warmup_share", "noise_probability", "jitter"):
        assert getattr(tuned, name) == getattr(fresh, name)
    assert tuned.mix_at(0.0) == tuned.mix  # no single slices first: it is no beginner
    losses = [trainer._build_loss(None) for trainer in (tuned, fresh)]
    assert {(loss.pixel_loss, loss.pixel_weight) for loss in losses} == {(bce_loss, 1.0)}
    assert tuned.pretrained and issubclass(tuned, found_by_nnunet.SAM2_PromptTrainer_finetune)


def test_from_random_weights_single_slices_come_first():
    fresh = found_by_nnunet.SAM2_PromptTrainer_noPretrain_tuned
    assert [fresh.mix_at(share).images for share in (0.0, 0.39, 0.4, 1.0)] == [1.0, 1.0, 0.5, 0.5]
    assert fresh.mix_at(0.0)._replace(images=0.5) == fresh.mix_at(1.0) == fresh.mix
    assert SAM2_PromptTrainer.mix_at(0.0) == SAM2_PromptTrainer.mix and SAM2_PromptTrainer.mix.images == 0.0


def test_each_epoch_draws_what_its_share_of_the_training_says(stacks, monkeypatch):
    monkeypatch.setattr(nnUNetTrainer, "on_train_epoch_start", lambda trainer: None)
    fresh = found_by_nnunet.SAM2_PromptTrainer_noPretrain_tuned
    trainer = fresh.__new__(fresh)  # without the data that its constructor reads
    trainer.num_epochs, drawn, grey = 10, [], []

    def note(stacks, size, mix, rng):
        drawn.append(mix.images)
        grey.append(stacks.grey)

    monkeypatch.setattr(trainer_module, "objects_to_train", note)
    monkeypatch.setattr(fresh, "_image_size", 64)
    monkeypatch.setattr(fresh, "_with_objects", lambda trainer, batch, more, choose: choose(stacks) or 1 / 0)
    trainer.dataloader_train, trainer.rng = None, np.random.default_rng(0)
    for trainer.current_epoch in (0, 3, 4, 9):
        trainer.on_train_epoch_start()
        with pytest.raises(ZeroDivisionError):  # what was drawn is all that is asked
            trainer.train_step({})
    assert drawn == [1.0, 1.0, 0.5, 0.5]
    assert not any(torch.equal(one, other) for one, other in zip(grey, [stacks.grey, *grey]))  # jittered each time


def test_the_network_is_built_from_the_plan(plans):
    configuration = PlansManager(plans).get_configuration("3d_slices8")
    network = SAM2_PromptTrainer.build_network_architecture(None, configuration, 1, 3)
    assert network.image_size == 64 and network.memory_attention.layers[0].dropout1.p == 0.1
    fresh = found_by_nnunet.SAM2_PromptTrainer_noPretrain_tuned.build_network_architecture(None, configuration, 1, 3)
    assert fresh.memory_attention.layers[0].dropout1.p == 0.0
    windows = [[block.window_size for block in n.image_encoder.trunk.blocks] for n in (network, fresh)]
    assert network.multimask_output_in_sam and not fresh.multimask_output_in_sam
    assert fresh.steady_features and not network.steady_features
    assert max(windows[0]) == 14 and max(windows[1]) == 8
    # all classes share SAM 2's tokens, so that their number changes nothing
    assert {n: p.shape for n, p in network.named_parameters()} == {n: p.shape for n, p in fresh.named_parameters()}


def test_pseudo_dice_counts_voxels_of_each_class(stacks):
    objects = objects_to_validate(stacks, 64, np.random.default_rng(0))
    assert objects is not None
    # object 1 (class 1) on slice 2: 4 rows of 5 columns; found are the upper half of the slice
    logits = torch.full((1, 1, 24, 20), -1.0)
    logits[:, :, :10] = 1.0
    number = torch.ones(1, dtype=torch.long)
    answer = Answer(number, number + 1, logits, logits, logits, logits)
    hit, too_much, missed = hits_of([answer, answer], objects, 2)
    assert hit.tolist() == [0, 2 * (2 * 5)]
    assert too_much.tolist() == [0, 2 * (10 * 20 - 2 * 5)]
    assert missed.tolist() == [0, 2 * (2 * 5)]
