"""Waiting for torch.compile before the clock starts."""

from __future__ import annotations

from copy import deepcopy

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def compile_now(trainer: nnUNetTrainer) -> None:
    """Makes torch.compile do its work, with a step of training and one of validation that change nothing.

    Weights, the optimizer's and the scaler's state, and torch's random numbers are what they were before. Two batches
    are taken from the loaders.
    """
    scaler = trainer.grad_scaler
    weights = {name: value.detach().cpu().clone() for name, value in trainer.network.state_dict().items()}
    optimizer, scaling = deepcopy(trainer.optimizer.state_dict()), None if scaler is None else scaler.state_dict()
    devices = [trainer.device] if trainer.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        trainer.network.train()
        trainer.train_step(next(trainer.dataloader_train))
        trainer.network.eval()
        with torch.no_grad():
            trainer.validation_step(next(trainer.dataloader_val))
    trainer.network.load_state_dict(weights)
    trainer.optimizer.load_state_dict(optimizer)
    trainer.optimizer.zero_grad(set_to_none=True)
    if scaler is not None and scaling is not None:
        scaler.load_state_dict(scaling)
