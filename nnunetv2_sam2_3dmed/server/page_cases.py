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
    """

    def __init__(self, queued: QueuedCase, described: Mapping[str, Any]):
        self.queued = queued
        self.described = dict(described)
        self._machine_seconds: Counter[int] = Counter()  # by object; counted and read on the worker's thread
        self._written_seconds: Counter[int] = Counter()  # those of them that are in the round's table

    def check_drawn_along(self, axis: int) -> None:
        """Check that a prompt may be drawn on slices along an axis.

        Raises:
            PromptError: the case is in the first stage, and its 2D masks are along another axis.
        """
        if self.queued.axis not in (None, axis):
            raise PromptError("in this stage, masks are revised on the slices that the model has outlined: draw there.")

    def count(self, objects: Sequence[int], seconds: float) -> None:
        """Count the seconds of a prompt, or of a step of a propagation, in equal parts for its objects."""
        self._machine_seconds.update(dict.fromkeys(objects, seconds / len(objects)))

    def unwritten_seconds(self) -> dict[int, float]:
        """Return the machine's seconds by object since the case was opened or written."""
        return {number: one - self._written_seconds[number] for number, one in self._machine_seconds.items()}

    def written(self, extents: Mapping[int, tuple[int, int]], machine: Mapping[int, float]) -> None:
        """Note that the case was written.

        Args:
            extents: first and last slice of each object, in the first stage.
            machine: the seconds of :meth:`unwritten_seconds` that were written with it.
        """
        self._written_seconds.update(machine)
        axis = self.queued.axis
        if axis is not None:
            named = {number: {"axis": axis, "first": first, "last": last} for number, (first, last) in extents.items()}
            self.described["extents"] = named
