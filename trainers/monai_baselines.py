"""Networks of other papers (found by nnU-Net through ``nnUNet_extTrainer``); they need the extra ``monai``."""

from nnunetv2_sam2_3dmed.baselines.trainers import (
    nnUNetTrainer_MedNeXt_B,
    nnUNetTrainer_MedNeXt_L,
    nnUNetTrainer_MedNeXt_M,
    nnUNetTrainer_MedNeXt_S,
    nnUNetTrainer_SwinUNETR,
    nnUNetTrainer_UNETR,
)

__all__ = [
    "nnUNetTrainer_MedNeXt_S",
    "nnUNetTrainer_MedNeXt_B",
    "nnUNetTrainer_MedNeXt_M",
    "nnUNetTrainer_MedNeXt_L",
    "nnUNetTrainer_SwinUNETR",
    "nnUNetTrainer_UNETR",
]
