"""nnU-Net's own trainer and the baselines under a time budget (found by nnU-Net through ``nnUNet_extTrainer``)."""

from nnunetv2_sam2_3dmed.baselines.budgets import (
    nnUNetTrainer_MedNeXt_S_8minutes,
    nnUNetTrainer_MedNeXt_S_20minutes,
    nnUNetTrainer_MedNeXt_S_45minutes,
    nnUNetTrainer_SwinUNETR_8minutes,
    nnUNetTrainer_SwinUNETR_20minutes,
    nnUNetTrainer_SwinUNETR_45minutes,
    nnUNetTrainer_UNETR_8minutes,
    nnUNetTrainer_UNETR_20minutes,
    nnUNetTrainer_UNETR_45minutes,
)
from nnunetv2_sam2_3dmed.training.baselines import (
    nnUNetTrainer_2minutes,
    nnUNetTrainer_8minutes,
    nnUNetTrainer_20minutes,
    nnUNetTrainer_45minutes,
)

__all__ = [
    "nnUNetTrainer_2minutes",
    "nnUNetTrainer_8minutes",
    "nnUNetTrainer_20minutes",
    "nnUNetTrainer_45minutes",
    "nnUNetTrainer_SwinUNETR_8minutes",
    "nnUNetTrainer_SwinUNETR_20minutes",
    "nnUNetTrainer_SwinUNETR_45minutes",
    "nnUNetTrainer_UNETR_8minutes",
    "nnUNetTrainer_UNETR_20minutes",
    "nnUNetTrainer_UNETR_45minutes",
    "nnUNetTrainer_MedNeXt_S_8minutes",
    "nnUNetTrainer_MedNeXt_S_20minutes",
    "nnUNetTrainer_MedNeXt_S_45minutes",
]
