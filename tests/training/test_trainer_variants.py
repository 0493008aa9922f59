"""Each variant differs from the full model in what its name says and in nothing else."""

from typing import NamedTuple

import nnunetv2_sam2_3dmed.trainers.sam2_3dmed_trainers as found_by_nnunet
import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2_sam2_3dmed.plans.planner import PlanOptions, add_configurations

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.training.augmentation import NetworkImageBlurTransform
from nnunetv2_sam2_3dmed.training.checks import check_slices
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from tests.plans.test_planner import DATASET, make_plans

IMAGE_SIZE = 64


class Difference(NamedTuple):
    """Expected differences of a variant from SAM2_3dMedTrainer.

    Attributes:
        members: attributes and methods of the class that have another value.
        options: the network's options that differ.
        absent: prefixes of the parameters that it lacks.
        added: parts of the names of the parameters that only it has.
        same_masks: with the same weights, it gives the same logits.
    """

    members: set[str]
    options: dict
    absent: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    same_masks: bool = True


ARCHITECTURE = {"architecture_changes"}
FRESH = {"freeze_trunk": False, "dropout": 0.0, "fitted_windows": True, "refine_masks": 4}
VARIANTS = {
    "SAM2_3dMedTrainer_noSRPP": Difference(ARCHITECTURE, {"srpp": False}, absent=("srpp.",)),
    "SAM2_3dMedTrainer_noBD": Difference(ARCHITECTURE, {"boundary": False}, absent=("boundary.",)),
    "SAM2_FinetuneTrainer": Difference(ARCHITECTURE, {"srpp": False, "boundary": False}, absent=("srpp.", "boundary.")),
    "SAM2_3dMedTrainer_noBDFusion": Difference(ARCHITECTURE, {"boundary_fusion": False}, absent=("boundary.fusion.",)),
    "SAM2_3dMedTrainer_BDshared": Difference(
        ARCHITECTURE, {"boundary_branch": "shared"}, absent=("boundary.memory_attention.",)
    ),
    "SAM2_3dMedTrainer_BDfused": Difference(ARCHITECTURE, {"boundary_branch": "fused"}, same_masks=False),
    "SAM2_3dMedTrainer_SRPPMemory": Difference(ARCHITECTURE, {"srpp_memory": True}, added=("srpp.memory.",)),
    "SAM2_3dMedTrainer_slices3": Difference({"required_slices"}, {}),
    "SAM2_3dMedTrainer_slices6": Difference({"required_slices"}, {}),
    "SAM2_3dMedTrainer_lambda_001_03": Difference({"boundary_weight"}, {}),
    "SAM2_3dMedTrainer_lambda_001_05": Difference({"boundary_weight"}, {}),
    "SAM2_3dMedTrainer_lambda_003_01": Difference({"srpp_weight"}, {}),
    "SAM2_3dMedTrainer_lambda_005_01": Difference({"srpp_weight"}, {}),
    "SAM2_3dMedTrainer_noPretrain": Difference(ARCHITECTURE | {"pretrained"}, {"freeze_trunk": False}),
    "SAM2_3dMedTrainer_SRPPmm": Difference({"slice_distance"}, {}),
    "SAM2_3dMedTrainer_bidirectional": Difference(ARCHITECTURE, {"bidirectional": True}, same_masks=False),
    "SAM2_3dMedTrainer_selfSorting": Difference(ARCHITECTURE, {"self_sorting_memory": True}, same_masks=False),
    "SAM2_FinetuneTrainer_selfSorting": Difference(
        ARCHITECTURE,
        {"srpp": False, "boundary": False, "self_sorting_memory": True},
        absent=("srpp.", "boundary."),
        same_masks=False,
    ),
    "SAM2_3dMedTrainer_DiceBCE": Difference({"segmentation_loss"}, {}),
    "SAM2_3dMedTrainer_casesPerEpoch": Difference({"get_tr_and_val_datasets"}, {}),
    "SAM2_3dMedTrainer_innerSplit": Difference({"get_tr_and_val_datasets"}, {}),
    "SAM2_3dMedTrainer_lowMemory": Difference(ARCHITECTURE, {"activation_checkpointing": True}),
    "SAM2_3dMedTrainer_trainTrunk": Difference(ARCHITECTURE, {"freeze_trunk": False}),
    "SAM2_3dMedTrainer_MedSAM2Rates": Difference(ARCHITECTURE | {"trunk_lr"}, {"freeze_trunk": False}),
    "SAM2_3dMedTrainer_MedSAM2": Difference({"checkpoint"}, {}),
    "SAM2_3dMedTrainer_LoRA": Difference(ARCHITECTURE, {"lora_rank": 8}, added=("lora_down", "lora_up")),
    "SAM2_3dMedTrainer_noPretrain_tuned": Difference(
        ARCHITECTURE
        | {"pretrained", "peak_lr", "warmup_share", "segmentation_loss", "affine_probability", "mosaic_probability"},
        FRESH,
        added=("segmentation.refinement.",),
        same_masks=False,
    ),
}
VALUES = {
    "SAM2_3dMedTrainer_slices3": ("required_slices", 3),
    "SAM2_3dMedTrainer_slices6": ("required_slices", 6),
    "SAM2_3dMedTrainer_lambda_001_03": ("boundary_weight", 0.3),
    "SAM2_3dMedTrainer_lambda_001_05": ("boundary_weight", 0.5),
    "SAM2_3dMedTrainer_lambda_003_01": ("srpp_weight", 0.03),
    "SAM2_3dMedTrainer_lambda_005_01": ("srpp_weight", 0.05),
    "SAM2_3dMedTrainer_noPretrain": ("pretrained", False),
    "SAM2_3dMedTrainer_MedSAM2Rates": ("trunk_lr", 3e-5),
    "SAM2_3dMedTrainer_MedSAM2": ("checkpoint", "MedSAM2_latest"),
}


