"""Models from the checkpoints that trainers for prompts write within nnU-Net."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive.intensities import ShownAs, learned_normals
from nnunetv2_sam2_3dmed.network.promptable_sam2 import PromptableSAM2, build_promptable_sam2
from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base, build_sam2_base

PROMPTED = "prompted"  # the key in a checkpoint's ``init_args``
# nnU-Net's, which turn every image until x, y and z run along the axes of the patient
TURNING_READERS = ("NibabelIOWithReorient", "SimpleITKIOWithReorient")
NETWORK_ARGUMENTS = (
    "backbone",
    "image_size",
    "num_memories",
    "dropout",
    "fitted_windows",
    "precision",
    "several_candidates",
    "steady_features",
    "activation_checkpointing",
)


def takes_prompts(checkpoint: dict[str, Any]) -> bool:
    """Return True if a checkpoint of nnU-Net was written by a trainer for prompts."""
    return PROMPTED in checkpoint.get("init_args", {})


def trained_model(checkpoint: dict[str, Any], path: Path, image_size: int | None = None) -> PromptableSAM2:
    """Build the model of a checkpoint, in eval mode on the CPU; its ``shown_as`` describes the images it expects.

    Args:
        checkpoint: one for which :func:`takes_prompts` is true.
        path: of the checkpoint, for messages.
        image_size: None for that of the training.

    Raises:
        UserError: the weights are not those of the network that the checkpoint describes, or it cannot have this image
            size.
    """
    described = checkpoint["init_args"][PROMPTED]
    arguments = dict(described["network"])
    if image_size is not None:
        arguments["image_size"] = image_size
    try:
        network = build_promptable_sam2(**arguments)
    except ValueError as error:  # the image size
        raise UserError(str(error)) from error
    try:
        network.load_state_dict(checkpoint["network_weights"])
    except RuntimeError as error:
        raise UserError(
            f"{path} does not hold the weights of the network that it describes ({arguments}): train again."
        ) from error
    network.shown_as = _shown_as(described["shown_as"], checkpoint["init_args"].get("plans", {}))
    return network.eval()


def in_official_format(checkpoint: dict[str, Any], path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the weights as SAM 2's official checkpoints have them, and where SAM 2's code differs from the training.

    Args:
        checkpoint: one of nnU-Net.
        path: of the checkpoint, for messages.

    Returns:
        The state dict, and the settings that SAM 2's configuration needs for these weights, in sentences.

    Raises:
        UserError: it was not written by a trainer for prompts, or lacks weights.
    """
    if not takes_prompts(checkpoint):
        raise UserError(
            f"{path} was trained by {checkpoint.get('trainer_name', 'an unknown trainer')}, whose network is not SAM "
            "2's alone: only models of SAM2_PromptTrainer and its variants can be exported."
        )
    trained = trained_model(checkpoint, path)
    described = checkpoint["init_args"][PROMPTED]["network"]
    official: SAM2Base = build_sam2_base(described["backbone"], trained.image_size)
    found = [f"trained on images of {trained.image_size} pixels: set image_size to that."]
    windows = [[block.window_size for block in model.image_encoder.trunk.blocks] for model in (trained, official)]
    if windows[0] != windows[1]:
        found.append(
            f"trained with attention windows fitted to the image; SAM 2's code pads its larger windows, which changes "
            f"the features: set window_spec to fit {trained.image_size} pixels, or train without fitted_windows."
        )
    if not trained.multimask_output_in_sam:
        found.append("trained for one mask per prompt: set multimask_output_in_sam to false.")
    if trained.num_maskmem != official.num_maskmem:
        found.append(f"trained with {trained.num_maskmem} memories: set num_maskmem to that.")
    # in the memory of its own, not that of the checkpoint's file
    return {name: value.detach().clone() for name, value in trained.state_dict().items()}, found


def _shown_as(described: dict[str, Any], plans: dict[str, Any]) -> ShownAs:
    """Return the display of images in training; a missing axis of the patient is taken from the plan where possible."""
    shown = ShownAs(**described)
    if not shown.normals and plans.get("image_reader_writer") in TURNING_READERS:
        return replace(shown, normals=learned_normals([np.eye(3)], shown.axis))
    return shown
