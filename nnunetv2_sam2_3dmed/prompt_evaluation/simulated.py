"""Prompts made from the ground truth of slices (rows, columns), as a user might give them; in voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

Box = tuple[float, float, float, float]  # first row, first column, last row, last column


class Click(NamedTuple):
    """A point.

    Attributes:
        row: row index.
        column: column index.
        label: 1 inside the object, 0 outside.
    """

    row: int
    column: int
    label: int


def middle_slice(mask: np.ndarray) -> int:
    """Return the index of the middle one of the slices on which a mask (slices, rows, columns) is not empty.

    Raises:
        ValueError: the mask is empty.
    """
    present = np.flatnonzero(mask.any(axis=(1, 2)))
    if not len(present):
        raise ValueError("the mask is empty and has no middle slice.")
    return int(present[len(present) // 2])


def key_slice(mask: np.ndarray, spacing: Sequence[float]) -> int:
    """Return the index of the slice on which a mask has its longest diameter, RECIST's key slice.

    Of several with that diameter, it is the one nearest to the middle slice, and of two as near the first.

    Args:
        mask: (slices, rows, columns), bool.
        spacing: millimetres of a row and of a column.

    Raises:
        ValueError: the mask is empty.
    """
    middle, size = middle_slice(mask), np.asarray(spacing, float)
    present = np.flatnonzero(mask.any(axis=(1, 2)))
    lengths = np.array([np.linalg.norm(np.subtract(*_longest_diameter(mask[index], size))) for index in present])
    longest = present[np.isclose(lengths, lengths.max(), rtol=1e-9)]  # the same shape elsewhere differs by rounding
    return int(longest[np.abs(longest - middle).argmin()])


def extent_of(mask: np.ndarray) -> tuple[int, int]:
    """Return the first and the last slice on which a mask (slices, rows, columns) is not empty.

    Raises:
        ValueError: the mask is empty.
    """
    present = np.flatnonzero(mask.any(axis=(1, 2)))
    if not len(present):
        raise ValueError("the mask is empty and has no slices.")
    return int(present[0]), int(present[-1])


def bounding_box(mask: np.ndarray) -> Box:
    """Return the box around a mask (rows, columns).

    Where coordinates are scaled with the slice, as SAM 2's are, voxel v lies between v and v + 1. The box ends at the
    far edge of the last voxel, or at the last voxel of the slice, the largest coordinate there is.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("the mask is empty and has no box around it.")
    ends = []
    for axis, length in enumerate(mask.shape):
        occupied = np.flatnonzero(mask.any(axis=1 - axis))
        low, high = int(occupied[0]), min(int(occupied[-1]) + 1, length - 1)
        ends.append((min(low, high - 1), high))  # a box has a width, also around the last voxel of a slice
    (top, bottom), (left, right) = ends
    return float(max(top, 0)), float(max(left, 0)), float(bottom), float(right)


