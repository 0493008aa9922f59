"""Trainers that start from a stated seed, which nnU-Net's own do not have."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as _Trainer
else:
    _Trainer = object


def seed_everything(*entropy: int) -> None:
    """Seeds ``random``, numpy's global generator and torch (all devices) from the given numbers, 0 or more."""
    seeds = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(int(seeds[1]))
    torch.manual_seed(int(seeds[2]))


class Seeded(_Trainer):
    """Mixin in front of any nnU-Net trainer: everything drawn in the trainer's process follows :attr:`seed`.

    Repeatable are the initial weights and, on the same machine, other draws of this process, such as dropout. Not
    repeatable is which patches are drawn and how they are augmented: nnU-Net's worker processes seed themselves from
    the operating system. With ``nnUNet_n_proc_DA=0``, which is slow, there are no workers, and the patches follow the
    seed as well. What is computed on a GPU differs from run to run in any case, since nnU-Net lets cuDNN choose its
    algorithms. So repetitions with different seeds are independent, which is what they are for, but a run with the
    same seed does not give the same model.

    A training that goes on (``--c``) is seeded from the seed and the epoch: it does not repeat its first draws.
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
        seed_everything(self.seed)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.print_to_log_file(f"seed {self.seed}")

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        super().load_checkpoint(filename_or_checkpoint)
        seed_everything(self.seed, self.current_epoch)


def seeded_class(trainer: type, seed: int, module: str) -> type:
    """The subclass ``TRAINER_seedN`` of ``trainer``, as if written in ``module``."""
    return type(f"{trainer.__name__}_seed{seed}", (Seeded, trainer), {"seed": seed, "__module__": module})


def seeded_trainers(module: str, trainers: Mapping[str, tuple[str, int]]) -> Callable[[str], type]:
    """The ``__getattr__`` of a module of seeded trainers in a folder on ``nnUNet_extTrainer``.

    Each is made when nnU-Net asks for it, from the trainer that nnU-Net itself finds by name: its own, ours, or one in
    another folder. So a trainer that cannot be imported is in nobody else's way.

    Args:
        module: the module's name.
        trainers: names, each with the name of its base and its seed.
    """
    made: dict[str, type] = {}

    def find(name: str) -> type:
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

        if name not in trainers:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        if name not in made:  # asked for twice, it is the same class
            base, seed = trainers[name]
            made[name] = seeded_class(recursive_find_trainer_class_by_name(base), seed, module)
        return made[name]

    return find
