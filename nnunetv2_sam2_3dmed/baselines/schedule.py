"""Learning-rate schedule of the transformers."""

from __future__ import annotations

import math

from nnunetv2_sam2_3dmed.training.schedule import CosineSchedule


class WarmupCosineSchedule(CosineSchedule):
    """Linear from zero to the peak over the warm-up, then a cosine back to zero.

    As ``LinearWarmupCosineAnnealingLR`` in the authors' code of UNETR and SwinUNETR.
    """

    def share(self, epoch: float) -> float:
        """Return the learning rate in ``epoch``, which may be a fraction, as a share of its peak."""
        if epoch < self.warmup_epochs:
            return epoch / self.warmup_epochs
        progress = min((epoch - self.warmup_epochs) / (self.num_epochs - self.warmup_epochs), 1.0)
        return (1 + math.cos(math.pi * progress)) / 2
