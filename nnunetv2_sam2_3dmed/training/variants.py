"""Variants of the trainer: each overrides what its name says and nothing else.

``ablations.py`` has those of the paper's tables; here are other ways to train.
"""

from __future__ import annotations

import torch

from nnunetv2_sam2_3dmed.network.checkpoints import MEDSAM2
from nnunetv2_sam2_3dmed.training.budget import WallClockBudget
from nnunetv2_sam2_3dmed.training.losses import DiceBCELoss, SegmentationLoss
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer


class SAM2_3dMedTrainer_DiceBCE(SAM2_3dMedTrainer):
    """With nnU-Net's soft Dice loss beside the paper's cross entropy."""

    def segmentation_loss(self) -> SegmentationLoss:
        return DiceBCELoss(self.configuration_manager.batch_dice, self.is_ddp)


class SAM2_3dMedTrainer_SRPPmm(SAM2_3dMedTrainer):
    """SRPP states offsets in millimetres instead of slices.

    nnU-Net resamples all cases of a dataset to one spacing, so that within one dataset this scales the offsets
    by a constant; between datasets the same distance in the body becomes the same number. The loss stays in
    slices squared: lambda_1 means the same with either unit.
    """

    def slice_distance(self) -> float:
        return float(self.configuration_manager.spacing[0])


class SAM2_3dMedTrainer_bidirectional(SAM2_3dMedTrainer):
    """Memory runs over the slices in both directions; the logits are averaged."""

    architecture_changes = {"bidirectional": True}


class SAM2_3dMedTrainer_lowMemory(SAM2_3dMedTrainer):
    """Both branches compute their slices a second time in backward instead of keeping everything."""

    architecture_changes = {"activation_checkpointing": True}


class SAM2_3dMedTrainer_trainTrunk(SAM2_3dMedTrainer):
    """The Hiera trunk trains too."""

    architecture_changes = {"freeze_trunk": False}


class SAM2_3dMedTrainer_MedSAM2Rates(SAM2_3dMedTrainer_trainTrunk):
    """Everything trains, at MedSAM2's two learning rates: 3e-5 for the trunk, 5e-5 for the rest."""

    trunk_lr = 3e-5


class SAM2_3dMedTrainer_LoRA(SAM2_3dMedTrainer):
    """The frozen trunk's attention layers get trained updates of low rank."""

    architecture_changes = {"lora_rank": 8}


class SAM2_3dMedTrainer_MedSAM2(SAM2_3dMedTrainer):
    """Starts from MedSAM2's weights (a SAM 2.1 tiny) instead of SAM 2's."""

    checkpoint = MEDSAM2


class SAM2_3dMedTrainer_noPretrain(SAM2_3dMedTrainer_trainTrunk):
    """From scratch, trunk trained (the paper's "w/o Pre-train", Table 3).

    The paper states no learning rate of its own for this row. At its 5e-5 a fresh transformer hardly moves; of
    4e-4 and 1e-3 the lower one learned faster. Dropout in memory attention, which SAM 2 has against overfitting
    a large dataset for long, only slows a fresh network down. Attention windows larger than the image, which SAM 2
    pads, are fitted to it.
    """

    pretrained = False
    architecture_changes = {"dropout": 0.0, "fitted_windows": True}
    peak_lr = 4e-4
    warmup_share = 0.02


class SAM2_3dMedTrainer_noPretrain_DiceBCE(SAM2_3dMedTrainer_DiceBCE, SAM2_3dMedTrainer_noPretrain):
    """From scratch, with nnU-Net's soft Dice loss beside the paper's cross entropy."""


class SAM2_3dMedTrainer_fromScratch(SAM2_3dMedTrainer_noPretrain_DiceBCE):
    """From random weights in short time, which is not the paper's aim: soft Dice, and less augmentation.

    Stacks are rotated and sheared in three of ten cases instead of always, and never tiled.
    """

    affine_probability = 0.3
    mosaic_probability = 0.0


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


class SAM2_3dMedTrainer_fromScratch_2minutes(WallClockBudget, SAM2_3dMedTrainer_fromScratch):
    minutes = 2


class SAM2_3dMedTrainer_fromScratch_8minutes(WallClockBudget, SAM2_3dMedTrainer_fromScratch):
    minutes = 8


class SAM2_3dMedTrainer_fromScratch_20minutes(WallClockBudget, SAM2_3dMedTrainer_fromScratch):
    minutes = 20


class SAM2_3dMedTrainer_fromScratch_45minutes(WallClockBudget, SAM2_3dMedTrainer_fromScratch):
    minutes = 45
