"""Variants of the trainer for prompts: each overrides what its name says and nothing else."""

from __future__ import annotations

from nnunetv2_sam2_3dmed.prompt_training.losses import PromptLoss, entropy_loss
from nnunetv2_sam2_3dmed.prompt_training.stacks import PromptMix
from nnunetv2_sam2_3dmed.prompt_training.trainer import SAM2_PromptTrainer


class SAM2_PromptTrainer_noPretrain_tuned(SAM2_PromptTrainer):
    """From random weights, as ``SAM2_3dMedTrainer_noPretrain_tuned``: one learning rate of 4e-4, no dropout.

    One mask per prompt and slice: SAM 2's three candidates would each settle on one of the objects. And the
    encoder's features are kept steady (``fresh_trunk.keep_steady``).

    Binary cross entropy and Dice loss, as there, instead of 20 times the focal loss, which learns more slowly.

    For the first two fifths of the training each slice is prompted by itself, as SAM 2 was trained on images before
    videos: what a prompt means is learned from every slice, not from one of eight. Then so is every other batch, and of
    the prompts of stacks two of five are masks, from which memory learns most directly.

    Stacks are rotated and sheared in three of ten cases instead of always, as there. It takes up to 500 epochs instead
    of the 70 in which MedSAM2 changed weights that knew images already.
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
    images_first = 0.4
    max_epochs = 500

    def _build_loss(self) -> PromptLoss:  # type: ignore[override]
        return PromptLoss(entropy_loss, 1.0)
