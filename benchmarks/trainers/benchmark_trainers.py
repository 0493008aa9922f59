"""Trainers for benchmarks only: repetitions with a seed, and very short epochs.

Found by nnU-Net when this folder is on ``nnUNet_extTrainer`` beside the package's, which the benchmarks see to.
"""

import random

import numpy as np
import torch

from nnunetv2_sam2_3dmed.prompt_training.variants import SAM2_PromptTrainer_noPretrain_tuned
from nnunetv2_sam2_3dmed.training.ablations import SAM2_3dMedTrainer_noBD, SAM2_3dMedTrainer_noSRPP
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from nnunetv2_sam2_3dmed.training.variants import SAM2_3dMedTrainer_bidirectional, SAM2_3dMedTrainer_noPretrain_tuned

ABLATIONS = {
    "full": SAM2_3dMedTrainer,
    "noSRPP": SAM2_3dMedTrainer_noSRPP,
    "noBD": SAM2_3dMedTrainer_noBD,
    "bidirectional": SAM2_3dMedTrainer_bidirectional,
}
SEEDS = (0, 1, 2)


class _Repetition(SAM2_3dMedTrainer_noPretrain_tuned):
    """A few hundred iterations from random weights; the seed sets the weights, not the order of the samples."""

    seed: int

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch, self.num_epochs = 25, 5, 6
        random.seed(self.seed)
        np.random.seed(self.seed)
        torch.manual_seed(self.seed)


def repetition_name(ablation: str, seed: int) -> str:
    return f"Repetition_{ablation}_seed{seed}"


for _ablation, _trainer in ABLATIONS.items():
    for _seed in SEEDS:
        _bases = (_Repetition,) if _ablation == "full" else (_Repetition, _trainer)
        _name = repetition_name(_ablation, _seed)
        globals()[_name] = type(_name, _bases, {"seed": _seed, "__module__": __name__})


class KilledTrainer(SAM2_3dMedTrainer_noPretrain_tuned):
    """Epochs of two iterations with a checkpoint after each, for ``kill_and_continue.py``."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch, self.num_epochs = 2, 1, 60
        self.save_every = 1


class UnfittedPromptTrainer(SAM2_PromptTrainer_noPretrain_tuned):
    """Attention windows as SAM 2's checkpoints have them, so that the weights fit its own code, for ``transfer.py``."""

    architecture_changes = {"fitted_windows": False}
