"""Variants of the prompt trainer; each overrides only the settings in its name."""

from __future__ import annotations

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
    images_first = 0.4
    max_epochs = 500

    def _build_loss(self) -> PromptLoss:  # type: ignore[override]
        return PromptLoss(bce_loss, 1.0)
