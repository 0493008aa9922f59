"""Dice, IoU, HD95 and NSD of one predicted mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from surface_distance import (
    compute_robust_hausdorff,
    compute_surface_dice_at_tolerance,
    compute_surface_distances,
)

EMPTY_MASK_POLICY = (
    "Both masks empty: Dice = IoU = NSD = 1 and HD95 = 0. "
    "Exactly one mask empty: Dice = IoU = NSD = 0, HD95 is missing (null in JSON, empty in CSV) and "
    "left out of its mean, and the case is counted as a failure."
)


@dataclass(frozen=True)
class MaskMetrics:
    """The scores of one predicted mask against the true one.

    Attributes:
        dice: Dice coefficient, 0 to 1.
        iou: intersection over union, 0 to 1.
        nsd: normalized surface Dice at the tolerance, 0 to 1.
        hd95_mm: 95th percentile of the surface distances in mm, the larger of the two directions; NaN if
            exactly one of the masks is empty.
    """

    dice: float
    iou: float
    nsd: float
    hd95_mm: float

    @property
    def failed(self) -> bool:
        """Whether exactly one of the masks is empty, so that there is no distance between them."""
        return math.isnan(self.hd95_mm)


def compute_metrics(
    truth: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float
) -> MaskMetrics:
    """Scores a predicted mask; see :data:`EMPTY_MASK_POLICY` for empty ones.

    NSD and HD95 weight every surface element by its area (Nikolov et al. 2018, library ``surface-distance``).

    Args:
        truth: the true mask, boolean, of shape (D, H, W) or (H, W).
        prediction: the predicted mask, boolean, of the same shape.
        spacing_mm: voxel spacing in mm along each axis of the arrays, in their order.
        tolerance_mm: surface elements at most this far from the other surface count as overlapping for NSD.
    """
    n_truth, n_prediction = int(truth.sum()), int(prediction.sum())
    if n_truth == 0 and n_prediction == 0:
        return MaskMetrics(dice=1.0, iou=1.0, nsd=1.0, hd95_mm=0.0)
    if n_truth == 0 or n_prediction == 0:
        # surface-distance 0.1 uses np.Inf here, which numpy 2 no longer has
        return MaskMetrics(dice=0.0, iou=0.0, nsd=0.0, hd95_mm=math.nan)
    overlap = int((truth & prediction).sum())
    distances = compute_surface_distances(truth, prediction, spacing_mm)
    return MaskMetrics(
        dice=2 * overlap / (n_truth + n_prediction),
        iou=overlap / (n_truth + n_prediction - overlap),
        nsd=float(compute_surface_dice_at_tolerance(distances, tolerance_mm)),
        hd95_mm=float(compute_robust_hausdorff(distances, 95)),
    )


def average(metrics: Sequence[MaskMetrics]) -> MaskMetrics:
    """The mean of each score, over the classes of one case; HD95 is missing if any of them lacks it."""
    return MaskMetrics(
        dice=float(np.mean([m.dice for m in metrics])),
        iou=float(np.mean([m.iou for m in metrics])),
        nsd=float(np.mean([m.nsd for m in metrics])),
        hd95_mm=float(np.mean([m.hd95_mm for m in metrics])),
    )
