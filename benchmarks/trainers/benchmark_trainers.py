"""Trainers for benchmarks only: ablations and very short epochs.

Found by nnU-Net when this folder is on ``nnUNet_extTrainer`` beside the package's, which the benchmarks see to.
"""

import torch

from nnunetv2_sam2_3dmed.prompt_training.variants import SAM2_PromptTrainer_noPretrain_tuned
from nnunetv2_sam2_3dmed.training.ablations import (
    SAM2_3dMedTrainer_noBD,
    SAM2_3dMedTrainer_noSRPP,
    SAM2_FinetuneTrainer,
)
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from nnunetv2_sam2_3dmed.training.variants import SAM2_3dMedTrainer_bidirectional, SAM2_3dMedTrainer_noPretrain_tuned

ABLATIONS = {
    "full": SAM2_3dMedTrainer,
    "noSRPP": SAM2_3dMedTrainer_noSRPP,
    "noBD": SAM2_3dMedTrainer_noBD,
    "noSRPP_noBD": SAM2_FinetuneTrainer,
    "bidirectional": SAM2_3dMedTrainer_bidirectional,
}


class _Short(SAM2_3dMedTrainer_noPretrain_tuned):
    """300 iterations from random weights."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch, self.num_epochs = 50, 3, 6


def ablation_name(ablation: str) -> str:
    return f"Ablation_{ablation}"


for _ablation, _trainer in ABLATIONS.items():
    _bases = (_Short,) if _ablation == "full" else (_Short, _trainer)
    globals()[ablation_name(_ablation)] = type(ablation_name(_ablation), _bases, {"__module__": __name__})


class KilledTrainer(SAM2_3dMedTrainer_noPretrain_tuned):
    """Epochs of two iterations with a checkpoint after each, for ``kill_and_continue.py``."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch, self.num_epochs = 2, 1, 60
        self.save_every = 1


class UnfittedPromptTrainer(SAM2_PromptTrainer_noPretrain_tuned):
    """Attention windows as SAM 2's checkpoints have them, so that the weights fit its own code, for ``transfer.py``."""

    architecture_changes = {"fitted_windows": False}
