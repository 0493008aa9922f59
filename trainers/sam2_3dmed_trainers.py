"""The trainers that nnU-Net finds through ``nnUNet_extTrainer``; all of their code is in the package."""

from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from nnunetv2_sam2_3dmed.training.variants import (
    SAM2_3dMedTrainer_5epochs,
    SAM2_3dMedTrainer_20epochs,
    SAM2_3dMedTrainer_noPretrain,
    SAM2_3dMedTrainer_noPretrain_2minutes,
    SAM2_3dMedTrainer_noPretrain_5epochs,
    SAM2_3dMedTrainer_noPretrain_8minutes,
    SAM2_3dMedTrainer_noPretrain_20epochs,
    SAM2_3dMedTrainer_noPretrain_45minutes,
    SAM2_3dMedTrainer_noPretrain_DiceBCE,
    SAM2_3dMedTrainer_noPretrain_DiceBCE_2minutes,
    SAM2_3dMedTrainer_noPretrain_DiceBCE_8minutes,
    SAM2_3dMedTrainer_noPretrain_DiceBCE_45minutes,
)

__all__ = [
    "SAM2_3dMedTrainer",
    "SAM2_3dMedTrainer_20epochs",
    "SAM2_3dMedTrainer_5epochs",
    "SAM2_3dMedTrainer_noPretrain",
    "SAM2_3dMedTrainer_noPretrain_20epochs",
    "SAM2_3dMedTrainer_noPretrain_2minutes",
    "SAM2_3dMedTrainer_noPretrain_45minutes",
    "SAM2_3dMedTrainer_noPretrain_5epochs",
    "SAM2_3dMedTrainer_noPretrain_8minutes",
    "SAM2_3dMedTrainer_noPretrain_DiceBCE",
    "SAM2_3dMedTrainer_noPretrain_DiceBCE_2minutes",
    "SAM2_3dMedTrainer_noPretrain_DiceBCE_45minutes",
    "SAM2_3dMedTrainer_noPretrain_DiceBCE_8minutes",
]
