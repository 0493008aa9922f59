"""The recipe of each trainer as one table: the paper's values, or decisions.md's where the paper is silent.

The values are read where they take effect: in the optimizer, schedule, transforms and loss that a trainer builds.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import nnunetv2_sam2_3dmed.trainers.sam2_3dmed_trainers as found_by_nnunet
import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2_sam2_3dmed.plans.planner import PlanOptions, add_configurations
from torch import nn

from nnunetv2_sam2_3dmed.network.positions import RotaryAttention
from nnunetv2_sam2_3dmed.network.sam2_3dmed import TrainingOutput
from nnunetv2_sam2_3dmed.training import trainer as trainer_module
from nnunetv2_sam2_3dmed.training.augmentation import InPlaneAffineTransform, RandomMosaicTransform
from nnunetv2_sam2_3dmed.training.losses import bce_loss
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from tests.plans.test_planner import DATASET, REGIONS, make_plans
from tests.training.conftest import CasesOnly


class Recipe(NamedTuple):
    """One row; the defaults are the paper's. "ours" is decisions.md, where the paper says nothing."""

    epochs: int = 500  # appendix B
    rate: float = 5e-5  # appendix B
    trunk_rate: float | None = None  # of a group of its own
    weight_decay: float = 0.1  # appendix B
    warmup: float = 0.0  # share of the epochs; none in the paper
    final_share: float = 0.1  # appendix B: "decaying to one-tenth of its initial value"
    clipping: float = 12.0  # ours: nnU-Net's
    batch: int = 4  # appendix B
    patience: int = 50  # ours; appendix B has early stopping
    flips: tuple[int, ...] = (2,)  # appendix B: "random horizontal flipping"; of the axes D, H, W
    affine: float = 1.0  # ours: always
    rotation: float = 25.0  # degrees, appendix B
    shear: float = 20.0  # degrees, appendix B
    mosaic: float = 0.15  # appendix B
    lambda_1: float | None = 0.01  # of SRPP, appendix E.2; None without it
    lambda_2: float | None = 0.1  # of BD, appendix E.2
    dice: bool = False  # section 3: binary cross entropy
    slice_distance: float = 1.0  # equation 2: offsets in slices
    frozen_trunk: bool = True  # appendix B
    lora_rank: int = 0
    checkpoint: str | None = "sam2.1_hiera_tiny"  # ours; appendix B: "initialized from the SAM2 checkpoint"
    slices: int = 12  # appendix E.1, Table 7
    image_size: int = 512  # appendix B
    memories: int = 7  # ours: SAM 2's
    dropout: float = 0.1  # ours: SAM 2's, in memory attention
    fitted_windows: bool = False  # SAM 2's windows
    refine_masks: int = 0  # ours


