"""Prompts of an object on a slice (points, boxes, masks, scribbles), and their checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from reprlib import repr as shortened

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError

POSITIVE, NEGATIVE = 1, 0
# SAM 2's numbers for the corners of a box; SAM 2 takes these as two more points
BOX_CORNERS = (2, 3)
SCRIBBLE_POINTS = 8  # as many as SAM 2 is trained with at most on a slice: a first one and 7 corrections


class PromptError(UserError, ValueError):
    """A prompt or a call that cannot be served; the session is unchanged."""


@dataclass(frozen=True)
class SlicePrompt:
    """All prompts of one object on one slice, in rows and columns of the slice's view.

    Attributes:
        points: (N, 2), row and column.
        labels: (N,), 1 inside the object, 0 outside.
        box: first row, first column, last row, last column; or None.
        mask: (rows, columns), bool; or None. It excludes points and boxes.
    """

    points: np.ndarray
    labels: np.ndarray
    box: tuple[float, float, float, float] | None = None
    mask: np.ndarray | None = None

    @classmethod
    def empty(cls) -> SlicePrompt:
        return cls(np.zeros((0, 2)), np.zeros(0, dtype=np.int64))

    def with_points(self, points: np.ndarray, labels: np.ndarray) -> SlicePrompt:
        """Return the prompt with more points; they replace a mask.

        Args:
            points: (N, 2), row and column.
            labels: (N,), 1 inside the object, 0 outside.
        """
        all_points = np.concatenate([self.points, points])
        return replace(self, points=all_points, labels=np.concatenate([self.labels, labels]), mask=None)

    def with_box(self, box: tuple[float, float, float, float]) -> SlicePrompt:
        """Return the prompt with this box instead of any other; it replaces a mask."""
        return replace(self, box=box, mask=None)

    def for_sam2(self) -> tuple[np.ndarray, np.ndarray]:
        """Return points (P, 2) as x, y and their labels (P,), with the corners of a box first as SAM 2 has them."""
        points, labels = self.points, self.labels
        if self.box is not None:
            corners = np.array(self.box, dtype=float).reshape(2, 2)
            points, labels = np.concatenate([corners, points]), np.concatenate([BOX_CORNERS, labels])
        return points[:, ::-1], labels


def check_points(points: Sequence, shape: Sequence[int], axis: int, what: str = "point") -> tuple[np.ndarray, int]:
    """Return voxel coordinates (N, 3), z, y, x, and the index of the slice along ``axis`` on which all of them lie.

    Raises:
        PromptError: they have another form, lie outside the image, or on several slices.
    """
    try:
        array = np.asarray(points, dtype=float)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.ndim == 1 and array.size == 3:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 3 or not len(array):
        raise PromptError(f"a {what} needs three voxel coordinates in the order z, y, x, but got {shortened(points)}.")
    last = np.array(shape) - 1
    outside = ~((array >= -0.5) & (array <= last + 0.5)).all(axis=1)  # also where it is NaN
    if outside.any():
        first = ", ".join(f"{value:g}" for value in array[outside][0])
        raise PromptError(
            f"the {what} ({first}) lies outside the image, whose voxels run from (0, 0, 0) to "
            f"({', '.join(str(value) for value in last)}) in the order z, y, x."
        )
    array = np.clip(array, 0, last)
    slices = np.unique(np.floor(array[:, axis] + 0.5).astype(int))
    if len(slices) > 1:
        raise PromptError(
            f"one prompt is for one slice, but these {what}s lie on slices {', '.join(map(str, slices))} along axis "
            f"{axis}: add them one slice at a time."
        )
    return array, int(slices[0])


def check_box(rows_columns: np.ndarray, voxels: np.ndarray) -> tuple[float, float, float, float]:
    """Return a box as its first row, first column, last row and last column.

    Args:
        rows_columns: (2, 2), opposite corners.
        voxels: (2, 3), these corners as they were given.

    Raises:
        PromptError: the box is empty.
    """
    low, high = rows_columns.min(axis=0), rows_columns.max(axis=0)
    if not (high > low).all():
        first, last = (", ".join(f"{value:g}" for value in voxel) for voxel in voxels)
        raise PromptError(
            f"the box from ({first}) to ({last}) is empty: its corners must differ along both axes of the slice."
        )
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def check_labels(labels: Sequence[int] | int, count: int) -> np.ndarray:
    """Return labels (N,), 1 for inside and 0 for outside.

    Raises:
        PromptError: there are other values, or not one for each point.
    """
    array = np.asarray(labels)
    if array.ndim == 0:
        array = np.full(count, array)
    if array.shape != (count,):
        raise PromptError(f"there are {count} points but {array.size} labels: give one label per point.")
    if not np.isin(array, (POSITIVE, NEGATIVE)).all():
        raise PromptError(
            f"labels are {shortened(array.tolist())}, but each must be 1 (inside the object) or 0 (outside)."
        )
    return array.astype(np.int64)


def check_axis(axis: int) -> int:
    """Return the axis.

    Raises:
        PromptError: it is not 0, 1 or 2.
    """
    if axis not in (0, 1, 2):
        raise PromptError(f"axis is {shortened(axis)}, but must be 0, 1 or 2 (z, y or x of the array).")
    return int(axis)


def check_slice(index: float, shape: Sequence[int], axis: int) -> int:
    """Return the index of a slice.

    Raises:
        PromptError: there is no such slice.
    """
    if index != int(index) or not 0 <= index < shape[axis]:
        raise PromptError(f"slice {index} along axis {axis} does not exist: there are 0 to {shape[axis] - 1}.")
    return int(index)


def check_object(object_id: int) -> int:
    """Return the number of an object.

    Raises:
        PromptError: it is not a whole number from 1 to 65535, which label images can hold.
    """
    if isinstance(object_id, bool) or object_id != int(object_id) or not 1 <= object_id <= 65535:
        raise PromptError(f"the object is {object_id!r}, but must be a number from 1 to 65535.")
    return int(object_id)


def check_volume(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a copy of an object's mask of the whole volume as bool.

    Raises:
        PromptError: it has another shape than the image, holds other values than 0 and 1, or is empty.
    """
    array = np.asarray(mask)
    if array.shape != shape:
        raise PromptError(
            f"the mask is {' x '.join(map(str, array.shape))}, but the image is {' x '.join(map(str, shape))}."
        )
    inside = _inside(array)
    if not inside.any():
        raise PromptError("the mask is empty: give one with voxels of the object.")
    return inside


