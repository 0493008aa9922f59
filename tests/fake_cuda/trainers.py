"""Trainers of which nothing is missing for a step: built by their own methods, on a GPU that is not there."""

from __future__ import annotations

from typing import Any

import nnunetv2_sam2_3dmed.trainers.sam2_3dmed_trainers as sam2_3dmed_trainers
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2_sam2_3dmed.plans.planner import PlanOptions, add_configurations

from nnunetv2_sam2_3dmed.prompt_training.finetuning import Finetuning, SAM2_PromptTrainer_finetune, fold_folder
from nnunetv2_sam2_3dmed.prompt_training.trainer import SAM2_PromptTrainer
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from tests.fake_cuda.gpu import FakeGPU
from tests.plans.test_planner import DATASET, make_plans

IMAGE_SIZE = 64
IN_PLANE = (24, 20)
EXPORTED = {
    name: getattr(sam2_3dmed_trainers, name) for name in sam2_3dmed_trainers.__all__ if name.startswith("SAM2_")
}
# what a class may have of its own without any change to the operations of a step: numbers that scale, and what lies
# before, between and after the steps
NOT_IN_A_STEP = {
    "affine_probability",
    "boundary_weight",
    "checkpoint",
    "images_first",
    "mosaic_probability",
    "mix",
    "patience",
    "peak_lr",
    "pretrained",
    "required_slices",
    "srpp_weight",
    "warmup_share",
    "_find_checkpoint",
    "_load_pretrained",
    "do_split",
}
_OF_EVERY_CLASS = {
    "__doc__",
    "__module__",
    "__qualname__",
    "__annotations__",
    "__firstlineno__",
    "__static_attributes__",
}


def _changes(trainer: type) -> tuple:
    """All of a trainer that changes what its steps do; equal for those whose steps do the same."""
    members: dict[str, Any] = {}
    architecture: dict[str, Any] = {}
    for base in reversed(trainer.__mro__[: trainer.__mro__.index(nnUNetTrainer)]):
        architecture.update(vars(base).get("architecture_changes", {}))
        left_out = NOT_IN_A_STEP | _OF_EVERY_CLASS | {"architecture_changes"}
        members.update({name: value for name, value in vars(base).items() if name not in left_out})
    return tuple(sorted(architecture.items())), tuple(sorted((name, id(v)) for name, v in members.items()))


def _one_for_each_step() -> dict[str, list[str]]:
    """Trainers with steps of their own, and all that nnU-Net finds whose steps are the same, shortest name first."""
    alike: dict[tuple, list[str]] = {}
    for name in sorted(EXPORTED, key=lambda name: (len(name), name)):
        alike.setdefault(_changes(EXPORTED[name]), []).append(name)
    return {names[0]: names for names in alike.values()}


STEPS = _one_for_each_step()


def plans_of(slices: int, dataset: dict, **architecture: Any) -> dict:
    """nnU-Net's plans with our configurations; keyword arguments replace the network's."""
    plans = make_plans()
    statistics = {"mean": 90.0, "std": 40.0, "percentile_00_5": -20.0, "percentile_99_5": 210.0}
    plans |= {
        "continue_training": False,
        "transpose_forward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": statistics},
    }
    options = PlanOptions(image_size=IMAGE_SIZE, slices=slices, patch_size=IN_PLANE)
    for configuration in add_configurations(plans, dataset, options).values():
        configuration["architecture"]["arch_kwargs"].update(architecture)
    return plans


def build(
    trainer: type[SAM2_3dMedTrainer], gpu: FakeGPU, slices: int = 2, dataset: dict = DATASET, **architecture: Any
):
    """A trainer as nnU-Net's ``initialize`` leaves it, but for folders, weights and compilation.

    Args:
        trainer: its class.
        gpu: where its network is to be.
        slices: of a stack, for trainers that do not ask for a number.
        dataset: content of dataset.json.
        **architecture: arguments of the network.
    """
    plans = plans_of(slices, dataset, **architecture)
    prompted = issubclass(trainer, SAM2_PromptTrainer)
    configuration = "3d_slices8" if prompted else "3d"
    if issubclass(trainer, SAM2_PromptTrainer_finetune):
        folder = fold_folder(trainer.__name__, plans, configuration, 0)
        folder.mkdir(parents=True)
        Finetuning("none", "none", "none", {}, 1e-5, 1e-6, 1).write(folder)
    made: Any = trainer(plans, configuration, 0, dataset, gpu.device)
    network = made.build_network_architecture(
        made.plans_manager, made.configuration_manager, 1, made.label_manager.num_segmentation_heads, False
    )
    made.network = gpu.hold(network)
    made.loss = made._build_loss()
    made.optimizer, made.lr_scheduler = made.configure_optimizers()
    return made


def batch_for(trainer: SAM2_3dMedTrainer, gpu: FakeGPU, training: bool = True) -> dict[str, Any]:
    """A batch of two stacks as nnU-Net's loaders give it, on the CPU; padding is marked in training."""
    labels, size = trainer.label_manager, trainer.configuration_manager.patch_size
    channels, dtype = 1, torch.int16
    if labels.has_regions:
        channels, dtype = len(labels.foreground_regions) + labels.has_ignore_label + training, torch.bool
    return {
        "data": gpu.empty(2, 1, *size, device="cpu"),
        "target": gpu.empty(2, channels, *size, dtype=dtype, device="cpu"),
        "keys": ["one", "two"],
    }
