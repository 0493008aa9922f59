"""Disagreement of a model with itself about an object: between two prompts, and between two directions.

Of each patient's eight MRI scans, MedSAM2's authors first revised the one whose masks from two kinds of boxes differed
most: "hard cases have larger disagreements between the two segmentation masks" (MedSAM2, Methods). One kind was a box
on every slice, the other a 3D box, used on the median slice and propagated. Where a user prompts every slice of an
object, :func:`between_slices` compares just these; otherwise the second prompt is derived from the first mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nnunetv2_sam2_3dmed.images.masks import dice
from nnunetv2_sam2_3dmed.interactive import InteractiveSession, PromptError
from nnunetv2_sam2_3dmed.interactive.extents import Extent
from nnunetv2_sam2_3dmed.interactive.results import PromptedSlice
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import bounding_box, error_click

NOTHING_IN_COMMON = 1.0
FEWEST_SLICES = 3  # with fewer there is next to nothing to propagate


@dataclass(frozen=True)
class SegmentedObject:
    """Mask of a propagated object, and the slice of its prompt.

    Attributes:
        object_id: object in the session.
        axis: axis along which the slices lie.
        index: slice with the prompt; of several, the one on which the object is largest.
        boxed: the prompt on that slice is a box.
        mask: (z, y, x), bool.
        extent: first and last slice that the object can have; None for any.
        prompted: all slices with prompts, in ascending order.
        box: first row, first column, last row and last column, as displayed, around the boxes of all these slices; None
            if one of them has another prompt.
    """

    object_id: int
    axis: int
    index: int
    boxed: bool
    mask: np.ndarray
    extent: Extent | None = None
    prompted: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None

    @property
    def on_every_slice(self) -> bool:
        """The user has prompted all slices of the object: three or more, without a gap, to the ends that are named."""
        if len(self.prompted) < FEWEST_SLICES:
            return False
        ends = self.prompted[0], self.prompted[-1]
        return ends[1] - ends[0] + 1 == len(self.prompted) and self.extent in (None, ends)

    @property
    def slices(self) -> np.ndarray:
        """View of the mask with the slice axis first."""
        return np.moveaxis(self.mask, self.axis, 0)


def segmented_objects(
    session: InteractiveSession, extents: Mapping[int, Extent] | None = None
) -> list[SegmentedObject]:
    """Return the objects of a session after their propagation.

    Args:
        session: session with image, prompts and masks.
        extents: first and last slice of the objects that have them.
    """
    found = []
    for object_id in session.object_ids:
        mask = session.mask(object_id)
        prompted = [p for p in session.prompts if p.object_id == object_id]
        areas = [int(np.take(mask, p.index, p.axis).sum()) for p in prompted]
        home = prompted[int(np.argmax(areas))]
        boxed = home.prompt.box is not None and home.prompt.mask is None
        indices = tuple(sorted(p.index for p in prompted)) if len({p.axis for p in prompted}) == 1 else ()
        extent = (extents or {}).get(object_id)
        found.append(SegmentedObject(object_id, home.axis, home.index, boxed, mask, extent, indices, _around(prompted)))
    return found


def _around(prompted: Sequence[PromptedSlice]) -> tuple[float, float, float, float] | None:
    """Return the box around the boxes of all slices, None if one has no box or points too."""
    boxes = [p.prompt.box for p in prompted if p.prompt.box is not None and not len(p.prompt.points)]
    if len(boxes) < len(prompted):
        return None
    (top, left), (bottom, right) = np.min(boxes, axis=0)[:2].tolist(), np.max(boxes, axis=0)[2:].tolist()
    return top, left, bottom, right


def between_slices(session: InteractiveSession, segmented: SegmentedObject) -> float:
    """1 - Dice of the mask of an object that was prompted on every slice, and of one propagated from the median slice.

    As in MedSAM2's annotation of liver MRI (Methods): the box around all boxes of the slices is the 3D box; it is the
    prompt on the median slice, and propagated to the first and the last slice. After other prompts the mask of the
    median slice is propagated (ours). Only these slices are compared.

    Args:
        session: session with the image; its objects are removed.
        segmented: mask of an object with prompts on every slice.

    Returns:
        0 if both masks are equal; 1 if they have nothing in common, or the model sees nothing on the median slice.
    """
    first, last = segmented.prompted[0], segmented.prompted[-1]
    median = segmented.prompted[len(segmented.prompted) // 2]
    session.reset()
    try:
        if segmented.box is not None:
            top, left, bottom, right = segmented.box
            _add_box(session, segmented, median, [[top, left], [bottom, right]])
        else:
            session.add_mask(segmented.slices[median], median, segmented.object_id, segmented.axis)
        session.propagate([segmented.object_id], segmented.axis, (first, last))
    except PromptError:
        return NOTHING_IN_COMMON
    propagated = np.moveaxis(session.mask(segmented.object_id), segmented.axis, 0)
    return 1 - dice(segmented.slices[first : last + 1], propagated[first : last + 1])


def between_prompts(session: InteractiveSession, segmented: SegmentedObject) -> float:
    """1 - Dice of the mask and of the one from another kind of prompt on the same slice, derived from the mask.

    After a box the second prompt is a click at the centre of the object's largest component, after all else the box
    around the object.

    Args:
        session: session with the image; its objects are removed.
        segmented: mask from the first prompt.

    Returns:
        0 if both masks are equal; 1 if they have nothing in common, the model sees nothing at the second prompt, or
        the mask is empty on the slice of the first one.
    """
    here = segmented.slices[segmented.index]
    if not here.any():
        return NOTHING_IN_COMMON
    session.reset()
    try:
        if segmented.boxed:
            _click(session, segmented, here)
        else:
            _box(session, segmented)
        session.propagate([segmented.object_id], segmented.axis, segmented.extent)
    except PromptError:
        return NOTHING_IN_COMMON
    return 1 - dice(segmented.mask, session.mask(segmented.object_id))


def between_directions(session: InteractiveSession, segmented: SegmentedObject) -> float | None:
    """1 - Dice of the propagation outwards and back.

    On each side of the slice with the prompt, the mask of the last slice with the object is the prompt of a propagation
    back. Voxels of both sides are counted together. The last slices are not counted, since their masks are given.

    Args:
        session: session with the image; its objects are removed.
        segmented: mask from the first prompt.

    Returns:
        None if the object is only on the slice with the prompt.
    """
    there = np.flatnonzero(segmented.slices.any(axis=(1, 2)))
    ends = [int(end) for end in (there.min(), there.max())] if len(there) else []
    outer = [end for end, side in zip(ends, (-1, 1)) if (end - segmented.index) * side > 0]
    if not outer:
        return None
    common = total = 0
    for end in outer:
        back = _propagated_back(session, segmented, end)
        counted = slice(segmented.index, end, 1 if segmented.index < end else -1)  # without the end
        out, returned = segmented.slices[counted], np.moveaxis(back, segmented.axis, 0)[counted]
        common += int((out & returned).sum())
        total += int(out.sum()) + int(returned.sum())
    return 1 - 2 * common / total if total else None


def _propagated_back(session: InteractiveSession, segmented: SegmentedObject, end: int) -> np.ndarray:
    """Propagate the object from its mask on slice ``end`` to the slice of the first prompt; bool (z, y, x)."""
    session.reset()
    first, last = sorted((segmented.index, end))
    try:
        session.add_mask(segmented.slices[end], end, segmented.object_id, segmented.axis)
        session.propagate([segmented.object_id], segmented.axis, (first, last))
    except PromptError:  # too small for the model's resolution
        return np.zeros_like(segmented.mask)
    return session.mask(segmented.object_id)


def _click(session: InteractiveSession, segmented: SegmentedObject, here: np.ndarray) -> None:
    click = error_click(here, None, np.random.default_rng(0))
    assert click is not None
    voxel = np.insert([float(click.row), float(click.column)], segmented.axis, segmented.index)
    session.add_points([voxel.tolist()], 1, segmented.object_id, segmented.axis)


def _box(session: InteractiveSession, segmented: SegmentedObject) -> None:
    view = session.image.view(segmented.axis)
    seen = view.slice_index(segmented.index, session.image.shape)
    _add_box(session, segmented, segmented.index, box_corners(view.of(segmented.mask)[seen], seen)[:, 1:])


def _add_box(session: InteractiveSession, segmented: SegmentedObject, index: int, corners: ArrayLike) -> None:
    """Add a box to a slice, given its corners (2, 2), row and column as displayed."""
    view = session.image.view(segmented.axis)
    seen = view.slice_index(index, session.image.shape)
    places = np.insert(np.asarray(corners, dtype=float), 0, seen, axis=1)
    first, last = view.points_back(places, session.image.shape).tolist()
    session.add_box(first, last, segmented.object_id, segmented.axis)


def box_corners(mask: np.ndarray, index: int) -> np.ndarray:
    """Return two corners (2, 3), slice, row and column, of the box around the mask of a slice."""
    top, left, bottom, right = bounding_box(mask)
    return np.array([[index, top, left], [index, bottom, right]])
