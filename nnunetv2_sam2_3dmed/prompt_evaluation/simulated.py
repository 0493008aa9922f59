"""Prompts that a user might have given, made from the truth, on slices (rows, columns) in voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

Box = tuple[float, float, float, float]  # first row, first column, last row, last column


class Click(NamedTuple):
    """A point.

    Attributes:
        row: in voxels.
        column: in voxels.
        label: 1 inside the object, 0 outside.
    """

    row: int
    column: int
    label: int


def middle_slice(mask: np.ndarray) -> int:
    """The middle one of the slices (the first axis) on which a mask (slices, rows, columns) is.

    Raises:
        ValueError: the mask is empty.
    """
    present = np.flatnonzero(mask.any(axis=(1, 2)))
    if not len(present):
        raise ValueError("the mask is empty, so that it has no middle slice.")
    return int(present[len(present) // 2])


def bounding_box(mask: np.ndarray) -> Box:
    """The box around a mask (rows, columns).

    Voxel v lies between v and v + 1 where coordinates are scaled with the slice, as SAM 2's are; so the box ends at
    the last voxel's far edge, or at the last voxel of the slice, which is as far as coordinates go.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("the mask is empty, so that there is no box around it.")
    ends = []
    for axis, length in enumerate(mask.shape):
        occupied = np.flatnonzero(mask.any(axis=1 - axis))
        low, high = int(occupied[0]), min(int(occupied[-1]) + 1, length - 1)
        ends.append((min(low, high - 1), high))  # a box has a width, also around the last voxel of a slice
    (top, bottom), (left, right) = ends
    return float(max(top, 0)), float(max(left, 0)), float(bottom), float(right)


def loose_box(box: Box, shape: tuple[int, int], largest: tuple[float, float], rng: np.random.Generator) -> Box:
    """A box whose four edges lie further out, as those that people draw.

    MedSAM2 perturbs boxes by 0 to 10 pixels and does not say in which direction. Outwards only is our reading: a box
    then never cuts off a part of the object.

    Args:
        box: the tight one.
        shape: rows and columns of the slice, where the box ends.
        largest: how far an edge moves at most, in rows and in columns; each draws its own distance from 0 to that.
        rng: what draws.
    """
    moved = rng.uniform(0, 1, size=4) * np.array([largest[0], largest[1], largest[0], largest[1]])
    top, left, bottom, right = np.array(box) + moved * np.array([-1, -1, 1, 1])
    return max(top, 0.0), max(left, 0.0), min(bottom, shape[0] - 1.0), min(right, shape[1] - 1.0)


def error_click(
    truth: np.ndarray, prediction: np.ndarray | None, rng: np.random.Generator, before: Sequence[Click] = ()
) -> Click | None:
    """A click at the centre of the largest error, as simulated users of interactive segmentation do.

    Errors are the connected parts (4 neighbours) of what is missing and of what is too much. The centre is the voxel
    of the largest part that is furthest from all that is not in it; the edge of the slice counts as outside.

    Args:
        truth: (rows, columns), bool.
        prediction: same shape; None before the first click.
        rng: decides between parts of one size and voxels of one distance.
        before: clicks that did not mend the error. Their voxels count as outside of it: who clicked there in vain
            clicks elsewhere.

    Returns:
        The click; None where there is no error, or all of it was clicked on.
    """
    found = np.zeros_like(truth) if prediction is None else prediction
    if before:
        clicked = np.zeros_like(truth)
        clicked[[click.row for click in before], [click.column for click in before]] = True
        # what was clicked on is right as it is: truth and found agree
        found = np.where(clicked, truth, found)
    parts = []
    for label, errors in ((1, truth & ~found), (0, found & ~truth)):
        numbered, count = ndimage.label(errors)
        sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
        parts += [(int(size), label, numbered == number) for number, size in enumerate(sizes, start=1)]
    if not parts:
        return None
    largest = max(size for size, _, _ in parts)
    candidates = [(label, part) for size, label, part in parts if size == largest]
    label, part = candidates[rng.integers(len(candidates))]
    depth = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    places = np.argwhere(depth == depth.max())
    row, column = places[rng.integers(len(places))]
    return Click(int(row), int(column), label)


def random_click(truth: np.ndarray, prediction: np.ndarray | None, rng: np.random.Generator) -> Click:
    """A click anywhere on an error, as SAM 2 is trained with; inside the object where there is no error.

    Args:
        truth: (rows, columns), bool, not empty.
        prediction: same shape; None before the first click.
        rng: what draws.
    """
    errors = truth if prediction is None else truth ^ prediction
    places = np.argwhere(errors if errors.any() else truth)
    row, column = places[rng.integers(len(places))]
    return Click(int(row), int(column), int(truth[row, column]))
