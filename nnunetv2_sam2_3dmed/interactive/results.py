"""What a session tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunetv2_sam2_3dmed.interactive.prompts import SlicePrompt


@dataclass(frozen=True)
class SliceMask:
    """The mask of one object on one slice.

    Attributes:
        object_id: of the object.
        axis: the slice is one along this axis of the array, 0, 1 or 2 (z, y or x).
        index: of the slice.
        mask: bool, the slice's two axes in the array's order.
        logits: float32, same shape; the mask is where they are above 0.
        quality: the IoU with the true mask that SAM 2 expects.
    """

    object_id: int
    axis: int
    index: int
    mask: np.ndarray
    logits: np.ndarray
    quality: float


@dataclass(frozen=True)
class Progress:
    """How far a propagation is, told after every slice.

    Attributes:
        done: slices so far; one that is passed for two batches of objects counts twice.
        total: slices in all.
        axis: the slices are those along this axis.
        index: of the slice.
        object_ids: objects whose masks on that slice are there now.
    """

    done: int
    total: int
    axis: int
    index: int
    object_ids: tuple[int, ...]


@dataclass(frozen=True)
class PromptedSlice:
    """What was said of an object on one slice.

    Attributes:
        object_id: of the object.
        axis: the slice is one along this axis of the array.
        index: of the slice.
        prompt: in rows and columns of ``InteractiveSession.slice_as_seen``.
    """

    object_id: int
    axis: int
    index: int
    prompt: SlicePrompt
