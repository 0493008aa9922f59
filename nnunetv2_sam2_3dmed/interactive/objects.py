"""The objects of a session, and the way back to how they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from nnunetv2_sam2_3dmed.interactive.memory import Track
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError, SlicePrompt

HISTORY = 32  # steps that can be undone


class Key(NamedTuple):
    """An object along an axis, where it has memories of its own."""

    object_id: int
    axis: int


@dataclass(frozen=True)
class Place:
    """A slice (of the view) of an object."""

    key: Key
    index: int


class Objects:
    """Tracks by object and axis. A step replaces tracks and never changes them, so that earlier ones can be kept.

    What was is kept for :data:`HISTORY` steps, as all tracks in the host's memory, with all outputs that tracks of now
    have too as the same tensors.

    Attributes:
        tracks: what there is now.
        latest: where the latest prompt is; None before any.
    """

    def __init__(self) -> None:
        self.tracks: dict[Key, Track] = {}
        self.latest: Place | None = None
        self._history: list[tuple[dict[Key, Track], Place | None]] = []

    @property
    def ids(self) -> list[int]:
        return sorted({key.object_id for key in self.tracks})

    def track(self, key: Key) -> Track:
        """What is known of an object along an axis; an empty track where nothing is."""
        return self.tracks.get(key, Track())

    def check_known(self, object_id: int) -> None:
        """That there is such an object.

        Raises:
            PromptError: there is none.
        """
        if object_id not in self.ids:
            known = ", ".join(map(str, self.ids)) or "none"
            raise PromptError(f"there is no object {object_id} (there are: {known}): add a prompt for it first.")

    def has_prompts_elsewhere(self, place: Place) -> bool:
        """Whether the object has prompts on another slice along the same axis."""
        return any(index != place.index for index in self.track(place.key).prompts)

    def add_prompt(self, place: Place, prompt: SlicePrompt) -> None:
        """Makes ``prompt`` all that is said of a slice."""
        self._keep()
        self.tracks[place.key] = self.track(place.key).prompted(place.index, prompt)
        self.latest = place

    def remove(self, object_id: int) -> None:
        """Forgets an object.

        Raises:
            PromptError: there is no such object.
        """
        self.check_known(object_id)
        self._keep()
        self.tracks = {key: track for key, track in self.tracks.items() if key.object_id != object_id}
        if self.latest is not None and self.latest.key.object_id == object_id:
            self.latest = None

    def undo(self) -> None:
        """Goes back to before the latest prompt or removal.

        Raises:
            PromptError: there is none.
        """
        if not self._history:
            raise PromptError("there is nothing to undo.")
        self.tracks, self.latest = self._history.pop()

    def take_back(self, place: Place) -> None:
        """Forgets those prompts on a slice that were not answered yet, and only these."""
        before = [tracks.get(place.key, Track()) for tracks, _ in self._history]
        answered = [track for track in before if place.index not in track.unanswered]
        if self.latest == place and self._history:
            self.latest = self._history.pop()[1]
        if answered and answered[-1].prompts:
            self.tracks[place.key] = answered[-1]
        else:
            del self.tracks[place.key]

    def _keep(self) -> None:
        self._history.append((dict(self.tracks), self.latest))
        del self._history[:-HISTORY]
