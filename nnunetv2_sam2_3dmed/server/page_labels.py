"""Label map that the page shows, kept up to date one slice at a time while a propagation runs."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError


class LabelMap:
    """The objects of a session as one volume, of which any slice can be read at any time.

    :meth:`refresh` makes it equal to ``InteractiveSession.labels``, which computes the whole volume of all objects;
    :meth:`refresh_slice` brings in one slice at the cost of that slice. Both are called where the session may be used;
    :meth:`plane` may be called from any thread.

    Attributes:
        array: object numbers and 0, (z, y, x).
        version: rises with each change.
    """

    def __init__(self, shape: tuple[int, int, int]):
        self.array: np.ndarray = np.zeros(shape, dtype=np.uint8)
        self.version = 0

    def refresh(self, session: InteractiveSession, changed: Collection[int] | None = None) -> None:
        """Compute voxels anew.

        Where all prompts lie along one axis, only the slices that objects which have changed had or have a mask on.

        Args:
            session: with the objects.
            changed: objects whose masks or protection may differ from the map; default: all.
        """
        axes = {one.axis for one in session.prompts}
        if changed is None or len(axes) != 1:
            self.array = session.labels()
            self.version += 1
            return
        (axis,) = axes
        there = [number for number in changed if number in session.object_ids]
        for index in range(self.array.shape[axis]):
            had = np.isin(self.plane(axis, index), list(changed)).any()
            if had or any(_on_slice(session, number, axis, index) for number in there):
                self.refresh_slice(session, axis, index, changed)
        self.version += 1

    def refresh_slice(self, session: InteractiveSession, axis: int, index: int, changed: Collection[int] = ()) -> None:
        """Bring in the masks that objects have on a slice along the axis of their prompts.

        Where they overlap, the higher logit counts, and protected objects before all others. Objects that have no mask
        along this axis keep their voxels, except those that another object newly covers.

        Args:
            session: with the objects.
            axis: of the array.
            index: of the slice.
            changed: objects that keep no voxels where they have no mask.
        """
        logits = {}
        for object_id in session.object_ids:
            try:
                # compared in the precision of InteractiveSession.labels, where ties go to the lower number
                logits[object_id] = session.predict_slice(object_id, axis, index).logits.astype(np.float16)
            except PromptError:
                continue  # has neither a prompt nor a mask on this slice
        if max(session.object_ids, default=0) > np.iinfo(self.array.dtype).max:
            self.array = self.array.astype(np.uint16)
        plane, protected = self.plane(axis, index), session.protected_ids
        kept = np.isin(plane, [number for number in protected if number not in logits and number not in changed])
        found = np.where(np.isin(plane, [*logits, *changed]), 0, plane)
        best = np.zeros(plane.shape, dtype=np.float16)
        for object_id in [number for number in logits if number not in protected]:
            higher = (logits[object_id] > best) & ~kept
            found[higher] = object_id
            np.copyto(best, logits[object_id], where=higher)
        for object_id in reversed(protected):  # the first protected one keeps the voxels of both
            if object_id in logits:
                found[(logits[object_id] > 0) & ~kept] = object_id
        plane[...] = found
        self.version += 1

    def plane(self, axis: int, index: int) -> np.ndarray:
        """Return a slice, its two other axes in the array's order; shares the map's memory."""
        at: list[slice | int] = [slice(None)] * 3
        at[axis] = index
        return self.array[tuple(at)]


def _on_slice(session: InteractiveSession, object_id: int, axis: int, index: int) -> bool:
    try:
        return bool(session.predict_slice(object_id, axis, index).mask.any())
    except PromptError:  # has neither a prompt nor a mask there
        return False
