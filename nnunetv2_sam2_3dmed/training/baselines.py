"""nnU-Net's own trainer under a time budget, for comparisons."""

from __future__ import annotations

from nnunetv2_sam2_3dmed.training.budget import WallClockBudget
from nnunetv2_sam2_3dmed.training.checked import CheckedTraining
from nnunetv2_sam2_3dmed.training.whole_files import WholeFilesTrainer


class nnUNetTrainer_2minutes(WallClockBudget, CheckedTraining, WholeFilesTrainer):
    minutes = 2


class nnUNetTrainer_8minutes(WallClockBudget, CheckedTraining, WholeFilesTrainer):
    minutes = 8


class nnUNetTrainer_20minutes(WallClockBudget, CheckedTraining, WholeFilesTrainer):
    minutes = 20


class nnUNetTrainer_45minutes(WallClockBudget, CheckedTraining, WholeFilesTrainer):
    minutes = 45
