"""Comparison of masks."""

from __future__ import annotations

import numpy as np


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Dice coefficient of two masks; 1 if both are empty.

    Args:
        first: bool, any shape.
        second: bool, same shape.
    """
    total = int(first.sum()) + int(second.sum())
    return 1.0 if not total else 2 * int((first & second).sum()) / total
