"""The baselines under a time budget, for comparisons in which each method gets the same minutes."""

from __future__ import annotations

from nnunetv2_sam2_3dmed.baselines.trainers import nnUNetTrainer_MedNeXt_S, nnUNetTrainer_SwinUNETR, nnUNetTrainer_UNETR
from nnunetv2_sam2_3dmed.training.budget import WallClockBudget


class nnUNetTrainer_SwinUNETR_8minutes(WallClockBudget, nnUNetTrainer_SwinUNETR):
    minutes = 8


class nnUNetTrainer_SwinUNETR_20minutes(WallClockBudget, nnUNetTrainer_SwinUNETR):
    minutes = 20


class nnUNetTrainer_SwinUNETR_45minutes(WallClockBudget, nnUNetTrainer_SwinUNETR):
    minutes = 45


class nnUNetTrainer_UNETR_8minutes(WallClockBudget, nnUNetTrainer_UNETR):
    minutes = 8


class nnUNetTrainer_UNETR_20minutes(WallClockBudget, nnUNetTrainer_UNETR):
    minutes = 20


class nnUNetTrainer_UNETR_45minutes(WallClockBudget, nnUNetTrainer_UNETR):
    minutes = 45


class nnUNetTrainer_MedNeXt_S_8minutes(WallClockBudget, nnUNetTrainer_MedNeXt_S):
    minutes = 8


class nnUNetTrainer_MedNeXt_S_20minutes(WallClockBudget, nnUNetTrainer_MedNeXt_S):
    minutes = 20


class nnUNetTrainer_MedNeXt_S_45minutes(WallClockBudget, nnUNetTrainer_MedNeXt_S):
    minutes = 45
