"""Trainers of seconds for the tests of the benchmark (found through ``nnUNet_extTrainer``)."""

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_sam2_3dmed.training.variants import SAM2_3dMedTrainer_noPretrain_tuned


class _Seconds(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 2
        self.num_val_iterations_per_epoch = 1
        self.num_epochs = 4
        self.save_every = 1


class BenchmarkTrainer_nnUNet(_Seconds):
    pass


class BenchmarkTrainer_SAM2(_Seconds, SAM2_3dMedTrainer_noPretrain_tuned):
    """Long enough to be killed after its first epoch also where the one who kills it has to wait for the processor."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 10


class BenchmarkTrainer_fails(_Seconds):
    def initialize(self):
        raise ValueError("this trainer fails on purpose")
