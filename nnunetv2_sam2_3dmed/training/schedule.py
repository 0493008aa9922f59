"""The learning rate over the epochs, and early stopping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch.optim import Optimizer

_KEPT = 0.9  # of the moving average in each epoch, as in nnU-Net's


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
        """Return the learning rate in ``epoch`` as a share of its peak."""
        if epoch < self.warmup_epochs:
            return self.final_share + (1 - self.final_share) * epoch / self.warmup_epochs
        progress = min((epoch - self.warmup_epochs) / (self.num_epochs - self.warmup_epochs), 1.0)
        return self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * progress)) / 2

    def step(self, epoch: float) -> None:
        """Set the learning rates for ``epoch``."""
        share = self.share(epoch)
        for group, peak in zip(self.optimizer.param_groups, self.peaks):
            group["lr"] = peak * share


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when the moving average of the pseudo Dice has had no new best for :attr:`patience` epochs.

    The wait begins with the first structure found: a Dice of zero is a slow start, not convergence. There is no
    state but the logged curve, so that ``--c`` decides as the first run did.

    Attributes:
        patience: in epochs.
    """

    patience: int

    def reason(self, pseudo_dice: Sequence[float]) -> str | None:
        """Return the reason to stop now, in a sentence; None to go on.

        Args:
            pseudo_dice: nnU-Net's ``mean_fg_dice``, one value per finished epoch; epochs in which no class could be
                judged (NaN) leave the average as it was.
        """
        average, best, best_epoch = math.nan, 0.0, len(pseudo_dice) - 1
        for epoch, value in enumerate(pseudo_dice):
            if not math.isnan(value):
                average = value if math.isnan(average) else _KEPT * average + (1 - _KEPT) * value
            if average > best:
                best, best_epoch = average, epoch
        without = len(pseudo_dice) - 1 - best_epoch
        if without < self.patience:
            return None
        return (
            f"stopped early after {len(pseudo_dice)} epochs: the moving average of the pseudo Dice has not risen above "
            f"the {best:.4f} of epoch {best_epoch} for {without} epochs (patience {self.patience})"
        )
