"""Trainers of models that take prompts (found by nnU-Net through ``nnUNet_extTrainer``)."""

from nnunetv2_sam2_3dmed.prompt_training.finetuning import SAM2_PromptTrainer_finetune
from nnunetv2_sam2_3dmed.prompt_training.trainer import SAM2_PromptTrainer
from nnunetv2_sam2_3dmed.prompt_training.variants import (
    SAM2_PromptTrainer_noPretrain_tuned,
    SAM2_PromptTrainer_noPretrain_tuned_20minutes,
    SAM2_PromptTrainer_noPretrain_tuned_45minutes,
)

__all__ = [
    "SAM2_PromptTrainer",
    "SAM2_PromptTrainer_finetune",
    "SAM2_PromptTrainer_noPretrain_tuned",
    "SAM2_PromptTrainer_noPretrain_tuned_20minutes",
    "SAM2_PromptTrainer_noPretrain_tuned_45minutes",
]
