"""Trainers for benchmarks only: ablations and very short epochs.

Found by nnU-Net when this folder is on ``nnUNet_extTrainer`` beside the package's, which the benchmarks see to.
"""

import os

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_sam2_3dmed.prompt_training.variants import (
    SAM2_PromptTrainer_noPretrain_tuned,
    SAM2_PromptTrainer_noPretrain_tuned_corrected,
)
from nnunetv2_sam2_3dmed.training.ablations import (
    SAM2_3dMedTrainer_noBD,
    SAM2_3dMedTrainer_noSRPP,
    SAM2_FinetuneTrainer,
)
from nnunetv2_sam2_3dmed.training.checked import CheckedTraining
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from nnunetv2_sam2_3dmed.training.variants import SAM2_3dMedTrainer_bidirectional, SAM2_3dMedTrainer_noPretrain_tuned
from nnunetv2_sam2_3dmed.training.whole_files import WholeFilesTrainer

if threads := os.environ.get("OMP_NUM_THREADS"):
    # on a CPU nnU-Net asks for as many as there are cores; those of trainings beside each other wait for each other
    torch.set_num_threads(int(threads))

ABLATIONS = {
    "full": SAM2_3dMedTrainer,
    "noSRPP": SAM2_3dMedTrainer_noSRPP,
    "noBD": SAM2_3dMedTrainer_noBD,
    "noSRPP_noBD": SAM2_FinetuneTrainer,
    "bidirectional": SAM2_3dMedTrainer_bidirectional,
}


class _WithoutBest(nnUNetTrainer):
    """Mixin in front of a trainer: writes no ``checkpoint_best.pth``.

    Nothing reads it. It is written at each new best within the minutes of a training, which costs the larger network
    more of them.
    """

    def save_checkpoint(self, filename: str) -> None:
        if not filename.endswith("checkpoint_best.pth"):
            super().save_checkpoint(filename)


class _Short(_WithoutBest, SAM2_3dMedTrainer_noPretrain_tuned):
    """300 iterations from random weights; as the learning rate is set per epoch, these are short."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch, self.num_epochs = 10, 1, 30
        self.save_every = 10


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


class EverySlicePromptTrainer(SAM2_PromptTrainer_noPretrain_tuned):
    """Stacks of every slice alone, as they were before ``slice_steps``; for ``correction_training.py --trainer``."""

    slice_steps = (1,)


class EverySlicePromptTrainer_corrected(EverySlicePromptTrainer):
    """The same with corrections of propagated slices."""

    mix = SAM2_PromptTrainer_noPretrain_tuned_corrected.mix


class UnfittedPromptTrainer(SAM2_PromptTrainer_noPretrain_tuned):
    """Pretraining of ``transfer.py``: weights that fit SAM 2's own code, and know slices upside down too.

    Attention windows are as SAM 2's checkpoints have them. Trainers with prompts turn slices as viewers show them, all
    others take them as stored; the weights must not depend on it.
    """

    architecture_changes = {"fitted_windows": False}

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
        rotation, dummy, size, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        return rotation, dummy, size, (1, 2)


class PlainNNUNetTrainer(_WithoutBest, CheckedTraining, WholeFilesTrainer, nnUNetTrainer):
    """nnU-Net in ``transfer.py``, with what its trainers have when they are given a number of minutes."""


class PaperRecipeTrainer(_WithoutBest, SAM2_3dMedTrainer):
    """``SAM2_3dMedTrainer`` in ``transfer.py``."""


class RandomWeightsTrainer(_WithoutBest, SAM2_3dMedTrainer_noPretrain_tuned):
    """With attention windows as SAM 2's weights have them."""

    architecture_changes = {"fitted_windows": False}


class GoodWeightsTrainer(RandomWeightsTrainer):
    """The same in all but the weights that it starts from."""

    pretrained = True


class FrozenGoodWeightsTrainer(GoodWeightsTrainer):
    """The same, with the trunk as it was loaded."""

    architecture_changes = {"freeze_trunk": True}
