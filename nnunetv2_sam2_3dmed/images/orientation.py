"""Orientation of slices: the same way up for the network and for the eye, however the image is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

LEFT, POSTERIOR, SUPERIOR = range(3)  # the axes of the patient, as ITK and DICOM count them
AXES_OF_PATIENT = ("left-right", "anterior-posterior", "inferior-superior")  # in words

# Normal of the slices -> what rows and columns run along, and whether rows run against it: views as radiologists
# know them, with anterior or superior at the top.
_PLANES = {
    SUPERIOR: ((POSTERIOR, False), (LEFT, False)),
    POSTERIOR: ((SUPERIOR, True), (LEFT, False)),
    LEFT: ((SUPERIOR, True), (POSTERIOR, False)),
}


class View(NamedTuple):
    """Orientation of a volume as slices x rows x columns, by permuting and flipping axes: no voxel is interpolated.

    Attributes:
        order: axes of the array that become slices, rows and columns.
        flips: True for each of these three that runs against the array's own direction.
    """

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Return the shape in the view of an array of ``shape``."""
        slices, rows, columns = (int(shape[axis]) for axis in self.order)
        return slices, rows, columns

    def of(self, array: np.ndarray) -> np.ndarray:
        """Return ``array`` (z, y, x) as slices x rows x columns; shares its memory."""
        return np.flip(array.transpose(self.order), tuple(k for k, flip in enumerate(self.flips) if flip))

    def back(self, seen: np.ndarray) -> np.ndarray:
        """Invert :meth:`of`."""
        return np.flip(seen, tuple(k for k, flip in enumerate(self.flips) if flip)).transpose(np.argsort(self.order))

    def points(self, points: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Convert voxel coordinates (N, 3) of an array (z, y, x) of ``shape`` to slice, row, column."""
        seen = np.asarray(points, dtype=float)[:, self.order]
        last = np.array(self.shape(shape)) - 1.0
        return np.where(self.flips, last - seen, seen)

    def points_back(self, seen: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Invert :meth:`points`."""
        last = np.array(self.shape(shape)) - 1.0
        turned = np.where(self.flips, last - seen, np.asarray(seen, dtype=float))
        return turned[:, np.argsort(self.order)]

    def slice_index(self, index: int, shape: Sequence[int]) -> int:
        """Turn an index of the array's slices into the index in the view, or the other way round."""
        return shape[self.order[0]] - 1 - index if self.flips[0] else index

    def plane(self, plane: np.ndarray) -> np.ndarray:
        """Convert a slice of the array, its two other axes in the array's order, to rows x columns."""
        swapped = plane if self.order[1] < self.order[2] else plane.T
        return np.flip(swapped, tuple(k for k in (0, 1) if self.flips[k + 1]))

    def plane_back(self, seen: np.ndarray) -> np.ndarray:
        """Invert :meth:`plane`."""
        turned = np.flip(seen, tuple(k for k in (0, 1) if self.flips[k + 1]))
        return turned if self.order[1] < self.order[2] else turned.T


def patient_axes(direction: np.ndarray) -> tuple[tuple[int, bool], ...]:
    """Return for each axis of an array (z, y, x) the nearest axis of the patient, and True if it runs against that.

    Each gets its own, so that all three together are nearest: which axis of the array is which does not depend on the
    order in which they are stored.

    Args:
        direction: (3, 3), the unit vectors of the index axes x, y, z in its columns, in LPS.
    """
    columns = np.asarray(direction, dtype=float)[:, ::-1]  # z, y, x
    patient, array = linear_sum_assignment(np.abs(columns), maximize=True)
    nearest = dict(zip(array.tolist(), patient.tolist(), strict=True))
    return tuple((nearest[axis], bool(columns[nearest[axis], axis] < 0)) for axis in range(3))


def normal_along(direction: np.ndarray, axis: int) -> int:
    """Return the axis of the patient (:data:`LEFT`, :data:`POSTERIOR`, :data:`SUPERIOR`) nearest to an array's axis.

    Args:
        direction: as for :func:`patient_axes`.
        axis: of the array (z, y, x).
    """
    return patient_axes(direction)[axis][0]


def axis_along(direction: np.ndarray, normal: int) -> int:
    """Invert :func:`normal_along`: return the axis of the array nearest to an axis of the patient."""
    return [patient for patient, _ in patient_axes(direction)].index(normal)


def view_along(direction: np.ndarray, axis: int) -> View:
    """Return the view whose slices are those along ``axis`` of an array (z, y, x).

    Args:
        direction: as for :func:`patient_axes`. Oblique axes count as the axis of the patient that they are closest to.
        axis: 0, 1 or 2.
    """
    nearest = patient_axes(direction)
    patient = [of_patient for of_patient, _ in nearest]
    against = [runs_against for _, runs_against in nearest]
    normal = patient[axis]
    wanted = ((normal, False), *_PLANES[normal])
    order = [patient.index(target) for target, _ in wanted]
    flips = [against[own] != turned for own, (_, turned) in zip(order, wanted)]
    return View((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))
