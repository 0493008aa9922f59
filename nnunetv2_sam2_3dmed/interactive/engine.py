"""SAM 2's prompt step on a device, between the host's prompts and outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F

from nnunetv2_sam2_3dmed.interactive.prompts import SlicePrompt
from nnunetv2_sam2_3dmed.interactive.tracks import DRAWN, HOST, SliceOutput
from nnunetv2_sam2_3dmed.network.attention import attention_kernels
from nnunetv2_sam2_3dmed.network.precision import autocast
from nnunetv2_sam2_3dmed.network.prompt_step import Heads, remember_slice, segment_slice
from nnunetv2_sam2_3dmed.network.resizing import LARGEST_LOGIT, at_image_size
from nnunetv2_sam2_3dmed.network.sam2_modules import STRIDE, SAM2Base
from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures
from nnunetv2_sam2_3dmed.network.slice_encoder import slices_at_once

Outputs = Mapping[int, SliceOutput]  # by slice index, with memories


class Engine:
    """SAM 2 for the slices of a session.

    Gives the logits of ``SAM2VideoPredictor`` without its post-processing, but for several objects at once. All methods
    that compute must be called within :meth:`running`.

    Args:
        model: SAM 2 in eval mode.
        device: where to run; the model is moved there.
        precision: "auto" (bfloat16 where that is native), "bfloat16" or "float32".
    """

    def __init__(self, model: SAM2Base, device: torch.device, precision: str = "auto"):
        self.model = model.to(device).eval()
        self.device = device
        self.precision = precision
        self.image_size = model.image_size
        # slices that are encoded in one batch
        self.slices_at_once = slices_at_once(device, self.image_size)
        # number of slices back that attention reaches: to memories in SAM 2's strides, or to object pointers
        memories = 1 + (model.num_maskmem - 2) * model.memory_temporal_stride_for_eval
        pointers = model.max_obj_ptrs_in_encoder - 1 if model.use_obj_ptrs_in_encoder else 0
        self.reach = max(0, memories, pointers)
        with self.running():
            pass  # raise now if there is no such precision

    @contextmanager
    def running(self) -> Iterator[None]:
        """Context of all computations; around several, weights are cast to another precision once for all.

        Not torch's inference mode, in which autocast would cast them again for each use.
        """
        tokens = (self.image_size // STRIDE) ** 2
        with (
            torch.no_grad(),
            autocast(self.device, self.precision),
            attention_kernels(self.device, tokens),
        ):
            yield

    def encode(self, images: torch.Tensor) -> list[LevelFeatures]:
        """Compute the features of pictures, which do not depend on prompts, in one batch.

        Args:
            images: (n, 3, S, S), normalised as SAM 2 expects; at most :attr:`slices_at_once`, for which the device has
                memory.

        Returns:
            For each picture three levels, (1, channels, h, w), views of the batch.
        """
        levels = self.model.forward_image(images.to(self.device))["backbone_fpn"]
        return [LevelFeatures._make(one) for one in zip(*(level.split(1) for level in levels), strict=True)]

    def answer(
        self,
        features: LevelFeatures,
        index: int,
        prompt: SlicePrompt,
        shape: tuple[int, int],
        num_slices: int,
        reverse: bool = False,
        previous: torch.Tensor | None = None,
        conditioning: Outputs | None = None,
        others: Outputs | None = None,
    ) -> SliceOutput:
        """Segment one object on a slice that has a prompt.

        Args:
            features: of the slice.
            index: of the slice.
            prompt: on that slice.
            shape: rows and columns of the slice.
            num_slices: in the volume.
            reverse: direction of the propagation that reached the slice.
            previous: logits (1, 1, S/4, S/4) to be corrected; None where there are none.
            conditioning: memories of slices with prompts; None where no propagation has reached the slice, which is
                then segmented from the prompt alone.
            others: memories of slices that were tracked in the same direction.

        Returns:
            The output on the host, not remembered yet.
        """
        points = mask = None
        if prompt.mask is not None:
            drawn = torch.from_numpy(np.ascontiguousarray(prompt.mask)).to(self.device)
            mask, previous = at_image_size(drawn[None], self.image_size), None
        else:
            xy, labels = prompt.for_sam2()
            scale = torch.tensor([shape[1], shape[0]], dtype=torch.float32)
            coordinates = torch.tensor(np.ascontiguousarray(xy), dtype=torch.float32) / scale * self.image_size
            points = (
                coordinates[None].to(self.device),
                torch.tensor(labels, dtype=torch.int32)[None].to(self.device),
            )
            if previous is not None:
                previous = previous.to(self.device).clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        known, tracked = (
            {i: output.to(self.device) for i, output in (outputs or {}).items()} for outputs in (conditioning, others)
        )
        heads = segment_slice(self.model, features, index, num_slices, known, tracked, reverse, points, mask, previous)
        return _output(heads).to(HOST)

    def logits_of(self, mask: np.ndarray) -> torch.Tensor:
        """Logits (1, 1, S/4, S/4), on the host, as which SAM 2 keeps a given mask (rows, columns), bool."""
        given = at_image_size(torch.from_numpy(np.ascontiguousarray(mask))[None], self.image_size)
        size = (self.image_size // 4, self.image_size // 4)
        return F.interpolate((2 * given - 1) * DRAWN, size=size, mode="bilinear", align_corners=False, antialias=True)

    def track(
        self,
        features: LevelFeatures,
        index: int,
        num_objects: int,
        num_slices: int,
        reverse: bool,
        conditioning: Outputs,
        others: Outputs,
    ) -> SliceOutput:
        """Segment and remember N objects on a slice without prompts; memories are of these N objects.

        Memories and the output are on the device.
        """
        each = LevelFeatures._make(level.expand(num_objects, -1, -1, -1) for level in features)
        output = _output(segment_slice(self.model, each, index, num_slices, conditioning, others, reverse))
        return output._replace(memory=remember_slice(self.model, each, output.logits, output.presence, False))

    def remember(self, features: LevelFeatures, output: SliceOutput) -> SliceOutput:
        """Return the output for a slice with prompts, with its memory, on the host."""
        there = output.to(self.device)
        return there._replace(
            memory=remember_slice(self.model, features, there.logits, there.presence, prompted=True)
        ).to(HOST)


def _output(heads: Heads) -> SliceOutput:
    # objects of a batch may come from points and from masks, whose parts autocast leaves in different precisions
    return SliceOutput(
        heads.logits.float(), heads.pointer.float(), heads.presence.float(), heads.expected_iou.float().amax(dim=-1)
    )
