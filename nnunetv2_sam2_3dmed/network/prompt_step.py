"""SAM 2's prompt step on slices, for training and sessions alike.

Prompt encoder, memory attention and mask decoder (:func:`segment_slice`), then memory encoder
(:func:`remember_slice`), of ``SAM2Base``. Slices take the place of frames, and N objects are segmented at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch

from nnunetv2_sam2_3dmed.network.resizing import logits_at
from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base
from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures


class SliceMemory(Protocol):
    """Memory of one slice for N objects, to which later slices attend."""

    @property
    def memory(self) -> torch.Tensor | None:
        """Spatial memory (N, M, S/16, S/16), as :func:`remember_slice` gives it."""

    @property
    def pointer(self) -> torch.Tensor:
        """Object pointers (N, C)."""


Memories = Mapping[int, SliceMemory]  # by slice index


class Heads(NamedTuple):
    """Results of SAM 2's mask decoder for N objects on one slice.

    Attributes:
        candidates: (N, M, S, S), logits of one or three masks.
        expected_iou: (N, M), the predicted IoU of these masks.
        logits: (N, 1, S/4, S/4), of the mask with the highest predicted IoU.
        pointer: (N, C), object pointers.
        presence: (N, 1), logits of the objects being on the slice.
    """

    candidates: torch.Tensor
    expected_iou: torch.Tensor
    logits: torch.Tensor
    pointer: torch.Tensor
    presence: torch.Tensor


def segment_slice(
    sam2: SAM2Base,
    features: LevelFeatures,
    index: int,
    num_slices: int,
    conditioning: Memories,
    others: Memories,
    reverse: bool = False,
    points: tuple[torch.Tensor, torch.Tensor] | None = None,
    mask: torch.Tensor | None = None,
    previous: torch.Tensor | None = None,
) -> Heads:
    """Segment N objects on one slice from prompts, from memories or from both.

    Args:
        sam2: the model.
        features: of the slice for each object, (N, channels, h, w).
        index: of the slice.
        num_slices: in the volume.
        conditioning: memories of slices with prompts, in ascending order; empty if the slice is segmented from its
            prompts alone.
        others: memories of slices that were tracked in the same direction.
        reverse: the direction is towards slice 0.
        points: x and y (N, P, 2) in pixels of SAM 2's square, and SAM 2's labels (N, P), int32.
        mask: (N, 1, S, S), 0 or 1, instead of points.
        previous: logits (N, 1, S/4, S/4) that the points correct, clamped to ``LARGEST_LOGIT``.
    """
    place = sam2.image_encoder.neck.position_encoding(features.stride16)
    _, heads, _, _ = sam2._track_step(
        frame_idx=index,
        is_init_cond_frame=not conditioning,
        **_levels(features),
        current_vision_pos_embeds=[place.flatten(2).permute(2, 0, 1)],
        point_inputs=None if points is None else {"point_coords": points[0], "point_labels": points[1]},
        mask_inputs=mask,
        output_dict=_output_dict(sam2, conditioning, others),
        num_frames=num_slices,
        track_in_reverse=reverse,
        prev_sam_mask_logits=previous,
    )
    _, candidates, expected_iou, logits, _, pointer, presence = heads
    return Heads(candidates, expected_iou, logits, pointer, presence)


def remember_slice(
    sam2: SAM2Base, features: LevelFeatures, logits: torch.Tensor, presence: torch.Tensor, prompted: bool
) -> torch.Tensor:
    """Encode the masks of N objects on one slice as spatial memory.

    Args:
        sam2: the model.
        features: see :func:`segment_slice`.
        logits: (N, 1, S/4, S/4), of the masks.
        presence: (N, 1), logits of the objects being on the slice.
        prompted: the slice has prompts; a network with SAM 2's ``binarize_mask_from_pts_for_mem_enc`` then encodes the
            mask itself instead of its probabilities.

    Returns:
        (N, M, S/16, S/16), bfloat16 as SAM 2 keeps it.
    """
    memory, _ = sam2._encode_new_memory(
        **_levels(features),
        pred_masks_high_res=logits_at(logits, (sam2.image_size, sam2.image_size)),
        object_score_logits=presence,
        is_mask_from_pts=prompted,
    )
    return memory.to(torch.bfloat16)


def _levels(features: LevelFeatures) -> dict[str, list[Any]]:
    """Features as arguments of ``SAM2Base``, (h w, N, C) for levels (N, C, h, w)."""
    return {
        "current_vision_feats": [level.flatten(2).permute(2, 0, 1) for level in features],
        "feat_sizes": [tuple(level.shape[-2:]) for level in features],
    }


def _output_dict(sam2: SAM2Base, conditioning: Memories, others: Memories) -> dict[str, dict[int, dict[str, Any]]]:
    """Memories as ``SAM2Base`` reads them; the positional encoding of places is the same for all."""
    places = None
    for known in conditioning.values():
        assert known.memory is not None
        kind = known.memory.device.type
        # in the precision in which the memory encoder gives it
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        places = [sam2.memory_encoder.position_encoding(known.memory.to(dtype))]
        break
    return {
        name: {
            index: {"maskmem_features": known.memory, "maskmem_pos_enc": places, "obj_ptr": known.pointer}
            for index, known in memories.items()
        }
        for name, memories in (("cond_frame_outputs", conditioning), ("non_cond_frame_outputs", others))
    }
