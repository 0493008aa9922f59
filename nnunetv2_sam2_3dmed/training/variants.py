"""Variants of the trainer: each overrides what its name says and nothing else."""

from __future__ import annotations

import torch

from nnunetv2_sam2_3dmed.training.budget import WallClockBudget
from nnunetv2_sam2_3dmed.training.losses import DiceBCELoss, SegmentationLoss
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer


class SAM2_3dMedTrainer_noPretrain(SAM2_3dMedTrainer):
    """From scratch, trunk trained (the paper's "w/o Pre-train", Table 3).

    The paper states no learning rate of its own for this row. At its 5e-5 a fresh transformer hardly moves; of
    4e-4 and 1e-3 the lower one learned faster. Dropout in memory attention, which SAM 2 has against overfitting
    a large dataset for long, only slows a fresh network down.
    """

    pretrained = False
    architecture_changes = {"freeze_trunk": False, "dropout": 0.0}
    peak_lr = 4e-4
    warmup_share = 0.02


class SAM2_3dMedTrainer_noPretrain_DiceBCE(SAM2_3dMedTrainer_noPretrain):
    """From scratch, with nnU-Net's soft Dice loss beside the paper's cross entropy."""

    def segmentation_loss(self) -> SegmentationLoss:
        return DiceBCELoss(self.configuration_manager.batch_dice, self.is_ddp)


class _ShortTraining(SAM2_3dMedTrainer):
    """Mixin: fewer epochs, as nnU-Net's ``nnUNetTrainer_Xepochs``."""

    epochs: int

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.epochs


class SAM2_3dMedTrainer_5epochs(_ShortTraining):
    epochs = 5


class SAM2_3dMedTrainer_20epochs(_ShortTraining):
    epochs = 20


class SAM2_3dMedTrainer_noPretrain_5epochs(_ShortTraining, SAM2_3dMedTrainer_noPretrain):
    epochs = 5


class SAM2_3dMedTrainer_noPretrain_20epochs(_ShortTraining, SAM2_3dMedTrainer_noPretrain):
    epochs = 20


class SAM2_3dMedTrainer_noPretrain_2minutes(WallClockBudget, SAM2_3dMedTrainer_noPretrain):
    minutes = 2


class SAM2_3dMedTrainer_noPretrain_8minutes(WallClockBudget, SAM2_3dMedTrainer_noPretrain):
    minutes = 8


class SAM2_3dMedTrainer_noPretrain_45minutes(WallClockBudget, SAM2_3dMedTrainer_noPretrain):
    minutes = 45


class SAM2_3dMedTrainer_noPretrain_DiceBCE_2minutes(WallClockBudget, SAM2_3dMedTrainer_noPretrain_DiceBCE):
    minutes = 2


class SAM2_3dMedTrainer_noPretrain_DiceBCE_8minutes(WallClockBudget, SAM2_3dMedTrainer_noPretrain_DiceBCE):
    minutes = 8


class SAM2_3dMedTrainer_noPretrain_DiceBCE_45minutes(WallClockBudget, SAM2_3dMedTrainer_noPretrain_DiceBCE):
    minutes = 45
