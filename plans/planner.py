"""The planner that adds the configuration `3d` to nnU-Net's plans."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.network.sam2_modules import BACKBONES
from nnunetv2_sam2_3dmed.nnunet.dataset_labels import check_labels
from nnunetv2_sam2_3dmed.nnunet.plan_checks import check_plans
from nnunetv2_sam2_3dmed.training.checks import NETWORK_CLASS, check_architecture
from nnunetv2_sam2_3dmed.training.memory import GIB, TrainingStep

CONFIGURATION = "3d"
PARENT = "3d_fullres"
_NOT_NORMALISED = "NoNormalization"
LARGEST_SLICE = 512  # the paper's image size
ABLATED_SLICES = (3, 6)  # the paper's Table 7
PROMPTED_SLICES = 8  # MedSAM2's
LARGEST_BATCH = 4  # the paper's
OVERHEAD_GIB = 1.0  # CUDA's context, workspaces, and what the allocator cannot use between blocks


@dataclass(frozen=True)
class PlanOptions:
    """A user's choices; None leaves the choice to the planner.

    Attributes:
        backbone: a key of ``sam2_modules.BACKBONES``.
        image_size: side in pixels to which slices are resized, a multiple of 32.
        slices: slices in a patch (the paper: 12, and 6 for lung).
        patch_size: in-plane patch size in voxels (H, W).
        batch_size: stacks in a batch, over all GPUs (the paper: 4); None for up to 4, as many as fit.
        gpu_memory: of the GPU to plan for, in GiB; the default is nnU-Net's.
        checkpointing: with activation checkpointing; None where it is needed to fit.
        num_memories: slices that a slice looks back to.
        name: of the configuration.
    """

    backbone: str = "sam2.1_hiera_tiny"
    image_size: int | None = None
    slices: int = 12
    patch_size: tuple[int, int] | None = None
    batch_size: int | None = None
    gpu_memory: float = 8.0
    checkpointing: bool | None = None
    num_memories: int = 7
    name: str = CONFIGURATION


def in_plane_patch_size(median_slice: Sequence[float]) -> tuple[int, int]:
    """(H, W) that covers the median slice, in multiples of 16; the network stretches it to a square image.

    Args:
        median_slice: the median case's in-plane size in voxels, after nnU-Net's resampling.
    """
    height, width = (min(math.ceil(side / 16) * 16, LARGEST_SLICE) for side in median_slice)
    return height, width


def image_size_for(patch_size: Sequence[int]) -> int:
    """Four times the longer side of the patch, rounded up to a multiple of 64, between 128 and 512.

    Up to a side of 128 voxels, a mask pixel is at most a voxel.

    Args:
        patch_size: in-plane (H, W), in voxels.
    """
    return max(min(math.ceil(4 * max(patch_size) / 64) * 64, LARGEST_SLICE), 128)


def add_configuration(plans: dict, dataset_json: dict, options: PlanOptions) -> dict:
    """Add the new configuration, which inherits from ``3d_fullres``, to ``plans``, and return it.

    The preprocessed data and the folds stay those of ``3d_fullres``; patch, batch and architecture are ours.

    Args:
        plans: the content of nnUNetPlans.json; changed in place.
        dataset_json: the content of dataset.json.
        options: the user's choices.

    Raises:
        UserError: there is no ``3d_fullres``, an option cannot work, or the labels cannot be trained.
    """
    check_labels(plans["dataset_name"], dataset_json)
    check_plans(plans, dataset_json, PARENT)
    check_name(options.name)
    if PARENT not in plans["configurations"]:
        raise UserError(
            f"{plans['plans_name']} of {plans['dataset_name']} has no configuration {PARENT!r} (there are "
            f"{', '.join(plans['configurations'])}): run `nnUNetv2_plan_and_preprocess -d ID -c {PARENT}` first; "
            f"two-dimensional datasets cannot be used."
        )
    if options.backbone not in BACKBONES:
        raise UserError(f"the backbone is {options.backbone!r}, but must be one of {', '.join(BACKBONES)}.")
    if not 1 <= options.num_memories <= 7:
        raise UserError(f"the number of memories is {options.num_memories}, but must be 1 to 7.")
    if options.batch_size is not None and options.batch_size < 1:
        raise UserError(f"the batch size is {options.batch_size}, but must be at least 1.")
    if not options.gpu_memory > 0:
        raise UserError(f"the GPU memory is {options.gpu_memory:g} GiB, but must be more than 0.")
    if options.name in plans["configurations"] and not _is_ours(plans["configurations"][options.name]):
        raise UserError(
            f"{plans['plans_name']} already has a configuration {options.name!r} that is not SAM2-3dMed's: choose "
            f"another name with `--name`."
        )
    manager = PlansManager(plans)
    parent = manager.get_configuration(PARENT)
    in_plane = options.patch_size or in_plane_patch_size(parent.median_image_size_in_voxels[1:])
    patch_size = [options.slices, *in_plane]
    architecture = {
        **network_defaults(),
        "regions": manager.get_label_manager(dataset_json).has_regions,
        "backbone": options.backbone,
        "image_size": image_size_for(in_plane) if options.image_size is None else options.image_size,
        "num_slices": options.slices,
        "num_memories": options.num_memories,
        "intensity_range": intensity_range(
            parent.normalization_schemes, plans.get("foreground_intensity_properties_per_channel", {})
        ),
    }
    check_architecture(patch_size, architecture, plans["dataset_name"])
    step = fitting_step(
        options,
        (options.slices, *in_plane),
        architecture["image_size"],
        number_of_masks(plans, dataset_json),
        number_of_channels(dataset_json),
    )
    architecture["activation_checkpointing"] = step.checkpointing
    configuration = {
        "inherits_from": PARENT,
        "patch_size": patch_size,
        "batch_size": step.batch_size,
        # a class is absent from many stacks of a few slices: its Dice is only defined over the batch
        "batch_dice": True,
        "architecture": {
            "network_class_name": NETWORK_CLASS,
            "arch_kwargs": architecture,
            "_kw_requires_import": [],
        },
    }
    plans["configurations"][options.name] = configuration
    return configuration


def add_configurations(plans: dict, dataset_json: dict, options: PlanOptions) -> dict[str, dict]:
    """Add the configuration and, beside it, those with 3, 6 and 8 slices, ``NAME_slices3`` and so on.

    Args:
        plans: the content of nnUNetPlans.json; changed in place.
        dataset_json: the content of dataset.json.
        options: the user's choices.

    Returns:
        The new configurations by their names; the chosen one first.

    Raises:
        UserError: as :func:`add_configuration`.
    """
    added = {options.name: add_configuration(plans, dataset_json, options)}
    for slices in (*ABLATED_SLICES, PROMPTED_SLICES):
        name = f"{options.name}_slices{slices}"
        added[name] = add_configuration(plans, dataset_json, replace(options, slices=slices, name=name))
    return added


def fitting_step(
    options: PlanOptions, patch_size: tuple[int, int, int], image_size: int, num_masks: int, channels: int = 1
) -> TrainingStep:
    """Choose the first of these that fits into the GPU's memory: 4 stacks; with checkpointing; fewer, down to 1.

    Args:
        options: batch size, checkpointing and memory.
        patch_size: (D, H, W).
        image_size: of the network.
        num_masks: classes or regions.
        channels: of the images.

    Returns:
        The step of ``SAM2_3dMedTrainer`` to plan; where none fits, the one that needs least.
    """
    batches = [options.batch_size] if options.batch_size is not None else list(range(LARGEST_BATCH, 0, -1))
    ways = [options.checkpointing] if options.checkpointing is not None else [False, True]
    # the largest batch in either way first: a smaller batch is another training, checkpointing is not
    steps = [
        TrainingStep(batch, patch_size, image_size, num_masks, options.backbone, way, channels=channels)
        for batch in batches
        for way in ways
        if way or batch == batches[0] or len(ways) == 1
    ]
    return next((step for step in steps if fits(step, options.gpu_memory)), steps[-1])


def fits(step: TrainingStep, gpu_memory: float) -> bool:
    """Return True if a GPU of ``gpu_memory`` GiB holds a step, and what CUDA itself takes."""
    return step.expected_bytes() / GIB + OVERHEAD_GIB <= gpu_memory


def planned_step(configuration: dict, num_masks: int, channels: int = 1) -> TrainingStep:
    """The step of ``SAM2_3dMedTrainer`` that a configuration of :func:`add_configuration` describes."""
    architecture = configuration["architecture"]["arch_kwargs"]
    depth, height, width = configuration["patch_size"]
    return TrainingStep(
        configuration["batch_size"],
        (depth, height, width),
        architecture["image_size"],
        num_masks,
        architecture["backbone"],
        architecture["activation_checkpointing"],
        channels=channels,
    )


def number_of_masks(plans: dict, dataset_json: dict) -> int:
    """Foreground classes or regions of a dataset."""
    labels = PlansManager(plans).get_label_manager(dataset_json)
    return len(labels.foreground_regions if labels.has_regions else labels.foreground_labels)


def number_of_channels(dataset_json: dict) -> int:
    """Channels of the images of a dataset."""
    return len(dataset_json.get("channel_names", dataset_json.get("modality", ["one"])))


def network_defaults() -> dict[str, Any]:
    """Return all of the network's options with their defaults, so that the plan lists each."""
    parameters = inspect.signature(SAM2_3dMed).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _is_ours(configuration: dict) -> bool:
    return configuration.get("architecture", {}).get("network_class_name") == NETWORK_CLASS


