"""Objects whose voxels no other object gets."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np


class Protection:
    """The protected objects of a session, the first protected one first."""

    def __init__(self) -> None:
        self._order: list[int] = []

    def set(self, object_id: int, protected: bool) -> None:
        """Protect an object or no longer; one that is protected keeps its place in the order."""
        if not protected:
            self._order = [other for other in self._order if other != object_id]
        elif object_id not in self._order:
            self._order.append(object_id)

    def among(self, known: Collection[int]) -> list[int]:
        """Return those of some objects that are protected."""
        return [object_id for object_id in self._order if object_id in known]

    def affected(self, changed: Collection[int], known: Collection[int]) -> list[int]:
        """Return the objects whose masks may differ after some have changed: all, if a protected one is among them."""
        return sorted({*changed, *known} if self.among(changed) else changed)

    def mask(self, object_id: int, known: Collection[int], logits: Callable[[int], np.ndarray]) -> np.ndarray:
        """Return what those protected before it leave of an object, bool.

        Args:
            object_id: of the object.
            known: all objects.
            logits: gives those of an object.
        """
        found = logits(object_id) > 0
        for other in self.among(known):
            if other == object_id:
                break
            found &= ~(logits(other) > 0)
        return found

    def labels(
        self,
        shape: tuple[int, ...],
        known: Collection[int],
        logits: Callable[[int], np.ndarray],
        dtype: type[np.floating],
    ) -> np.ndarray:
        """Return the label map, uint8 or uint16: protected objects, and where none is, the object of highest logit.

        Args:
            shape: of the image.
            known: all objects.
            logits: gives those of an object.
            dtype: of the logits.
        """
        labels = np.zeros(shape, dtype=np.uint8 if max(known, default=0) < 256 else np.uint16)
        protected = self.among(known)
        for object_id in reversed(protected):
            labels[logits(object_id) > 0] = object_id
        best = np.where(labels > 0, dtype(np.inf), dtype(0))
        for object_id in known:
            if object_id not in protected:
                own = logits(object_id)
                higher = own > best
                labels[higher] = object_id
                np.copyto(best, own, where=higher)
        return labels
