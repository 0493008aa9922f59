"""One epoch of any nnU-Net trainer, for loops that end otherwise than nnU-Net's does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def never() -> bool:
    """Return False: the epoch runs to its end."""
    return False


def run_epoch(
    trainer: nnUNetTrainer, training_is_over: Callable[[], bool] = never, validation_is_over: Callable[[], bool] = never
) -> None:
    """Run an epoch as ``nnUNetTrainer.run_training`` does; adds 1 to ``current_epoch``.

    Args:
        trainer: with its data loaders.
        training_is_over: asked after each training iteration; in a group of processes it must answer alike in all.
        validation_is_over: the same for iterations of the validation.
    """
    trainer.on_epoch_start()

    trainer.on_train_epoch_start()
    batches, most = trainer.dataloader_train, trainer.num_iterations_per_epoch
    trainer.on_train_epoch_end(list(_outputs(trainer.train_step, batches, most, training_is_over)))

    with torch.no_grad():
        trainer.on_validation_epoch_start()
        batches, most = trainer.dataloader_val, trainer.num_val_iterations_per_epoch
        trainer.on_validation_epoch_end(list(_outputs(trainer.validation_step, batches, most, validation_is_over)))

    trainer.on_epoch_end()


def _outputs(
    step: Callable[[dict], dict], batches: Iterator[dict], most: int, is_over: Callable[[], bool]
) -> Iterator[dict]:
    """Yield the outputs of the iterations, of at least one, since nnU-Net logs their mean."""
    for number in count(1):
        yield step(next(batches))
        if number >= most or is_over():
            return