def configuration(name: str = "3d"):
    plans = make_plans()
    add_configurations(plans, DATASET, PlanOptions(image_size=IMAGE_SIZE, slices=4, patch_size=(24, 20)))
    return PlansManager(plans).get_configuration(name)


def build(trainer: type[SAM2_3dMedTrainer]) -> SAM2_3dMed:
    return trainer.build_network_architecture(None, configuration(), 1, 3)


@pytest.fixture(scope="module")
def full() -> SAM2_3dMed:
    torch.manual_seed(0)
    return build(SAM2_3dMedTrainer)


def members(trainer: type) -> dict:
    """All that a trainer class has, inherited or not, but for what every class has of its own."""
    own = {"__module__", "__doc__", "__qualname__", "__static_attributes__", "__firstlineno__", "__annotations__"}
    return {n: v for c in reversed(trainer.__mro__) for n, v in vars(c).items() if n not in own}


def test_every_automatic_trainer_that_nnunet_finds_is_here():
    names = {n for n in found_by_nnunet.__all__ if n.startswith(("SAM2_3dMedTrainer", "SAM2_FinetuneTrainer"))}
    assert names == {"SAM2_3dMedTrainer", *VARIANTS}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_class_changes_only_what_its_name_says(name):
    variant, base = members(getattr(found_by_nnunet, name)), members(SAM2_3dMedTrainer)
    assert {n for n in variant if n not in base or variant[n] is not base[n]} == VARIANTS[name].members
    if name in VALUES:
        member, value = VALUES[name]
        assert variant[member] == value


@pytest.mark.parametrize("name", [n for n, d in VARIANTS.items() if d.options])
def test_the_network_changes_only_what_its_name_says(name, full):
    trainer, difference = getattr(found_by_nnunet, name), VARIANTS[name]
    plan = configuration()
    ours, theirs = trainer.architecture_of(plan), SAM2_3dMedTrainer.architecture_of(plan)
    assert {k: v for k, v in ours.items() if v != theirs[k]} == difference.options

    network = build(trainer)
    mine, complete = dict(network.named_parameters()), dict(full.named_parameters())
    lacking, having = set(complete) - set(mine), set(mine) - set(complete)
    assert lacking == {n for n in complete if difference.absent and n.startswith(difference.absent)}
    assert having == {n for n in mine if any(part in n for part in difference.added)}
    assert bool(having) == bool(difference.added)
    assert all(mine[n].shape == complete[n].shape for n in set(mine) & set(complete))
    trained = {n for n, p in mine.items() if p.requires_grad}
    expected = {n for n, p in complete.items() if p.requires_grad and n in mine} | having
    if not difference.options.get("freeze_trunk", True):
        expected |= {n for n in mine if n.startswith("encoder.trunk.")}
    assert trained == expected

    # by parameters: what two modules share is named once
    known = {*mine, *dict(network.named_buffers())}
    network.load_state_dict({n: v for n, v in full.state_dict().items() if n in known}, strict=False)
    patches = torch.randn(2, 1, 4, 24, 20)
    with torch.no_grad():
        logits, reference = network.eval()(patches), full.eval()(patches)
    assert torch.equal(logits, reference) == difference.same_masks


