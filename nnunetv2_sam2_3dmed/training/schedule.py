"""The learning rate over the epochs."""

from __future__ import annotations

import math

from torch.optim import Optimizer


class CosineSchedule:
    """Cosine from each group's learning rate to one tenth of it, after an optional linear warm-up.

    ``step`` takes the epoch, as nnU-Net calls it; fractions of an epoch are fine.

    Args:
        optimizer: its groups' present learning rates are the highest ones.
        num_epochs: where the cosine ends.
        warmup_epochs: over how many of them the learning rate rises linearly, from one tenth.
    """

    final_share = 0.1

    def __init__(self, optimizer: Optimizer, num_epochs: int, warmup_epochs: float = 0.0):
        self.optimizer = optimizer
        self.num_epochs = num_epochs
        self.warmup_epochs = warmup_epochs
        self.peaks = [group["lr"] for group in optimizer.param_groups]

    def share(self, epoch: float) -> float:
        """The learning rate in ``epoch`` as a share of its peak."""
        if epoch < self.warmup_epochs:
            return self.final_share + (1 - self.final_share) * epoch / self.warmup_epochs
        progress = min((epoch - self.warmup_epochs) / (self.num_epochs - self.warmup_epochs), 1.0)
        return self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * progress)) / 2

    def step(self, epoch: float) -> None:
        """Sets the learning rates for ``epoch``."""
        share = self.share(epoch)
        for group, peak in zip(self.optimizer.param_groups, self.peaks):
            group["lr"] = peak * share