def intensity_range(normalization_schemes: Sequence[str], foreground: Mapping[str, Mapping[str, float]]) -> list[float]:
    """The normalised intensities that become black and white, given nnU-Net's normalisation.

    Z-scores (of the image, or of the foreground as for CT) keep three standard deviations on either side;
    schemes that scale to [0, 1] keep that. Without normalisation the standard deviations are those of the foreground,
    and of several channels the range holds those of each. Beside normalised channels, one that is not, such as a mask,
    must fit into their range.

    Args:
        normalization_schemes: of the channels.
        foreground: ``foreground_intensity_properties_per_channel`` of the plans.

    Raises:
        UserError: a channel that is not normalised does not fit into the range of others that are.
    """
    if all(scheme in ("RGBTo01Normalization", "RescaleTo01Normalization") for scheme in normalization_schemes):
        return [0.0, 1.0]
    plain = [channel for channel, scheme in enumerate(normalization_schemes) if scheme == _NOT_NORMALISED]
    if len(plain) < len(normalization_schemes):
        for channel in plain:
            low, high = (float(foreground[str(channel)][key]) for key in ("percentile_00_5", "percentile_99_5"))
            if low < -3 or high > 3:
                raise UserError(
                    f"channel {channel} is not normalised and has intensities of {low:g} to {high:g}, but the other "
                    "channels' range, -3 to 3, serves all: normalise it too (channel_names in dataset.json), and plan "
                    "again."
                )
        return [-3.0, 3.0]
    spreads = {channel: 3 * max(float(foreground[str(channel)]["std"]), 1e-8) for channel in plain}
    means = {channel: float(foreground[str(channel)]["mean"]) for channel in plain}
    return [min(means[c] - spreads[c] for c in plain), max(means[c] + spreads[c] for c in plain)]


def check_name(name: str) -> None:
    """Refuse a name of a configuration that nnU-Net could make no folder of.

    Raises:
        UserError: it has other signs, or the two underscores by which nnU-Net sets names apart.
    """
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII) or "__" in name:
        raise UserError(
            f"the name of a configuration is {name!r}, but must be letters, digits, '.', '-' and single '_' (--name): "
            "nnU-Net makes a folder of it, and sets it apart with two."
        )
