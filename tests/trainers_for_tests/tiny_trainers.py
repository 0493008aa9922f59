"""Trainers of one iteration an epoch, for end-to-end tests (found through ``nnUNet_extTrainer``)."""

import os

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_sam2_3dmed.prompt_training.finetuning import SAM2_PromptTrainer_finetune
from nnunetv2_sam2_3dmed.training.variants import SAM2_3dMedTrainer_noPretrain_tuned

# nnUNetv2_train has asked for as many threads as there are cores; they spin while another test has a core, and a
# training takes ten times the processor time
torch.set_num_threads(1)


def _perhaps_die(trainer: nnUNetTrainer) -> None:
    if os.environ.get("TINY_TRAINER_DIES_AFTER_EPOCH") == str(trainer.current_epoch):
        os._exit(9)  # no clean-up, as when killed


class _Tiny(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 1
        self.num_val_iterations_per_epoch = 1
        self.num_epochs = 2
        self.save_every = 1

    def on_epoch_end(self):
        super().on_epoch_end()
        _perhaps_die(self)

    def perform_actual_validation(self, save_probabilities=False):
        if "TINY_TRAINER_DIES_BEFORE_VALIDATION" in os.environ:
            os._exit(9)
        super().perform_actual_validation(save_probabilities)


class TinyTrainer_tuned(_Tiny, SAM2_3dMedTrainer_noPretrain_tuned):
    pass


class TinyTrainer_stopsEarly(TinyTrainer_tuned):
    patience = 1
    peak_lr = 0.0  # it cannot get better

    def initialize(self):
        torch.manual_seed(0)  # weights whose first masks meet the ground truth: the wait begins with a Dice above 0
        super().initialize()

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 50


class TinyTrainer_nnUNet(_Tiny):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 1


class TinyTrainer_finetune(SAM2_PromptTrainer_finetune):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 1
        self.num_val_iterations_per_epoch = 1

    def on_epoch_end(self):
        super().on_epoch_end()
        _perhaps_die(self)
