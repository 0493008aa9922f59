"""When to stop a training that no longer gets better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class EarlyStopping:
    """Stops when the moving average of the pseudo Dice has had no new best for :attr:`patience` epochs.

    It has no state: it looks at the logged curve, so that ``--c`` decides as the first run did.

    Attributes:
        patience: in epochs.
    """

    patience: int

    def reason(self, ema_dice: Sequence[float]) -> str | None:
        """Why to stop now, in a sentence; None to go on.

        Args:
            ema_dice: nnU-Net's ``ema_fg_dice``, one value per finished epoch.
        """
        if not ema_dice:
            return None
        # the first of equal values, as nnU-Net keeps its best checkpoint; undefined values are never the best
        defined = [(value, -epoch) for epoch, value in enumerate(ema_dice) if value == value]
        best, best_epoch = max(defined, default=(float("nan"), 0))
        without = len(ema_dice) - 1 + best_epoch
        if without < self.patience:
            return None
        return (
            f"stopped early after {len(ema_dice)} epochs: the moving average of the pseudo Dice has not risen above "
            f"the {best:.4f} of epoch {-best_epoch} for {without} epochs (patience {self.patience})"
        )
