"""The grid of parallel DICOM slices: order, spacing, origin and direction from their positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

from nnunetv2_sam2_3dmed.errors import UserError

# part of the distance between slices by which a slice may lie off its place
_TOLERANCE = 0.05
# Rounding accounts for at most this part of the distance: if a slice is missing, the others fit equal steps with an
# error of at least a sixth of their (then wider) distance.
_MOST_ROUNDING = 0.15
_SAME_PLACE_MM = 1e-3
_UNLIKE_COSINES = 1e-3  # above which slices are not parallel; scanners write six digits or more


class SlicePlace(NamedTuple):
    """Geometry of one slice.

    Attributes:
        name: of its file, or of the frame in it, for messages.
        position: the centre of the first voxel, (x, y, z) in mm, LPS.
        orientation: (6,), the unit vectors along a row (in which columns are counted) and along a column.
        spacing: between rows and between columns, in mm.
        shape: rows and columns.
        step: distance to the next slice in mm that the header states, for an image of one slice; None if it does not.
    """

    name: str
    position: np.ndarray
    orientation: np.ndarray
    spacing: tuple[float, float]
    shape: tuple[int, int]
    step: float | None


class Grid(NamedTuple):
    """Geometry of a stack of slices.

    Attributes:
        order: indices of the slices from the first to the last along their normal.
        spacing: (z, y, x) in mm.
        origin: the centre of voxel (0, 0, 0), (x, y, z) in mm, LPS.
        direction: (3, 3), the unit vectors of the index axes x, y, z in its columns, LPS.
    """

    order: list[int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: np.ndarray


def grid_of(title: str, slices: Sequence[SlicePlace]) -> Grid:
    """The grid of the slices, given in any order.

    The distance between slices is that of the first and the last one divided by the number of gaps. Rounded positions
    (0.6, 1.2, 1.9 for steps of 0.625 mm) make a grid; a missing slice does not.

    Args:
        title: of the series, for messages.
        slices: at least one.

    Raises:
        UserError: the slices differ in size or spacing, are not parallel, lie at the same place, at unequal distances,
            or are shifted against each other.
    """
    _check_alike(title, slices)
    direction = _direction(title, slices[0])
    normal = direction[:, 2]
    positions = np.array([one.position for one in slices])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    names = [slices[i].name for i in order]
    if len(slices) == 1:
        step = slices[0].step
        if step is None:
            raise UserError(
                f"{title} has one slice, and its header gives neither Spacing Between Slices (0018,0088) nor Slice "
                "Thickness (0018,0050): convert it to NIfTI with the true spacing."
            )
    else:
        step = _step(title, names, positions, normal)
        _check_upright(title, positions, normal, step, slices[0].orientation)
    rows, columns = slices[0].spacing
    x, y, z = (float(value) for value in positions[0])
    return Grid([int(i) for i in order], (step, rows, columns), (x, y, z), direction)


def _check_alike(title: str, slices: Sequence[SlicePlace]) -> None:
    first = slices[0]
    for one in slices[1:]:
        if one.shape != first.shape:
            raise UserError(
                f"{title} has slices of several sizes ({first.name} {first.shape[0]} x {first.shape[1]}, {one.name} "
                f"{one.shape[0]} x {one.shape[1]} voxels): give a series of one."
            )
        if not np.allclose(one.spacing, first.spacing, rtol=1e-3, atol=0):
            raise UserError(
                f"{title} has slices of several pixel spacings ({first.name} {_by(first.spacing)}, {one.name} "
                f"{_by(one.spacing)} mm): give a series of one."
            )
        if np.abs(one.orientation - first.orientation).max() > _UNLIKE_COSINES:
            raise UserError(
                f"{title} has slices of several orientations ({first.name} and {one.name}), such as a localiser has: "
                "give a series of one."
            )


def _direction(title: str, first: SlicePlace) -> np.ndarray:
    """The rotation closest to the rounded direction cosines of the header."""
    along_row, along_column = first.orientation[:3], first.orientation[3:]
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    if max(abs(length - 1) for length in lengths) > 0.02 or abs(along_row @ along_column) > 0.02:
        raise UserError(
            f"{title} has {_by(first.orientation, ' ')} for Image Orientation (Patient) (0020,0037) of {first.name}, "
            "but two perpendicular unit vectors are needed: fetch the series again."
        )
    # the cross product of nearly perpendicular vectors is nearly a unit vector
    columns = np.stack([along_row, along_column, np.cross(along_row, along_column)], axis=1)
    left, _, right = np.linalg.svd(columns)
    return left @ right


def _step(title: str, names: Sequence[str], positions: np.ndarray, normal: np.ndarray) -> float:
    """The distance between slices, in mm; ``positions`` (N, 3) in their order along ``normal``."""
    places = positions @ normal
    gaps = np.diff(places)
    i = int(gaps.argmin())
    if gaps[i] < max(_SAME_PLACE_MM, 0.02 * gaps.max()):
        raise UserError(
            f"{title} has two slices at the same place ({names[i]} and {names[i + 1]}, {places[i]:.2f} mm): it holds "
            "several phases, echoes or time points, separate them first."
        )
    step = float(places[-1] - places[0]) / len(gaps)
    rounding = float(_units(positions) @ np.abs(normal)) / 2
    allowed = max(_TOLERANCE * step, min(1.001 * rounding, _MOST_ROUNDING * step))
    if _farthest_from_equal_steps(places) <= allowed:
        return step
    usual = float(np.median(gaps))
    wide = int(np.abs(gaps - usual).argmax())
    between = (
        f"between {names[wide]} ({places[wide]:.2f} mm) and {names[wide + 1]} ({places[wide + 1]:.2f} mm) lie "
        f"{gaps[wide]:.2f} mm, between the others {usual:.2f} mm"
    )
    if gaps[wide] > 1.5 * usual:
        raise UserError(f"{title} lacks a slice: {between}; fetch the series again.")
    raise UserError(f"{title} has slices at unequal distances: {between}; resample it to equal ones.")


def _farthest_from_equal_steps(places: np.ndarray) -> float:
    """Largest distance of a slice from the equally spaced places for which it is smallest (minimax fit), in mm."""
    count = len(places)
    if count == 2:
        return 0.0
    index, one = np.arange(count), np.ones(count)
    shifted = places - places[0]
    # minimise e with |place - a - b index| <= e
    upper = np.concatenate([np.stack([-one, -index, -one], 1), np.stack([one, index, -one], 1)])
    found = linprog(
        [0, 0, 1], A_ub=upper, b_ub=np.concatenate([-shifted, shifted]), bounds=[(None, None), (None, None), (0, None)]
    )
    return float(found.x[2])


def _units(positions: np.ndarray) -> np.ndarray:
    """The unit (3,) to which x, y and z were rounded: the coarsest of 0.1 to 0.0001 of which all are multiples.

    The number of digits in the file is no guide: rounded positions stored in single precision or with a fixed number of
    decimals have more. Whole millimetres are taken as exact: nobody rounds to them, and a slice that lies a millimetre
    off must be found.
    """
    units = np.full(3, 1e-4)
    for decimals in (3, 2, 1):
        scaled = positions * 10**decimals
        # single precision resolves 1e-4 mm at a metre
        whole = (np.abs(scaled - np.rint(scaled)) <= 10**decimals * 1e-4).all(axis=0)
        units[whole] = 10.0**-decimals
    return units


def _cosine_unit(orientation: np.ndarray) -> float:
    """The unit to which direction cosines were rounded; 0 if they are unit vectors."""
    along_row, along_column = orientation[:3], orientation[3:]
    errors = np.linalg.norm(along_row) - 1, np.linalg.norm(along_column) - 1, along_row @ along_column
    scaled = [(10.0**-decimals, orientation * 10**decimals) for decimals in range(1, 7)]
    unit = next((unit for unit, values in scaled if np.allclose(values, np.rint(values), rtol=0, atol=1e-3)), 1e-6)
    return unit if 100 * max(abs(error) for error in errors) > unit else 0.0


def _check_upright(title: str, positions: np.ndarray, normal: np.ndarray, step: float, orientation: np.ndarray) -> None:
    """Refuse slices that are shifted against each other within their plane."""
    shifts = positions - positions[0]
    along = shifts @ normal
    sideways = float(np.linalg.norm(shifts - np.outer(along, normal), axis=1).max())
    # cosines of few digits tilt the normal, which shifts the last slices of a long series
    rounding = max(float(np.linalg.norm(_units(positions))), _cosine_unit(orientation) * float(along[-1]))
    if sideways > max(_TOLERANCE * max(step, 1.0), min(rounding, 0.3 * step)):
        raise UserError(f"{title} was taken with a tilted gantry: its slices do not make a grid, resample it first.")


def _by(values: Sequence[float] | np.ndarray, between: str = " x ") -> str:
    return between.join(f"{value:g}" for value in values)
