"""Result types of InteractiveSession."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunetv2_sam2_3dmed.interactive.prompts import SlicePrompt


@dataclass(frozen=True)
class SliceMask:
    """Mask of one object on one slice.

    Attributes:
        object_id: of the object.
        axis: of the array, along which the slice lies: 0, 1 or 2 (z, y or x).
        index: of the slice.
        mask: bool, the slice's two axes in the array's order.
        logits: float32, same shape; the mask is where they are above 0.
        quality: IoU with the ground truth as SAM 2 predicts it.
    """

    object_id: int
    axis: int
    index: int
    mask: np.ndarray
    logits: np.ndarray
    quality: float


@dataclass(frozen=True)
class Progress:
    """Progress of a propagation, reported after every slice.

    Attributes:
        done: number of slices so far; one that two batches of objects pass counts twice.
        total: number of slices in all; falls where the correction of a start ends before the last slice.
        axis: of the array, along which the slices lie.
        index: of the slice.
        object_ids: objects whose masks on that slice are now known.
    """

    done: int
    total: int
    axis: int
    index: int
    object_ids: tuple[int, ...]


@dataclass(frozen=True)
class PromptedSlice:
    """Prompts of an object on one slice.

    Attributes:
        object_id: of the object.
        axis: of the array, along which the slice lies.
        index: of the slice.
        prompt: in rows and columns of ``InteractiveSession.slice_as_seen``.
    """

    object_id: int
    axis: int
    index: int
    prompt: SlicePrompt


@dataclass(frozen=True)
class SavedObject:
    """Object whose prompts were loaded.

    Attributes:
        object_id: of the object.
        name: that was saved with it; or None.
        colour: likewise, "#rrggbb"; or None.
        protected: True if it was protected.
    """

    object_id: int
    name: str | None
    colour: str | None
    protected: bool
