"""Propagations of a session as they are asked for, and their steps while the session goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nnunetv2_sam2_3dmed.interactive import prompts as checks
from nnunetv2_sam2_3dmed.interactive.objects import Objects
from nnunetv2_sam2_3dmed.interactive.planes import Planes
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.interactive.results import Progress
from nnunetv2_sam2_3dmed.interactive.runs import DIRECTIONS
from nnunetv2_sam2_3dmed.interactive.segmenter import Segmenter
from nnunetv2_sam2_3dmed.interactive.tracks import Key


class Request(NamedTuple):
    """Objects to propagate, and the slices to reach.

    Attributes:
        keys: of the objects.
        ends: by axis, the first and the last slice in the view, both included.
        direction: one of :data:`DIRECTIONS`.
    """

    keys: list[Key]
    ends: dict[int, tuple[int, int]]
    direction: str


def check_request(
    objects: Objects,
    axes: Sequence[Planes],
    object_ids: Sequence[int] | None,
    axis: int | None,
    slices: tuple[int, int] | None,
    direction: str,
) -> Request:
    """Check the arguments of ``InteractiveSession.propagate``.

    Raises:
        PromptError: one is invalid; or there are no prompts, or none of an object on these slices.
    """
    if direction not in DIRECTIONS:
        raise PromptError(f"direction is {direction!r}, but must be one of {', '.join(DIRECTIONS)}.")
    for object_id in object_ids or ():
        objects.keys(object_id)
    if axis is not None:
        checks.check_axis(axis)
    keys = [
        key
        for key in sorted(objects.tracks)
        if (object_ids is None or key.object_id in object_ids) and axis in (None, key.axis)
    ]
    if not keys:
        where = "" if axis is None else f" along axis {axis}"
        raise PromptError(f"there are no prompts{where} to propagate: add points, a box, a mask or a scribble.")
    ends = {number: _ends(axes[number], slices) for number in sorted({key.axis for key in keys})}
    for key in keys:
        _check_sources(objects.track(key).sources(), key, axes[key.axis], ends[key.axis])
    return Request(keys, ends, direction)


def _ends(along: Planes, slices: tuple[int, int] | None) -> tuple[int, int]:
    """Convert the first and the last slice to propagate to, both included, from the array to the view."""
    if slices is None:
        return 0, along.depth - 1
    first, last = (along.check_index(index) for index in slices)
    if first > last:
        raise PromptError(f"the slices go from {first} to {last}, but the first must not be behind the last.")
    start, end = sorted((along.turned(first), along.turned(last)))
    return start, end


def _check_sources(sources: Sequence[int], key: Key, along: Planes, ends: tuple[int, int]) -> None:
    """Raise a PromptError if an object has no prompt in a range of slices."""
    if not any(ends[0] <= index <= ends[1] for index in sources):
        first, last = sorted(along.turned(index) for index in ends)
        there = ", ".join(str(index) for index in sorted(along.turned(i) for i in sources))
        raise PromptError(
            f"object {key.object_id} has no prompt on slices {first} to {last} along axis {key.axis}, only on "
            f"{there}: add one there, or choose other slices."
        )


class Propagation(Iterator[Progress]):
    """A propagation, a slice per ``next``; at its end as soon as one of its objects has changed in another way.

    Args:
        segmenter: of the session.
        request: what to propagate; its prompts are answered at once.
        nearest_first: see ``InteractiveSession.propagation``.

    Raises:
        PromptError: SAM 2 sees no object where the first prompts are.
    """

    def __init__(self, segmenter: Segmenter, request: Request, nearest_first: bool):
        self._engine = segmenter.engine
        self._versions = segmenter.objects.versions
        with self._engine.running():
            self._steps = segmenter.propagate(*request, nearest_first)
        self._of = {key.object_id: self._versions[key.object_id] for key in request.keys}

    def __next__(self) -> Progress:
        if any(self._versions[object_id] != version for object_id, version in self._of.items()):
            self._steps.close()  # also frees its memories on the device
        # not for longer: what it sets is for all of the caller's thread
        with self._engine.running():
            return next(self._steps)
