"""The objects of a session: their tracks and starts, and the history for undo and redo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from nnunetv2_sam2_3dmed.interactive.prompts import PromptError, SlicePrompt
from nnunetv2_sam2_3dmed.interactive.tracks import Key, PromptPlace, Track

HISTORY = 32  # steps that can be undone
HISTORY_BYTES = 2**30  # of start masks that these may hold; the latest step stays in any case


class Step(NamedTuple):
    """Contents that a step replaces; those of the step's other side once it was taken.

    Attributes:
        tracks: by key; None where there is none.
        starts: masks (z, y, x) by object; None where there is none.
        latest: place of the latest prompt.
    """

    tracks: dict[Key, Track | None]
    starts: dict[int, np.ndarray | None]
    latest: PromptPlace | None

    @property
    def object_ids(self) -> list[int]:
        return sorted({*self.starts, *(key.object_id for key in self.tracks)})

    @property
    def start_bytes(self) -> int:
        return sum(mask.nbytes for mask in self.starts.values() if mask is not None)


class Objects:
    """Tracks by object and axis, start masks by object, and earlier ones for undo.

    A step replaces tracks and never changes them. :data:`HISTORY` steps are kept, fewer of large start masks; outputs
    that did not change are the same tensors in all of them. A step holds only what it replaced: undoing the prompt of
    one object leaves what was propagated of another meanwhile.

    Attributes:
        tracks: the present ones.
        starts: masks, bool (z, y, x), that objects have where no track has a mask.
        latest: the place of the latest prompt; None before any, and after its removal.
        versions: by object, the number of its changes so far by steps, undo and redo, or a reset.
    """

    def __init__(self) -> None:
        self.tracks: dict[Key, Track] = {}
        self.starts: dict[int, np.ndarray] = {}
        self.latest: PromptPlace | None = None
        self.versions: Counter[int] = Counter()
        self._past: list[Step] = []
        self._future: list[Step] = []

    def clear(self) -> None:
        """Drop all objects and the history."""
        self.versions.update(self.ids)
        self.tracks.clear()
        self.starts.clear()
        self.latest = None
        self.forget_steps()

    def forget_steps(self) -> None:
        """Drop the history."""
        self._past.clear()
        self._future.clear()

    @property
    def ids(self) -> list[int]:
        return sorted({*self.starts, *(key.object_id for key in self.tracks)})

    @property
    def can_undo(self) -> bool:
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        return bool(self._future)

    @property
    def undoable_ids(self) -> list[int]:
        return self._past[-1].object_ids if self._past else []

    @property
    def redoable_ids(self) -> list[int]:
        return self._future[-1].object_ids if self._future else []

    def track(self, key: Key) -> Track:
        """Return the track of an object along an axis; an empty one if there is none."""
        return self.tracks.get(key, Track())

    def keys(self, object_id: int) -> list[Key]:
        """Return the keys of an object, by axis; none if it has a start alone.

        Raises:
            PromptError: there is no such object.
        """
        # by axis, so that masks along several axes are averaged in one order whatever was undone
        keys = sorted(key for key in self.tracks if key.object_id == object_id)
        if not keys and object_id not in self.starts:
            known = ", ".join(map(str, self.ids)) or "none"
            raise PromptError(f"there is no object {object_id} (there are: {known}): add a prompt for it first.")
        return keys

    def known_elsewhere(self, key: Key, index: int) -> bool:
        """True if an object is known from another slice along the axis than ``index``, or from a start."""
        return key.object_id in self.starts or self.track(key).has_prompts_elsewhere(index)

    def add_prompt(self, place: PromptPlace, prompt: SlicePrompt) -> None:
        """Set the prompt of a slice."""
        self.change({place.key: self.track(place.key).prompted(place.index, prompt)}, {}, place)

    def set_starts(self, masks: Mapping[int, np.ndarray]) -> None:
        """Set the starts of objects instead of all that they have."""
        had: dict[Key, Track | None] = {key: None for key in self.tracks if key.object_id in masks}
        self.change(had, masks, self.latest)

    def remove(self, object_id: int) -> None:
        """Remove an object.

        Raises:
            PromptError: there is no such object.
        """
        starts: dict[int, np.ndarray | None] = {object_id: None} if object_id in self.starts else {}
        self.change(dict.fromkeys(self.keys(object_id)), starts, self.latest)

    def change(
        self, tracks: Mapping[Key, Track | None], starts: Mapping[int, np.ndarray | None], latest: PromptPlace | None
    ) -> None:
        """Replace tracks and starts in one step; None removes them."""
        self._future.clear()
        self._past.append(self._swap(Step(dict(tracks), dict(starts), latest)))
        del self._past[:-HISTORY]
        while len(self._past) > 1 and sum(step.start_bytes for step in self._past) > HISTORY_BYTES:
            del self._past[0]

    def undo(self, forget: bool = False) -> list[int]:
        """Take back the latest step, and return the objects that it had changed.

        Args:
            forget: :meth:`redo` does not take the step again.

        Raises:
            PromptError: there is none.
        """
        if not self._past:
            raise PromptError("there is nothing to undo.")
        step = self._past.pop()
        after = self._swap(step)
        if not forget:
            self._future.append(after)
        return step.object_ids

    def redo(self) -> list[int]:
        """Take the step again that was taken back last, and return the objects that it changes.

        Raises:
            PromptError: there is none.
        """
        if not self._future:
            raise PromptError("there is nothing to redo.")
        step = self._future.pop()
        self._past.append(self._swap(step))
        return step.object_ids

    def take_back(self, place: PromptPlace) -> None:
        """Remove the prompts on a slice that were not answered yet, and only these, from present and history."""
        before: Track | None = None
        for step in reversed([step for step in self._past if place.key in step.tracks]):
            before = step.tracks.pop(place.key)
            if self.latest == place:
                self.latest = step.latest
            if before is None or place.index not in before.unanswered:
                break
            before = None
        self._past = [step for step in self._past if step.object_ids]
        self._future.clear()
        self._put(place.key, before)
        self.versions[place.key.object_id] += 1

    def _put(self, key: Key, track: Track | None) -> None:
        if track is None:
            self.tracks.pop(key, None)
        else:
            self.tracks[key] = track

    def _swap(self, step: Step) -> Step:
        """Put the contents of a step in place, and return those that were there."""
        before = Step(
            {key: self.tracks.get(key) for key in step.tracks},
            {object_id: self.starts.get(object_id) for object_id in step.starts},
            self.latest,
        )
        for key, track in step.tracks.items():
            self._put(key, track)
        for object_id, mask in step.starts.items():
            if mask is None:
                self.starts.pop(object_id, None)
            else:
                self.starts[object_id] = mask
        latest = step.latest
        there = latest is not None and latest.index in self.track(latest.key).prompts
        self.latest = latest if there else None
        self.versions.update(step.object_ids)
        return before