def test_the_tuned_recipe_for_random_weights_is_ours():
    tuned = found_by_nnunet.SAM2_3dMedTrainer_noPretrain_tuned
    assert not tuned.pretrained and (tuned.peak_lr, tuned.warmup_share) == (4e-4, 0.02)
    assert (tuned.affine_probability, tuned.mosaic_probability) == (0.3, 0.0)


@torch.no_grad()
def test_both_directions_are_averaged(full):
    network = build(found_by_nnunet.SAM2_3dMedTrainer_bidirectional).eval()
    network.precision = full.precision = "float32"
    network.load_state_dict(full.state_dict())
    patches = torch.randn(1, 1, 4, 24, 20)
    there, back = full.eval()(patches), full(patches.flip(2)).flip(2)
    torch.testing.assert_close(network(patches), (there + back) / 2, atol=1e-5, rtol=1e-5)


class Rates(found_by_nnunet.SAM2_3dMedTrainer_MedSAM2Rates):
    """Only what the optimizer needs, without nnU-Net's folders."""

    def __init__(self):
        self.network = build(type(self))
        self.initial_lr, self.weight_decay, self.num_epochs = self.peak_lr, 0.1, 10


def test_medsam2_s_rates_fall_to_a_tenth_together():
    trainer = Rates()
    optimizer, schedule = trainer.configure_optimizers()
    rest, trunk = optimizer.param_groups
    expected = {id(p) for p in trainer.network.encoder.trunk.parameters()}
    assert {id(p) for p in trunk["params"]} == expected
    assert len(rest["params"]) + len(trunk["params"]) == len(list(trainer.network.parameters()))
    assert (rest["lr"], trunk["lr"]) == (5e-5, 3e-5)
    schedule.step(10)
    assert (rest["lr"], trunk["lr"]) == (pytest.approx(5e-6), pytest.approx(3e-6))


def test_blur_is_told_the_size_of_the_network_s_images():
    trainer = object.__new__(SAM2_3dMedTrainer)
    trainer.configuration_manager = configuration()
    transforms = trainer.get_training_transforms((4, 24, 20), None, None, (2,), True).transforms
    inner = [getattr(transform, "transform", transform) for transform in transforms]
    assert [t.image_size for t in inner if isinstance(t, NetworkImageBlurTransform)] == [IMAGE_SIZE]


def test_millimetres_come_from_the_spacing_of_the_slices():
    trainer = object.__new__(found_by_nnunet.SAM2_3dMedTrainer_SRPPmm)
    trainer.configuration_manager = configuration()
    assert trainer.slice_distance() == 2.5


def test_a_configuration_with_other_slices_is_refused():
    plans = make_plans()
    add_configurations(plans, DATASET, PlanOptions(image_size=IMAGE_SIZE, slices=4, patch_size=(24, 20)))
    check_slices(plans, "3d_slices3", "SAM2_3dMedTrainer_slices3", 3)
    check_slices(plans, "3d", "SAM2_3dMedTrainer", None)
    with pytest.raises(
        UserError, match="SAM2_3dMedTrainer_slices3 is for stacks of 3 slices.*'3d' has 4.*`3d_slices3`"
    ):
        check_slices(plans, "3d", "SAM2_3dMedTrainer_slices3", 3)


def test_configurations_of_three_and_six_slices_differ_in_the_slices_alone():
    plain = configuration()
    for slices in (3, 6):
        other = configuration(f"3d_slices{slices}")
        assert other.patch_size == [slices, *plain.patch_size[1:]] and other.batch_size == plain.batch_size
        expected = {**plain.network_arch_init_kwargs, "num_slices": slices}
        assert other.network_arch_init_kwargs == expected
