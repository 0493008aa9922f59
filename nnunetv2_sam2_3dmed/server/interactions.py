"""Prompts as viewers send them, turned into those of a session: on which slice they lie, and where.

Viewers speak of voxels (z, y, x of the array) and of half-open intervals, and draw on the plane that they show: a lasso
is a filled region, a scribble the stroke of a brush. What a user can do with the mouse but is no prompt is a
``PromptError``; a ``UserError`` is the client's mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from skimage.morphology import skeletonize

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volume import by
from nnunetv2_sam2_3dmed.interactive.prompts import SCRIBBLE_POINTS, PromptError

# voxels along an axis whose spacing is this many times that of another are taken for thick slices
THICK = 1.5

Box = tuple[tuple[int, int], ...]  # half-open, an interval per axis


@dataclass(frozen=True)
class Drawing:
    """A region on one slice.

    Attributes:
        axis: of the array, along which the slice lies.
        index: of the slice.
        mask: bool, the slice's two axes in the array's order; not empty.
    """

    axis: int
    index: int
    mask: np.ndarray


@dataclass(frozen=True)
class BoxOnSlice:
    """A box on one slice.

    Attributes:
        axis: of the array, along which the slice lies.
        first: voxel at one end of its diagonal, included.
        last: voxel at the other end, included.
    """

    axis: int
    first: tuple[int, ...]
    last: tuple[int, ...]


def own_axis(shape: Sequence[int], spacing: Sequence[float], learned: int) -> int:
    """Axis along which an image's slices lie, as far as the image itself tells.

    Args:
        shape: of the image.
        spacing: millimetres along its axes.
        learned: the axis of the model's training.

    Returns:
        The axis of length 1 of a single slice; else the one of thick slices; else ``learned``.
    """
    if shape.count(1) == 1:
        return shape.index(1)
    thickest = int(np.argmax(spacing))
    # spacings come with the rounding errors of float32
    return thickest if spacing[thickest] >= THICK * min(spacing) * (1 - 1e-5) else learned


def box_on_slice(box: Sequence[tuple[float, float]], shape: Sequence[int], preferred: int) -> BoxOnSlice:
    """Round a box to voxels, halves to even, place it on its slice, and clip it to the image.

    Args:
        box: half-open, an interval per axis.
        shape: of the image.
        preferred: axis of the slice where the box is one voxel wide along several.

    Raises:
        PromptError: it is empty, wider than a voxel along all axes, or outside the image.
    """
    rounded = [(round(low), round(high)) for low, high in box]
    for axis, (low, high) in enumerate(rounded):
        if high <= low:
            raise PromptError(
                f"the box runs from {low} to {high} along axis {axis}, but the upper end is not included and must be "
                "above the lower one."
            )
    # before clipping, after which a box at the image's border may be as thin as a slice
    flat = [axis for axis, (low, high) in enumerate(rounded) if high - low == 1]
    if not flat:
        sizes = by([high - low for low, high in rounded])
        raise PromptError(
            f"the box has {sizes} voxels, but a box is for one slice: give it the width 1 along one axis."
        )
    clipped = [(max(low, 0), min(high, length)) for (low, high), length in zip(rounded, shape, strict=True)]
    if not all(low < high for low, high in clipped):
        raise PromptError(f"the box lies outside the image of {by(shape)} voxels.")
    axis = preferred if preferred in flat else flat[0]
    return BoxOnSlice(axis, tuple(low for low, _ in clipped), tuple(high - 1 for _, high in clipped))


def points_of_box(box: BoxOnSlice) -> np.ndarray:
    """Points (5, 3) that stand for a box whose inside is not the object: its centre and those of its quarters."""
    first, last = np.array(box.first, dtype=float), np.array(box.last, dtype=float)
    parts = np.full((5, 3), 0.5)
    in_plane = [axis for axis in range(3) if axis != box.axis]
    parts[1:, in_plane] = [(a, b) for a in (0.25, 0.75) for b in (0.25, 0.75)]
    return first + parts * (last - first)


def check_inside(box: Sequence[tuple[int, int]], shape: Sequence[int], drawn: Sequence[int]) -> Box:
    """Check the place of a drawing, which is a part of the image.

    Args:
        box: half-open, an interval per axis.
        shape: of the image.
        drawn: shape of the drawing.

    Raises:
        UserError: the box leaves the image, or has another size than the drawing.
    """
    intervals = tuple((low, high) for low, high in box)
    if not all(0 <= low < high <= length for (low, high), length in zip(intervals, shape, strict=True)):
        raise UserError(
            f"interaction_bbox is {list(map(list, intervals))}, but must lie inside the image of {by(shape)}."
        )
    sizes = tuple(high - low for low, high in intervals)
    if sizes != tuple(drawn):
        raise UserError(f"the drawing has {by(drawn)} voxels, but its interaction_bbox {by(sizes)}.")
    return intervals


def drawing_on_slice(drawn: np.ndarray, box: Box, shape: Sequence[int], preferred: int) -> Drawing:
    """Place a drawing on its slice.

    Args:
        drawn: not zero where something was drawn.
        box: its place in the image.
        shape: of the image.
        preferred: axis of the slice where the drawing is one voxel wide along several.

    Raises:
        PromptError: it is empty, or lies on several slices along every axis.
    """
    ends = extents(drawn)
    if ends is None:
        raise PromptError("the drawing is empty.")
    widths = [high - low for low, high in ends]
    # the part of the image that was sent says more than what was drawn in it
    flat = [axis for axis in range(3) if drawn.shape[axis] == 1] or [axis for axis in range(3) if widths[axis] == 1]
    if not flat:
        raise PromptError(
            f"the drawing covers {by(widths)} voxels, but must lie on one slice: send the drawing of each slice alone."
        )
    axis = preferred if preferred in flat else flat[0]
    mask = np.zeros([length for k, length in enumerate(shape) if k != axis], dtype=bool)
    plane = drawn.take(ends[axis][0], axis=axis)
    first, second = (box[k] for k in range(3) if k != axis)
    mask[slice(*first), slice(*second)] = plane != 0
    return Drawing(axis, box[axis][0] + ends[axis][0], mask)


def points_of_stroke(drawing: Drawing, count: int = SCRIBBLE_POINTS) -> np.ndarray:
    """Points (N, 3) along the middle of a stroke, spread as far from each other as they can be.

    The first is the one nearest to the stroke's centre of mass; each further one is the farthest from all before.

    Args:
        drawing: a stroke, as thick as the brush.
        count: at most.
    """
    middle = np.argwhere(skeletonize(drawing.mask))
    if not len(middle):  # of some small blobs nothing is left
        middle = np.argwhere(drawing.mask)
    centre = np.argwhere(drawing.mask).mean(axis=0)
    chosen = [int(np.argmin(np.linalg.norm(middle - centre, axis=1)))]
    nearest = np.linalg.norm(middle - middle[chosen[0]], axis=1)
    while len(chosen) < min(count, len(middle)):
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(middle - middle[chosen[-1]], axis=1))
    return np.insert(middle[chosen].astype(float), drawing.axis, drawing.index, axis=1)


def check_point(point: Sequence[float], shape: Sequence[int]) -> tuple[int, ...]:
    """Round a point to a voxel, halves to even.

    Raises:
        PromptError: it lies outside the image.
    """
    voxel = tuple(round(value) for value in point)
    if not all(0 <= value < length for value, length in zip(voxel, shape, strict=True)):
        raise PromptError(
            f"the point ({', '.join(f'{value:g}' for value in point)}) lies outside the image of {by(shape)} voxels."
        )
    return voxel


def extents(drawn: np.ndarray) -> Box | None:
    """Smallest box around what is not zero; None if there is nothing."""
    found = []
    for axis in range(drawn.ndim):
        along = np.flatnonzero(drawn.any(axis=tuple(k for k in range(drawn.ndim) if k != axis)))
        if not len(along):
            return None
        found.append((int(along[0]), int(along[-1]) + 1))
    return tuple(found)
