"""Trainers that start from a stated seed, which nnU-Net's own do not have."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as _Trainer
else:
    _Trainer = object


def seed_everything(*entropy: int) -> None:
    """Seed ``random``, numpy's global generator and torch (all devices) from the given numbers, 0 or more."""
    seeds = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(int(seeds[1]))
    torch.manual_seed(int(seeds[2]))


class Seeded(_Trainer):
    """Mixin in front of any nnU-Net trainer: everything drawn in the trainer's process follows :attr:`seed`.

    The initial weights and, on the same machine, other draws of this process such as dropout are repeatable. The
    patches and their augmentation are not: nnU-Net's worker processes seed themselves from the operating system. With
    ``nnUNet_n_proc_DA=0``, which is slow, there are no workers, and the patches follow the seed as well. Computations
    on a GPU differ from run to run in any case, since nnU-Net lets cuDNN choose its algorithms. So repetitions with
    different seeds are independent, but a second run with the same seed does not give the same model.

    A continued training (``--c``) is seeded from the seed and the epoch, so that it does not repeat its first draws; on
    several GPUs, each process from its rank too. The initial weights are those of the first process.
    """

    seed: int

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ):
        self._seed(epoch=0)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.print_to_log_file(f"seed {self.seed}")

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        super().load_checkpoint(filename_or_checkpoint)
        self._seed(self.current_epoch)

    def _seed(self, epoch: int) -> None:
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        seed_everything(self.seed, epoch, rank)
