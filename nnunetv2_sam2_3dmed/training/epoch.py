"""One epoch of any nnU-Net trainer, for loops that end otherwise than nnU-Net's does."""

from __future__ import annotations

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def run_epoch(trainer: nnUNetTrainer) -> None:
    """What ``nnUNetTrainer.run_training`` does in each epoch; adds 1 to ``current_epoch``."""
    trainer.on_epoch_start()

    trainer.on_train_epoch_start()
    steps = range(trainer.num_iterations_per_epoch)
    trainer.on_train_epoch_end([trainer.train_step(next(trainer.dataloader_train)) for _ in steps])

    with torch.no_grad():
        trainer.on_validation_epoch_start()
        steps = range(trainer.num_val_iterations_per_epoch)
        trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val)) for _ in steps])

    trainer.on_epoch_end()