def check_mask(mask: np.ndarray, shape: tuple[int, ...], index: int, axis: int) -> np.ndarray:
    """Return the mask of a slice as bool.

    Raises:
        PromptError: it has another shape than the slice, or holds other values than 0 and 1.
    """
    array = np.asarray(mask)
    expected = tuple(length for k, length in enumerate(shape) if k != axis)
    if array.shape != expected:
        raise PromptError(
            f"the mask is {' x '.join(map(str, array.shape))}, but slice {index} along axis {axis} is "
            f"{' x '.join(map(str, expected))}."
        )
    return _inside(array)


def _inside(array: np.ndarray) -> np.ndarray:
    """Return a mask as a bool copy.

    Raises:
        PromptError: it holds other values than 0 and 1.
    """
    if array.dtype != bool and not ((array == 0) | (array == 1)).all():
        raise PromptError("the mask holds other values than 0 and 1: give one object at a time, such as labels == 3.")
    return array.astype(bool)


def along_path(path: np.ndarray, count: int = SCRIBBLE_POINTS) -> np.ndarray:
    """Return up to ``count`` points at equal distances along a scribble, its ends left out.

    Args:
        path: (N, D), the scribble as a line through N points.
        count: at most; fewer where the line is shorter than that many voxels.

    Returns:
        (M, D).
    """
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    length = float(steps.sum())
    wanted = int(np.clip(np.floor(length), 1, count))
    travelled = np.concatenate([[0.0], np.cumsum(steps)])
    places = (np.arange(wanted) + 0.5) * length / wanted
    return np.stack([np.interp(places, travelled, path[:, k]) for k in range(path.shape[1])], axis=1)