PAPER = Recipe()
SCRATCH = PAPER._replace(checkpoint=None, frozen_trunk=False)  # "w/o Pre-train", section 4.3
TUNED = SCRATCH._replace(  # ours, see decisions.md
    rate=4e-4, warmup=0.02, affine=0.3, mosaic=0.0, dropout=0.0, fitted_windows=True, refine_masks=4, dice=True
)
FINETUNED = PAPER._replace(lambda_1=None, lambda_2=None)  # Table 1, "SAM2 (Fine-tuned)"
RECIPES = {
    "SAM2_3dMedTrainer": PAPER,
    "SAM2_3dMedTrainer_noSRPP": PAPER._replace(lambda_1=None),
    "SAM2_3dMedTrainer_noBD": PAPER._replace(lambda_2=None),
    "SAM2_FinetuneTrainer": FINETUNED,
    "SAM2_FinetuneTrainer_selfSorting": FINETUNED,
    "SAM2_3dMedTrainer_slices3": PAPER._replace(slices=3),  # Table 7
    "SAM2_3dMedTrainer_slices6": PAPER._replace(slices=6),
    "SAM2_3dMedTrainer_lambda_001_03": PAPER._replace(lambda_2=0.3),  # Table 8
    "SAM2_3dMedTrainer_lambda_001_05": PAPER._replace(lambda_2=0.5),
    "SAM2_3dMedTrainer_lambda_003_01": PAPER._replace(lambda_1=0.03),
    "SAM2_3dMedTrainer_lambda_005_01": PAPER._replace(lambda_1=0.05),
    "SAM2_3dMedTrainer_noPretrain": SCRATCH,
    "SAM2_3dMedTrainer_noPretrain_tuned": TUNED,
    "SAM2_3dMedTrainer_DiceBCE": PAPER._replace(dice=True),
    "SAM2_3dMedTrainer_SRPPmm": PAPER._replace(slice_distance=2.5),  # spacing of make_plans
    "SAM2_3dMedTrainer_trainTrunk": PAPER._replace(frozen_trunk=False),
    # MedSAM2's two rates
    "SAM2_3dMedTrainer_MedSAM2Rates": PAPER._replace(frozen_trunk=False, trunk_rate=3e-5),
    "SAM2_3dMedTrainer_MedSAM2": PAPER._replace(checkpoint="MedSAM2_latest"),
    "SAM2_3dMedTrainer_LoRA": PAPER._replace(lora_rank=8),
    # these differ in the network alone, or in what an epoch is (see test_trainer_variants)
    **{
        f"SAM2_3dMedTrainer_{name}": PAPER
        for name in (
            *("noBDFusion", "BDshared", "BDfused", "SRPPMemory", "selfSorting"),
            *("bidirectional", "lowMemory", "casesPerEpoch", "innerSplit"),
        )
    },
}


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Build a trainer as nnU-Net does, of plans for a GPU of 24 GiB (the paper's), with a stand-in for its network."""
    for folder in ("preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{folder}", str(tmp_path / folder))

    def build(name: str, dataset: dict = DATASET) -> SAM2_3dMedTrainer:
        plans: dict[str, Any] = {**make_plans(), "continue_training": False}
        add_configurations(plans, dataset, PlanOptions(gpu_memory=24.0))
        slices = RECIPES[name].slices
        configuration = "3d" if slices == 12 else f"3d_slices{slices}"
        trainer = getattr(found_by_nnunet, name)(plans, configuration, 0, dataset, torch.device("cpu"))
        trainer.dataset_class = CasesOnly
        trainer.network = nn.ModuleDict(
            {"encoder": nn.ModuleDict({"trunk": nn.Linear(2, 2), "neck": nn.Linear(2, 2)}), "rest": nn.Linear(2, 2)}
        )
        frozen = trainer.architecture_of(trainer.configuration_manager)["freeze_trunk"]
        trainer.network["encoder"]["trunk"].requires_grad_(not frozen)
        return trainer

    return build


def test_the_table_has_every_trainer():
    names = {n for n in found_by_nnunet.__all__ if n.startswith(("SAM2_3dMedTrainer", "SAM2_FinetuneTrainer"))}
    assert names == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_plan_and_network(name, make):
    trainer, recipe = make(name), RECIPES[name]
    plan = trainer.configuration_manager
    options = trainer.architecture_of(plan)
    assert (plan.batch_size, plan.patch_size[0], options["num_slices"]) == (recipe.batch, recipe.slices, recipe.slices)
    assert plan.batch_dice and options["image_size"] == recipe.image_size
    assert (options["num_memories"], options["dropout"]) == (recipe.memories, recipe.dropout)
    assert (options["freeze_trunk"], options["lora_rank"]) == (recipe.frozen_trunk, recipe.lora_rank)
    assert options["fitted_windows"] == recipe.fitted_windows and options["refine_masks"] == recipe.refine_masks
    assert trainer.num_epochs == recipe.epochs
    assert options["srpp"] == (recipe.lambda_1 is not None) and options["boundary"] == (recipe.lambda_2 is not None)


@pytest.mark.parametrize("name", RECIPES)
def test_optimizer_and_schedule(name, make):
    trainer, recipe = make(name), RECIPES[name]
    optimizer, schedule = trainer.configure_optimizers()
    assert type(optimizer) is torch.optim.AdamW
    peaks = [recipe.rate] if recipe.trunk_rate is None else [recipe.rate, recipe.trunk_rate]
    trained = {id(p) for p in trainer.network.parameters() if p.requires_grad}
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == trained
    if recipe.trunk_rate is not None:
        trunk = {id(p) for p in trainer.network["encoder"]["trunk"].parameters()}
        assert {id(p) for p in optimizer.param_groups[1]["params"]} == trunk
    assert [group["weight_decay"] for group in optimizer.param_groups] == [recipe.weight_decay] * len(peaks)

    def rates(epoch: float) -> list[float]:
        schedule.step(epoch)
        return [group["lr"] for group in optimizer.param_groups]

    warm, last = recipe.warmup * recipe.epochs, recipe.epochs
    lowest = [recipe.final_share * peak for peak in peaks]
    # the cosine's middle is the mean of both ends
    middle = [(peak + low) / 2 for peak, low in zip(peaks, lowest, strict=True)]
    assert rates(warm) == pytest.approx(peaks)
    assert rates((warm + last) / 2) == pytest.approx(middle)
    assert rates(last) == pytest.approx(lowest)
    if recipe.warmup:
        assert rates(0) == pytest.approx(lowest) and rates(warm / 2) == pytest.approx(middle)


@pytest.mark.parametrize("epochs, first", [(20, 4e-4), (30, 4e-5)])
def test_a_warm_up_takes_whole_epochs(epochs, first, make):
    """Two per cent of 20 epochs are 0.4, which is none; of 30 they are 0.6, which is one."""
    trainer = make("SAM2_3dMedTrainer_noPretrain_tuned")
    trainer.num_epochs = epochs
    optimizer, schedule = trainer.configure_optimizers()
    schedule.step(0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(first)


@pytest.mark.parametrize("name", ["SAM2_3dMedTrainer", "SAM2_3dMedTrainer_noPretrain_tuned"])
@pytest.mark.parametrize("scaled", [False, True])
def test_gradients_are_clipped(name, scaled, make):
    trainer, recipe = make(name), RECIPES[name]
    trainer.optimizer, _ = trainer.configure_optimizers()
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=4.0) if scaled else None
    trained = [p for p in trainer.network.parameters() if p.requires_grad]
    trainer._backward(sum(p.sum() for p in trained) * 1e4)
    trainer._descend()
    assert nn.utils.get_total_norm([p.grad for p in trained]).item() == pytest.approx(recipe.clipping, rel=1e-4)


# ---------------------------------------------------------------- early stopping


@pytest.mark.parametrize("name", ["SAM2_3dMedTrainer", "SAM2_3dMedTrainer_casesPerEpoch"])
def test_the_pseudo_dice_s_moving_average_stops_early(name, make, monkeypatch):
    """After a single high value the average falls. nnU-Net's logged average, averaged again, would still rise."""
    trainer, recipe = make(name), RECIPES[name]
    monkeypatch.setattr(trainer, "on_train_start", lambda: None)
    monkeypatch.setattr(trainer, "on_train_end", lambda: None)
    monkeypatch.setattr(trainer.logger, "plot_progress_png", lambda folder: None)

    def epoch(trainer):
        number = trainer.current_epoch
        trainer.logger.log("mean_fg_dice", 0.9 if number == 5 else 0.1, number)
        trainer.current_epoch += 1

    monkeypatch.setattr(trainer_module, "run_epoch", epoch)
    trainer.run_training()
    assert trainer.current_epoch == 5 + recipe.patience + 1


# ---------------------------------------------------------------- augmentation


def transforms_of(trainer: SAM2_3dMedTrainer, **options: Any) -> list:
    """The transforms as nnU-Net asks the trainer for them."""
    rotation, dummy_2d, _, mirror_axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    patch = (4, 24, 20)
    made = trainer.get_training_transforms(patch, rotation, None, mirror_axes, dummy_2d, **options)
    return made.transforms


def of_kind(transforms: list, kind: type) -> tuple[Any, float]:
    """The transform of a kind and its probability."""
    found = [t for t in transforms if isinstance(getattr(t, "transform", t), kind)]
    assert len(found) == 1
    random = isinstance(found[0], RandomTransform)
    return (found[0].transform, found[0].apply_probability) if random else (found[0], 1.0)


@pytest.mark.parametrize("name", RECIPES)
def test_augmentation(name, make):
    np.random.seed(0)
    trainer, recipe = make(name), RECIPES[name]
    transforms = transforms_of(trainer)
    mirror, _ = of_kind(transforms, MirrorTransform)
    assert mirror.allowed_axes == recipe.flips == trainer.inference_allowed_mirroring_axes
    assert of_kind(transforms, RandomMosaicTransform)[1] == recipe.mosaic

    affine, always = of_kind(transforms, InPlaneAffineTransform)
    assert always == 1.0 and affine.size == (24, 20)
    affine.size, changed, angles, shears = None, 0, [], []
    draws = int(400 / recipe.affine)
    for _ in range(draws):
        grid = affine.get_parameters(image=torch.zeros(1, 2, 2))["grid"][0]
        # of a grid of 2 x 2 places at -1/2 and 1/2, differences are the columns of the matrix, a rotation times a shear
        along_x, along_y = grid[0, 1] - grid[0, 0], grid[1, 0] - grid[0, 0]
        angle = math.atan2(along_x[1], along_x[0])
        sheared = along_y[0] * math.cos(angle) + along_y[1] * math.sin(angle)
        changed += abs(angle) > 1e-6
        angles.append(math.degrees(angle))
        shears.append(math.degrees(math.atan(sheared)))
    assert changed / draws == pytest.approx(recipe.affine, abs=0.05)
    for found, largest in ((angles, recipe.rotation), (shears, recipe.shear)):
        assert 0.9 * largest < max(found) <= largest + 1e-3 and -largest - 1e-3 <= min(found) < -0.9 * largest


def test_left_and_right_are_flipped_and_nothing_else(make):
    np.random.seed(0)
    trainer = make("SAM2_3dMedTrainer")
    mirror, _ = of_kind(transforms_of(trainer), MirrorTransform)
    stack = torch.arange(24.0).view(1, 2, 3, 4)  # (C, D, H, W)
    seen = [mirror(image=stack.clone())["image"] for _ in range(40)]
    flipped = sum(torch.equal(image, stack.flip(3)) for image in seen)
    assert flipped + sum(torch.equal(image, stack) for image in seen) == 40 and 8 < flipped < 32


@pytest.mark.parametrize(
    "kind, strength", [(GaussianNoiseTransform, "noise_variance"), (GaussianBlurTransform, "blur_sigma")]
)
def test_noise_and_blur_are_as_frequent_and_strong_as_nnunet_s(kind, strength, make):
    """The paper has both, without numbers; decisions.md takes nnU-Net's."""
    rotation = {"x": (0, 0), "y": (0, 0), "z": (0, 0)}
    theirs = nnUNetTrainer.get_training_transforms((4, 24, 20), rotation, None, (0,), False).transforms
    (their, their_probability), (our, our_probability) = (
        of_kind(transforms, kind) for transforms in (theirs, transforms_of(make("SAM2_3dMedTrainer")))
    )
    assert our_probability == their_probability
    assert getattr(our, strength) == getattr(their, strength)


# ---------------------------------------------------------------- loss


def output_of(num_masks: int = 2) -> TrainingOutput:
    torch.manual_seed(0)
    shape = (2, 3, num_masks, 8, 8)
    return TrainingOutput(torch.randn(shape), torch.randn(shape), torch.randn(2, 3, 3))


@pytest.mark.parametrize("name", RECIPES)
def test_loss(name, make):
    """Each weight is what its term alone adds to the total."""
    trainer, recipe = make(name), RECIPES[name]
    loss, output = trainer._build_loss(), output_of()
    target = torch.randint(0, 3, (2, 1, 3, 8, 8))
    target[:, :, :, :2] = 1
    wanted = ["segmentation"] + ["srpp"] * (recipe.lambda_1 is not None) + ["boundary"] * (recipe.lambda_2 is not None)
    assert trainer.loss_terms() == wanted
    segmentation = loss.terms(output._replace(offsets=None, boundaries=None), target).total
    with_srpp = loss.terms(output._replace(boundaries=None), target)
    with_boundary = loss.terms(output._replace(offsets=None), target)
    if recipe.lambda_1 is not None:
        assert ((with_srpp.total - segmentation) / with_srpp.srpp).item() == pytest.approx(recipe.lambda_1, rel=1e-3)
        index = torch.arange(3)
        error = output.offsets / recipe.slice_distance - (index[None, :] - index[:, None])
        expected = error.square()[:, ~torch.eye(3, dtype=torch.bool)].mean()
        torch.testing.assert_close(with_srpp.srpp, expected)
    if recipe.lambda_2 is not None:
        added = (with_boundary.total - segmentation) / with_boundary.boundary
        assert added.item() == pytest.approx(recipe.lambda_2, rel=1e-3)

    logits, targets = output.masks.transpose(1, 2), loss.make_targets(target)
    expected = bce_loss(logits, targets)
    if recipe.dice:  # nnU-Net's, over the batch, as the plan says
        soft_dice = MemoryEfficientSoftDiceLoss(torch.sigmoid, batch_dice=True, do_bg=True, smooth=1e-5, ddp=False)
        expected = expected + soft_dice(logits, targets.masks)
    torch.testing.assert_close(segmentation, expected)


def with_ignore(dataset: dict) -> dict:
    return {**dataset, "labels": {**dataset["labels"], "ignore": 3}}


# one slice of background, 1, 2 and ignore (3), and one of padding (-1)
SEGMENTATION = torch.tensor([[0, 1, 2, 3], [-1, -1, -1, -1]], dtype=torch.int16).view(1, 2, 2, 2)


def target_of(trainer: SAM2_3dMedTrainer, monkeypatch) -> torch.Tensor:
    """nnU-Net's target (1, channels, 2, 2, 2) of ``SEGMENTATION``, by the trainer's own transforms without chance."""
    monkeypatch.setattr(type(trainer), "affine_probability", 0.0)
    monkeypatch.setattr(type(trainer), "mosaic_probability", 0.0)
    labels = trainer.label_manager
    regions = labels.foreground_regions if labels.has_regions else None
    made = trainer.get_training_transforms(
        (2, 2, 2), None, None, (), True, regions=regions, ignore_label=labels.ignore_label
    )
    target = made(image=torch.zeros(1, 2, 2, 2), segmentation=SEGMENTATION.clone())["segmentation"]
    return target[None]


@pytest.mark.parametrize("name", ["SAM2_3dMedTrainer", "SAM2_3dMedTrainer_DiceBCE"])
@pytest.mark.parametrize("ignore", [False, True], ids=["all labelled", "ignore label"])
@pytest.mark.parametrize("regions", [False, True], ids=["labels", "regions"])
def test_targets_of_the_trainer_s_own_transforms(name, ignore, regions, make, monkeypatch):
    """Regions are "whole" (1 and 2) and "core" (2); what is ignored has no gradient, padding is no slice."""
    dataset = REGIONS if regions else DATASET
    trainer = make(name, with_ignore(dataset) if ignore else dataset)
    target, loss = target_of(trainer, monkeypatch), trainer._build_loss()
    masks, counted, slices = loss.make_targets(target)
    first = [[0, 1, 1, 0], [0, 0, 1, 0]] if regions else [[0, 1, 0, 0], [0, 0, 1, 0]]
    assert masks[0, :, 0].flatten(1).tolist() == first and not masks[0, :, 1].any()
    assert counted[0, 0].flatten(1).tolist() == [[True, True, True, not ignore], [True] * 4]
    assert slices.tolist() == [[True, False]]
    logits = torch.zeros(1, 2, 2, 2, 2, requires_grad=True)  # (B, D, K, H, W)
    loss.terms(TrainingOutput(logits, None, None), target).total.backward()
    untouched = logits.grad[0, 0].flatten(1) == 0
    assert untouched.tolist() == [[False, False, False, ignore]] * 2


def test_channels_normalised_within_a_mask_stay_zero_outside(make, monkeypatch):
    """nnU-Net's ``use_mask_for_norm``: outside, where the segmentation is -1, those channels stay 0."""
    trainer = make("SAM2_3dMedTrainer")
    monkeypatch.setattr(type(trainer), "affine_probability", 0.0)
    monkeypatch.setattr(type(trainer), "mosaic_probability", 0.0)
    made = trainer.get_training_transforms((2, 2, 2), None, None, (), True, use_mask_for_norm=[True, False])
    image = made(image=torch.full((2, 2, 2, 2), 5.0), segmentation=SEGMENTATION.clone())["image"]
    assert (image[0, 1] == 0).all() and (image[0, 0].abs() > 1).all() and (image[1].abs() > 1).all()


# ---------------------------------------------------------------- weights and network


@pytest.mark.parametrize("name", RECIPES)
def test_checkpoint(name, make, tmp_path, monkeypatch):
    """The file that ``initialize`` asks for; none for random weights."""
    monkeypatch.setenv("SAM2_3dMed_weights", str(tmp_path))
    for checkpoint in ("sam2.1_hiera_tiny", "MedSAM2_latest"):
        (tmp_path / f"{checkpoint}.pt").touch()
    trainer, loaded = make(name), []
    monkeypatch.setattr(nnUNetTrainer, "initialize", lambda self: None)
    monkeypatch.setattr(trainer, "_log_provenance", lambda checkpoint: None)
    monkeypatch.setattr(trainer, "_load_pretrained", lambda checkpoint: loaded.append(checkpoint.stem))
    trainer.initialize()
    assert loaded == ([] if RECIPES[name].checkpoint is None else [RECIPES[name].checkpoint])
    # a training that goes on has all weights in its own checkpoint
    loaded.clear()
    monkeypatch.setattr(nnUNetTrainer, "load_checkpoint", lambda self, checkpoint: self.initialize())
    trainer.load_checkpoint("checkpoint_latest.pth")
    assert loaded == []


@pytest.mark.parametrize("name", ["SAM2_3dMedTrainer", "SAM2_3dMedTrainer_noPretrain_tuned"])
def test_network_is_built_of_the_options(name, make):
    trainer, recipe = make(name), RECIPES[name]
    plan = trainer.configuration_manager
    plan.network_arch_init_kwargs["image_size"] = 64  # to be built quickly
    network = trainer.build_network_architecture(trainer.plans_manager, plan, 1, 3)
    for branch in (network.segmentation, network.boundary):
        modules = list(branch.memory_attention.modules())
        assert {m.p for m in modules if isinstance(m, nn.Dropout)} == {recipe.dropout}
        # weights of attention are never dropped, see decisions.md
        assert {m.dropout_p for m in modules if isinstance(m, RotaryAttention)} == {0.0}
        assert len(branch.memory_age) == recipe.memories
    assert {not p.requires_grad for p in network.encoder.trunk.parameters()} == {recipe.frozen_trunk}
    assert all(p.requires_grad for n, p in network.named_parameters() if not n.startswith("encoder.trunk."))
    assert json.loads(json.dumps(plan.network_arch_init_kwargs))["backbone"] == "sam2.1_hiera_tiny"
