"""nnU-Net's own trainer under a time budget (found by nnU-Net through ``nnUNet_extTrainer``)."""

from nnunetv2_sam2_3dmed.training.baselines import (
    nnUNetTrainer_2minutes,
    nnUNetTrainer_8minutes,
    nnUNetTrainer_45minutes,
)

__all__ = ["nnUNetTrainer_2minutes", "nnUNetTrainer_8minutes", "nnUNetTrainer_45minutes"]
