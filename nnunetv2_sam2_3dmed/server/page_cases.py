"""A round's case that is open in a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nnunetv2_sam2_3dmed.interactive.prompts import PromptError

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.annotation.queue import QueuedCase


class OpenCase:
    """A round's case that is open in a page, and the machine's time for it.

    Args:
        queued: the case.
        described: the case, for the page.

    Attributes:
        machine_seconds: of prompts and propagations by object, since the case was opened or written; those of several
            objects that are propagated together in equal parts.
    """

    def __init__(self, queued: QueuedCase, described: Mapping[str, Any]):
        self.queued = queued
        self.described = dict(described)
        self.machine_seconds: Counter[int] = Counter()

    def check_axis(self, axis: int) -> None:
        """Check that a prompt may be drawn on slices along an axis.

        Raises:
            PromptError: the case is in the first stage, and its 2D masks are along another axis.
        """
        if self.queued.axis not in (None, axis):
            raise PromptError("in this stage, masks are revised on the slices that the model has outlined: draw there.")

    def count(self, objects: Sequence[int], seconds: float) -> None:
        """Count time of the machine for objects."""
        self.machine_seconds.update(dict.fromkeys(objects, seconds / len(objects)))

    def written(self, extents: Mapping[int, tuple[int, int]]) -> None:
        """Note that the case was written, with first and last slice of each object in the first stage."""
        self.machine_seconds.clear()
        axis = self.queued.axis
        if axis is not None:
            named = {number: {"axis": axis, "first": first, "last": last} for number, (first, last) in extents.items()}
            self.described["extents"] = named
