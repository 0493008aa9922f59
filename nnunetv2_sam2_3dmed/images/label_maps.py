"""Label maps as programs save them: integers, whole floats, scaled masks; anything else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError

LARGEST_LABEL = 65535
ROUNDING = 1e-3  # of scaled files
FEW_LABELS = 32  # with fewer different values, an array is never taken for an image
CHANGING = 0.5  # share of voxels that differ from the next one along x: less in label maps, more in noisy images
_NAMED = 5


def label_map(array: np.ndarray, file: Path) -> np.ndarray:
    """The labels of a segmentation with values of any type.

    Whole numbers from 0 are labels. An array of 0 and one other positive value is a mask even if that is not whole, as
    in masks that were scaled to 0 and 0.5; its label is 1.

    Args:
        array: (z, y, x), finite values as they were read.
        file: for messages.

    Returns:
        The same shape, uint8 or uint16.

    Raises:
        UserError: it holds probabilities or other values between whole numbers, or is an image.
    """
    values = np.unique(array)
    low, high = float(values[0]), float(values[-1])
    broken = values[np.abs(values - np.rint(values)) > ROUNDING] if array.dtype.kind == "f" else values[:0]
    if low == 0 and len(values) == 2 and len(broken):
        return (array != 0).astype(np.uint8)
    if low < -ROUNDING or (high > 1 and len(values) > FEW_LABELS and _share_changing(array) > CHANGING):
        raise UserError(
            f"{file} looks like an image, not like a segmentation: it has {len(values)} different values from {low:g} "
            f"to {high:g}, but labels are a few whole numbers from 0; give a mask."
        )
    if len(broken):
        some = ", ".join(f"{value:.3g}" for value in broken[:_NAMED])
        more = ", ..." if len(broken) > _NAMED else ""
        kind = "probabilities" if high <= 1 and len(broken) > _NAMED else "values"
        raise UserError(
            f"{file} holds {kind} between whole numbers ({some}{more}), but labels are whole: apply a threshold, or "
            "resample the mask with nearest neighbours."
        )
    if high > LARGEST_LABEL:
        raise UserError(f"{file} has the label {high:.0f}, but labels are at most {LARGEST_LABEL}: renumber them.")
    whole = np.rint(array) if array.dtype.kind == "f" else array
    return whole.astype(np.uint8 if high < 256 else np.uint16)


def _share_changing(array: np.ndarray) -> float:
    """The share of voxels that differ from the next one along x, among those that are not background."""
    first, second = array[..., :-1], array[..., 1:]
    counted = first != array.min()
    return float((first != second)[counted].mean()) if counted.any() else 0.0
