"""Variants of the prompt trainer; each overrides only the settings in its name."""

from __future__ import annotations

from copy import deepcopy
from typing import ClassVar

import torch
import torch.distributed as dist

from nnunetv2_sam2_3dmed.prompt_training.finetuning import SAM2_PromptTrainer_finetune
from nnunetv2_sam2_3dmed.prompt_training.losses import PromptLoss, bce_loss
from nnunetv2_sam2_3dmed.prompt_training.stacks import PromptMix
from nnunetv2_sam2_3dmed.prompt_training.trainer import SAM2_PromptTrainer


class SAM2_PromptTrainer_noPretrain_tuned(SAM2_PromptTrainer):
    """From random weights, as ``SAM2_3dMedTrainer_noPretrain_tuned``: one learning rate of 4e-4, no dropout.

    One mask per prompt and slice: each of SAM 2's three candidates would settle on one of the objects. The encoder's
    features are normalised (``fresh_trunk.keep_steady``).

    Binary cross entropy and Dice loss, as there, instead of 20 times the focal loss, which learns more slowly.

    In the first two fifths of the training each slice is prompted by itself, as SAM 2 was trained on images before
    videos: prompts are then learned from every slice instead of one in eight. Afterwards so is every other batch, and
    two of five prompts of stacks are masks, from which the memory learns most directly.

    Half of the stacks of volumes are of every second slice: they show more of what lies beyond the ends of an object,
    where a model that has only seen neighbouring slices goes on to segment, and larger changes between slices.

    Stacks are rotated and sheared with probability 0.3 instead of always, as there. The training takes up to 500 epochs
    instead of the 70 with which MedSAM2 fine-tuned pretrained weights.
    """

    pretrained = False
    architecture_changes = {
        "dropout": 0.0,
        "fitted_windows": True,
        "several_candidates": False,
        "steady_features": True,
    }
    peak_lr = 4e-4
    trunk_lr = None
    warmup_share = 0.02
    affine_probability = 0.3
    mix = PromptMix(box=0.4, click=0.2, images=0.5)
    slice_steps = (1, 2)
    images_first = 0.4
    max_epochs = 500

    def _build_loss(self) -> PromptLoss:  # type: ignore[override]
        return PromptLoss(bce_loss, 1.0)


class SAM2_PromptTrainer_batch8(SAM2_PromptTrainer):
    """Eight stacks per GPU, as MedSAM2 was trained; the plan's batch size does not count."""

    stacks_per_gpu: ClassVar[int] = 8

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ):
        processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        if configuration in plans["configurations"]:  # else a sentence comes from where that is checked
            plans = deepcopy(plans)
            plans["configurations"][configuration]["batch_size"] = self.stacks_per_gpu * processes
        super().__init__(plans, configuration, fold, dataset_json, device)


class SAM2_PromptTrainer_corrected(SAM2_PromptTrainer):
    """Half of the batches have clicks on errors of a propagated slice too, after SAM 2's training.

    In SAM 2's settings (``sam2.1_hiera_b+_MOSE_finetune.yaml``), half of the clips are prompted with points or boxes,
    on one or two frames, and one or two frames, always the first among them, are corrected with seven clicks; a
    corrected frame is then remembered like a prompted one. MedSAM2's text names no corrections.

    Differences from SAM 2, and ours: one prompted slice; one to three clicks; in both directions, the slice at one
    distance from the prompt is corrected, which is drawn for the whole batch, so that tracks shorter than it have none;
    each click attends to the memories anew; slices without an error get no click, and errors are never replaced by the
    whole object (SAM 2 does so once in ten clicks); masks as prompts are followed by corrections too.
    """

    mix = PromptMix(later=0.5)


class SAM2_PromptTrainer_noPretrain_tuned_corrected(SAM2_PromptTrainer_noPretrain_tuned):
    """Random weights, with corrections as ``SAM2_PromptTrainer_corrected``."""

    mix = SAM2_PromptTrainer_noPretrain_tuned.mix._replace(later=0.5)


class SAM2_PromptTrainer_finetune_tuned(SAM2_PromptTrainer_finetune):
    """Fine-tuning of models from random weights: as ``SAM2_PromptTrainer_noPretrain_tuned`` trained them.

    Prompts, stacks, loss, rotation and warm-up are those of that trainer, without its first part on single slices.
    """

    warmup_share = SAM2_PromptTrainer_noPretrain_tuned.warmup_share
    affine_probability = SAM2_PromptTrainer_noPretrain_tuned.affine_probability
    mix = SAM2_PromptTrainer_noPretrain_tuned.mix
    slice_steps = SAM2_PromptTrainer_noPretrain_tuned.slice_steps

    def _build_loss(self) -> PromptLoss:  # type: ignore[override]
        return PromptLoss(bce_loss, 1.0)
