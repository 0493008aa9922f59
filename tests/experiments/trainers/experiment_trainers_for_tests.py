"""Trainers of seconds for the end-to-end test of the experiment (found through ``nnUNet_extTrainer``)."""

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_sam2_3dmed.training.variants import SAM2_3dMedTrainer_noPretrain_tuned

# nnUNetv2_train has asked for as many threads as there are cores; they spin while another test has a core, and a
# training takes ten times the processor time
torch.set_num_threads(1)


class _Seconds(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 2
        self.num_val_iterations_per_epoch = 1
        self.num_epochs = 1
        self.save_every = 1


class ExperimentTrainer_nnUNet(_Seconds):
    pass


class ExperimentTrainer_SAM2(_Seconds, SAM2_3dMedTrainer_noPretrain_tuned):
    pass


class ExperimentTrainer_fails(_Seconds):
    def initialize(self):
        raise ValueError("this trainer fails on purpose")
