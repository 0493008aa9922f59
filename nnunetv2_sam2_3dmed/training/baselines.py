"""nnU-Net's own trainer under a time budget, for comparisons."""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_sam2_3dmed.training.budget import WallClockBudget


class nnUNetTrainer_2minutes(WallClockBudget, nnUNetTrainer):
    minutes = 2


class nnUNetTrainer_8minutes(WallClockBudget, nnUNetTrainer):
    minutes = 8


class nnUNetTrainer_20minutes(WallClockBudget, nnUNetTrainer):
    minutes = 20


class nnUNetTrainer_45minutes(WallClockBudget, nnUNetTrainer):
    minutes = 45
