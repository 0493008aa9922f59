"""When to stop a training that no longer gets better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_KEPT = 0.9  # of the moving average in each epoch, as in nnU-Net's


@dataclass(frozen=True)
class EarlyStopping:
    """Stops when the moving average of the pseudo Dice has had no new best for :attr:`patience` epochs.

    The wait begins with the first structure found: a Dice of zero is a slow start, not convergence. There is no
    state but the logged curve, so that ``--c`` decides as the first run did.

    Attributes:
        patience: in epochs.
    """

    patience: int

    def reason(self, pseudo_dice: Sequence[float]) -> str | None:
        """Why to stop now, in a sentence; None to go on.

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
