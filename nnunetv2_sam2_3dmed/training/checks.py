"""Validation of a plan and a configuration, before any long work."""

from __future__ import annotations

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet.dataset_labels import check_labels

NETWORK_CLASS = "nnunetv2_sam2_3dmed.network.sam2_3dmed.SAM2_3dMed"


def check_configuration(
    plans: dict, configuration: str, dataset_json: dict, required_slices: int | None = None
) -> None:
    """Refuse a configuration that SAM2-3dMed cannot train.

    Args:
        plans: the content of nnUNetPlans.json.
        configuration: the name the user gave.
        dataset_json: the content of dataset.json.
        required_slices: of the trainer, as for :func:`check_slices`; messages name its configuration.

    Raises:
        UserError: the configuration is missing, 2d, part of a cascade, planned for another network, or its
            patch does not fit the network; or the labels cannot be trained.
    """
    dataset, wanted = plans["dataset_name"], _configuration_for(required_slices)
    check_labels(dataset, dataset_json)
    if configuration not in plans["configurations"]:
        raise UserError(
            f"the configuration {configuration!r} is not in {plans['plans_name']} of {dataset} "
            f"(there are {', '.join(plans['configurations'])}): add `{wanted}` with `sam2_3dmed plan -d {dataset}`."
        )
    manager = PlansManager(plans).get_configuration(configuration)
    if len(manager.patch_size) != 3:
        raise UserError(
            f"the configuration {configuration!r} is two-dimensional (patch {manager.patch_size}), but SAM2-3dMed "
            f"needs stacks of slices: use the configuration `{wanted}` of `sam2_3dmed plan -d {dataset}`."
        )
    if manager.previous_stage_name is not None:
        raise UserError(
            f"the configuration {configuration!r} is the second stage of a cascade (after "
            f"{manager.previous_stage_name}), which SAM2-3dMed does not support: use the configuration `{wanted}`."
        )
    if manager.network_arch_class_name != NETWORK_CLASS:
        raise UserError(
            f"the configuration {configuration!r} was planned for {manager.network_arch_class_name.split('.')[-1]}, "
            f"but this trainer needs {NETWORK_CLASS.split('.')[-1]}: use the configuration `{wanted}` of "
            f"`sam2_3dmed plan -d {dataset}`."
        )
    architecture = manager.network_arch_init_kwargs
    check_architecture(manager.patch_size, architecture, dataset)
    has_regions = PlansManager(plans).get_label_manager(dataset_json).has_regions
    if bool(architecture.get("regions", False)) != has_regions:
        raise UserError(
            f"dataset.json of {dataset} has {'regions' if has_regions else 'labels'}, but the configuration "
            f"{configuration!r} was planned for the other: repeat your `sam2_3dmed plan -d {dataset} ...`."
        )


def check_slices(plans: dict, configuration: str, trainer: str, required: int | None) -> None:
    """Refuse a configuration whose stacks are not those that a trainer is named after.

    Raises:
        UserError: the patch has another number of slices.
    """
    slices = PlansManager(plans).get_configuration(configuration).patch_size[0]
    if required not in (None, slices):
        raise UserError(
            f"{trainer} is for stacks of {required} slices, but the configuration {configuration!r} has {slices}: use "
            f"the configuration `{_configuration_for(required)}`, which `sam2_3dmed plan -d {plans['dataset_name']}` "
            f"adds."
        )


def _configuration_for(required: int | None) -> str:
    """Name of the configuration that `sam2_3dmed plan` adds for trainers with a required number of slices, or none."""
    return "3d" if required is None else f"3d_slices{required}"


def check_architecture(patch_size: list[int], architecture: dict, dataset: str) -> None:
    """Refuse an image size or a patch that the network cannot take.

    Args:
        patch_size: (D, H, W) in voxels.
        architecture: options of the network.
        dataset: its name, for messages.

    Raises:
        UserError: the image size is no multiple of 32, or the patch's slices are not those of the network.
    """
    image_size = architecture.get("image_size", 512)
    if not isinstance(image_size, int) or image_size < 32 or image_size % 32:
        raise UserError(
            f"the image size is {image_size!r}, but must be a positive multiple of 32: repeat your "
            f"`sam2_3dmed plan -d {dataset} ...` with, for example, --image-size 256."
        )
    num_slices = architecture.get("num_slices", 12)
    if patch_size[0] != num_slices:
        raise UserError(
            f"the patch {list(patch_size)} has {patch_size[0]} slices, but the network was planned for "
            f"num_slices {num_slices}: repeat your `sam2_3dmed plan -d {dataset} ...` with --slices {patch_size[0]}."
        )
    if num_slices < 2 or min(patch_size[1:]) < 8:
        raise UserError(
            f"the patch {list(patch_size)} is too small, expected at least 2 slices of 8 x 8 voxels: repeat your "
            f"`sam2_3dmed plan -d {dataset} ...` with a larger --slices or --patch-size."
        )