def diameters(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return the RECIST measurement of a mask (rows, columns): its longest diameter and the longest one across it.

    Lengths are in millimetres. As in :func:`bounding_box`, voxel v lies between v and v + 1, and nothing lies behind
    the last voxel of the slice. The diameter across is where the mask is widest, measured in steps of a voxel along the
    longest one.

    Args:
        mask: bool; all of it is measured as one lesion.
        spacing: millimetres of a row and of a column.

    Returns:
        End points (4, 2), rows and columns in voxels: those of the longest diameter, then of the perpendicular one.

    Raises:
        ValueError: the mask is empty.
    """
    voxels = np.argwhere(mask)
    if not len(voxels):
        raise ValueError("the mask is empty and has no diameter.")
    size = np.asarray(spacing, float)
    start, end = _longest_diameter(mask, size)
    along = (end - start) / np.linalg.norm(end - start)
    across = along[::-1] * (-1, 1)
    centres = (voxels + 0.5) * size - start
    far, side, half = centres @ along, centres @ across, np.abs(across * size).sum() / 2
    steps = np.floor(far / size.min()).astype(int)
    rows = [side[steps == step] for step in np.unique(steps)]
    widest = int(np.argmax([np.ptp(row) for row in rows]))
    middle = far[steps == np.unique(steps)[widest]].mean()
    low, high = rows[widest].min() - half, rows[widest].max() + half
    ends = np.array([start, end, *(start + middle * along + place * across for place in (low, high))]) / size
    return np.clip(ends, 0, np.array(mask.shape) - 1)


def _longest_diameter(mask: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return both ends (2, 2) in mm of the longest diameter of a mask (rows, columns) that is not empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    # the corners of a row's other voxels lie between these
    edges = np.concatenate([np.stack([rows + step, place], axis=1) for step in (0, 1) for place in (first, last)])
    corners = np.unique(edges, axis=0) * size
    outer = corners[ConvexHull(corners).vertices]
    apart = np.linalg.norm(outer[:, None] - outer[None], axis=2)
    return outer[list(np.unravel_index(apart.argmax(), apart.shape))]


def loose_box(box: Box, shape: tuple[int, int], largest: tuple[float, float], rng: np.random.Generator) -> Box:
    """Return a box with its four edges moved either way, as annotators draw them.

    MedSAM2 perturbs boxes by 0 to 10 pixels and does not state the direction; SAM 2's ``sample_box_points`` moves edges
    either way, by up to a tenth of the box. The limit inwards is ours: an edge crosses a quarter of the box at most, so
    that small objects keep half of theirs.

    Args:
        box: the tight box.
        shape: rows and columns of the slice, to which the box is clipped.
        largest: largest shift in rows and in columns; each edge draws its own, and its direction.
        rng: random generator.
    """
    top, left, bottom, right = box
    outwards = np.array([*largest, *largest])
    inwards = np.minimum(outwards, np.array([bottom - top, right - left] * 2) / 4)
    moved = rng.uniform(-1, 1, size=4)
    moved = moved * np.where(moved > 0, outwards, inwards) * np.array([-1, -1, 1, 1])
    top, left, bottom, right = np.array(box) + moved
    return max(top, 0.0), max(left, 0.0), min(bottom, shape[0] - 1.0), min(right, shape[1] - 1.0)


def error_click(
    gt: np.ndarray, prediction: np.ndarray | None, rng: np.random.Generator, before: Sequence[Click] = ()
) -> Click | None:
    """Return a click at the centre of the largest error, as in simulations of interactive segmentation.

    Errors are the connected components (4 neighbours) of false negatives and of false positives. The centre is the
    voxel of the largest component with the largest distance to its outside; the edge of the slice counts as outside.

    Args:
        gt: ground truth (rows, columns), bool.
        prediction: same shape; None before the first click.
        rng: breaks ties between components of one size and voxels of one distance.
        before: earlier clicks. Their voxels count as outside of the error, so that a click without effect is not
            repeated.

    Returns:
        The click; None if there is no error, or all of it was clicked on.
    """
    found = np.zeros_like(gt) if prediction is None else prediction
    if before:
        clicked = np.zeros_like(gt)
        clicked[[click.row for click in before], [click.column for click in before]] = True
        found = np.where(clicked, gt, found)  # no error there
    parts = []
    for label, errors in ((1, gt & ~found), (0, found & ~gt)):
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


def random_click(gt: np.ndarray, prediction: np.ndarray | None, rng: np.random.Generator) -> Click:
    """Return a click anywhere on an error, as in SAM 2's training; inside the object if there is no error.

    Args:
        gt: ground truth (rows, columns), bool, not empty.
        prediction: same shape; None before the first click.
        rng: random generator.
    """
    errors = gt if prediction is None else gt ^ prediction
    places = np.argwhere(errors if errors.any() else gt)
    row, column = places[rng.integers(len(places))]
    return Click(int(row), int(column), int(gt[row, column]))
