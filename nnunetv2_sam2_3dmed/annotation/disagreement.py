"""How much answers of one model to the same question differ: between prompts, and between directions.

MedSAM2's authors revised first, of each patient's eight MRI scans, the one whose masks from two kinds of boxes differed
most: "hard cases have larger disagreements between the two segmentation masks" (MedSAM2, Methods). Here all cases are
compared with each other, and nobody has to draw a second prompt: it is derived from the first answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunetv2_sam2_3dmed.interactive import InteractiveSession, PromptError
from nnunetv2_sam2_3dmed.prompt_evaluation.benchmark import dice
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import bounding_box, error_click

NOTHING_IN_COMMON = 1.0


@dataclass(frozen=True)
class Answer:
    """What a prompt led to.

    Attributes:
        object_id: of the object.
        axis: along which the slices lie.
        index: of the slice with the prompt; of several, the one on which the object is largest.
        boxed: the prompt on that slice is a box.
        mask: (z, y, x), bool.
    """

    object_id: int
    axis: int
    index: int
    boxed: bool
    mask: np.ndarray

    @property
    def slices(self) -> np.ndarray:
        """The mask as slices; shares its memory."""
        return np.moveaxis(self.mask, self.axis, 0)


def answers(session: InteractiveSession) -> list[Answer]:
    """The objects of a session whose prompts were carried through the volume."""
    found = []
    for object_id in session.object_ids:
        mask = session.mask(object_id)
        prompted = [p for p in session.prompts if p.object_id == object_id]
        areas = [int(np.take(mask, p.index, p.axis).sum()) for p in prompted]
        home = prompted[int(np.argmax(areas))]
        boxed = home.prompt.box is not None and home.prompt.mask is None
        found.append(Answer(object_id, home.axis, home.index, boxed, mask))
    return found


def between_prompts(session: InteractiveSession, answer: Answer) -> float:
    """1 - Dice of the answer and of that to another kind of prompt on the same slice, made from the answer.

    For a box that is a click at the centre of the object's largest part, for all else the box around the object.

    Args:
        session: with the image; its objects are forgotten.
        answer: to the first prompt.

    Returns:
        0 where both volumes are the same; 1 where they have nothing in common, or the model sees nothing at the second
        prompt, or the first left nothing on its slice.
    """
    here = answer.slices[answer.index]
    if not here.any():
        return NOTHING_IN_COMMON
    session.reset()
    try:
        if answer.boxed:
            _click(session, answer, here)
        else:
            _box(session, answer)
        session.propagate([answer.object_id], answer.axis)
    except PromptError:
        return NOTHING_IN_COMMON
    return 1 - dice(answer.mask, session.mask(answer.object_id))


def between_directions(session: InteractiveSession, answer: Answer) -> float | None:
    """1 - Dice of the way out and the way back.

    On each side of the slice with the prompt, the mask of the last slice that the object reaches is the prompt from
    which it is carried back. Voxels of both ways back are counted together. The last slices are not: their masks are
    given.

    Args:
        session: with the image; its objects are forgotten.
        answer: to the first prompt.

    Returns:
        None where the object is on no other slice than that with the prompt.
    """
    there = np.flatnonzero(answer.slices.any(axis=(1, 2)))
    ends = [int(end) for end in (there.min(), there.max())] if len(there) else []
    ways = [end for end, side in zip(ends, (-1, 1)) if (end - answer.index) * side > 0]
    if not ways:
        return None
    common = total = 0
    for end in ways:
        back = _carried_back(session, answer, end)
        way = slice(answer.index, end, 1 if answer.index < end else -1)  # without the end
        out, returned = answer.slices[way], np.moveaxis(back, answer.axis, 0)[way]
        common += int((out & returned).sum())
        total += int(out.sum()) + int(returned.sum())
    return 1 - 2 * common / total if total else None


def _carried_back(session: InteractiveSession, answer: Answer, end: int) -> np.ndarray:
    """The object from its mask on slice ``end`` to the slice of the first prompt, bool (z, y, x)."""
    session.reset()
    first, last = sorted((answer.index, end))
    try:
        session.add_mask(answer.slices[end], end, answer.object_id, answer.axis)
        session.propagate([answer.object_id], answer.axis, (first, last))
    except PromptError:  # too small for the model's resolution
        return np.zeros_like(answer.mask)
    return session.mask(answer.object_id)


def _click(session: InteractiveSession, answer: Answer, here: np.ndarray) -> None:
    click = error_click(here, None, np.random.default_rng(0))
    assert click is not None
    voxel = np.insert([float(click.row), float(click.column)], answer.axis, answer.index)
    session.add_points([voxel.tolist()], 1, answer.object_id, answer.axis)


def _box(session: InteractiveSession, answer: Answer) -> None:
    view = session.image.view(answer.axis)
    index = view.slice_index(answer.index, session.image.shape)
    corners = box_corners(view.of(answer.mask)[index], index)
    first, last = view.points_back(corners, session.image.shape).tolist()
    session.add_box(first, last, answer.object_id, answer.axis)


def box_corners(mask: np.ndarray, index: int) -> np.ndarray:
    """The box around a slice of a view, (2, 3): slice, row and column of two corners."""
    top, left, bottom, right = bounding_box(mask)
    return np.array([[index, top, left], [index, bottom, right]])
