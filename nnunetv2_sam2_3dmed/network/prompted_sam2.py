"""SAM 2's own steps, slice by slice: encode, answer prompts, track, remember."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from nnunetv2_sam2_3dmed.interactive.memory import SliceOutput
from nnunetv2_sam2_3dmed.interactive.prompts import SlicePrompt
from nnunetv2_sam2_3dmed.network.attention import attention_kernels
from nnunetv2_sam2_3dmed.network.precision import autocast
from nnunetv2_sam2_3dmed.network.resizing import LARGEST_LOGIT, as_images, at_image_size, logits_at
from nnunetv2_sam2_3dmed.network.sam2_modules import STRIDE, SAM2Base
from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures
from nnunetv2_sam2_3dmed.network.slice_encoder import slices_at_once

# memories by slice, as ``track_step`` reads them
Memories = Mapping[int, SliceOutput]


class PromptedSAM2:
    """SAM 2 with prompts, for slices instead of frames.

    Runs the steps of ``SAM2Base``, as ``SAM2VideoPredictor`` does without its post-processing, and gives the logits
    that that one gives; but for several objects at once.

    Outputs are given back on the device. Those that are attended to may be on the host, but each step then copies them.

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
        grid = self.image_size // STRIDE
        self.feature_sizes = [(grid * scale, grid * scale) for scale in (4, 2, 1)]
        # slices that are encoded in one batch
        self.slices_at_once = slices_at_once(device, self.image_size)
        # how many slices back attention reaches: to memories in SAM 2's strides, or to object pointers
        memories = 1 + (model.num_maskmem - 2) * model.memory_temporal_stride_for_eval
        pointers = model.max_obj_ptrs_in_encoder - 1 if model.use_obj_ptrs_in_encoder else 0
        self.reach = max(0, memories, pointers)
        # the same for all slices
        self._position: torch.Tensor | None = None
        self._memory_position: torch.Tensor | None = None
        with self.running():
            pass  # a precision that there is not is found now

    @contextmanager
    def running(self) -> Iterator[None]:
        """What every step runs in. Around several steps, the weights are cast to another precision once for all.

        Not in torch's inference mode, in which autocast would cast them again for each use.
        """
        tokens = self.feature_sizes[-1][0] * self.feature_sizes[-1][1]
        with (
            torch.no_grad(),
            autocast(self.device, self.precision),
            attention_kernels(self.device, tokens),
        ):
            yield

    def images(self, greys: Sequence[np.ndarray]) -> torch.Tensor:
        """Grey levels of n slices (rows, columns), uint8 -> images as the encoder expects them, (n, 3, S, S)."""
        planes = torch.from_numpy(np.stack(greys)).to(self.device).float() / 255
        return as_images(planes, self.image_size)

    def encode(self, greys: Sequence[np.ndarray]) -> list[LevelFeatures]:
        """Everything about slices that does not depend on prompts, computed in one batch.

        Args:
            greys: grey levels of n slices of one shape (rows, columns), uint8; at most :attr:`slices_at_once`, for
                which the device has memory.

        Returns:
            For each slice three levels, (1, channels, h, w), in memory of their own: a part of the batch would keep all
            of it.
        """
        with self.running():
            encoded = self.model.forward_image(self.images(greys))
            if self._position is None:
                position = encoded["vision_pos_enc"][-1][:1].clone()
                self._position = position.flatten(2).permute(2, 0, 1)  # (h w, 1, C)
            levels = (level.split(1) for level in encoded["backbone_fpn"])
            return [LevelFeatures._make(level.clone() for level in one) for one in zip(*levels, strict=True)]

    def answer(
        self,
        features: LevelFeatures,
        index: int,
        prompt: SlicePrompt,
        shape: tuple[int, int],
        num_slices: int,
        first_look: bool,
        reverse: bool,
        previous: torch.Tensor | None,
        conditioning: Memories,
        others: Memories,
    ) -> SliceOutput:
        """The mask of one object on a slice that has a prompt.

        Args:
            features: of the slice.
            index: of the slice.
            prompt: what was said there.
            shape: rows and columns of the slice.
            num_slices: in the volume.
            first_look: no propagation reached the slice: it is segmented from the prompt alone.
            reverse: in which direction one reached it.
            previous: logits (1, 1, S/4, S/4) to be corrected; None where there are none.
            conditioning: memories of slices with prompts.
            others: of slices that were tracked, in the same direction.
        """
        points: dict[str, torch.Tensor] | None = None
        mask: torch.Tensor | None = None
        if prompt.mask is not None:
            drawn = torch.from_numpy(np.ascontiguousarray(prompt.mask)).to(self.device)
            mask = at_image_size(drawn[None], self.image_size)
        else:
            xy, labels = prompt.for_sam2()
            scale = torch.tensor([shape[1], shape[0]], dtype=torch.float32)
            coordinates = torch.tensor(np.ascontiguousarray(xy), dtype=torch.float32) / scale * self.image_size
            points = {
                "point_coords": coordinates[None].to(self.device),
                "point_labels": torch.tensor(labels, dtype=torch.int32)[None].to(self.device),
            }
            if previous is not None:
                previous = previous.to(self.device).clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        if first_look:
            conditioning, others = {}, {}  # which SAM 2 would not look at
        with self.running():
            return self._step(
                features,
                1,
                frame_idx=index,
                is_init_cond_frame=first_look,
                point_inputs=points,
                mask_inputs=mask,
                output_dict=self._memories(conditioning, others),
                num_frames=num_slices,
                track_in_reverse=reverse,
                prev_sam_mask_logits=previous if points is not None else None,
            )

    def track(
        self,
        features: LevelFeatures,
        index: int,
        num_objects: int,
        num_slices: int,
        reverse: bool,
        conditioning: Memories,
        others: Memories,
    ) -> SliceOutput:
        """The masks of N objects on a slice without prompts, remembered; memories are of these N objects."""
        with self.running():
            output = self._step(
                features,
                num_objects,
                frame_idx=index,
                is_init_cond_frame=False,
                point_inputs=None,
                mask_inputs=None,
                output_dict=self._memories(conditioning, others),
                num_frames=num_slices,
                track_in_reverse=reverse,
                prev_sam_mask_logits=None,
            )
            return self._remember(features, output, prompted=False)

    def remember(self, features: LevelFeatures, output: SliceOutput) -> SliceOutput:
        """The output for a slice with prompts, with its memory."""
        with self.running():
            return self._remember(features, output.to(self.device), prompted=True)

    def _flat(self, features: LevelFeatures, count: int) -> list[torch.Tensor]:
        """Levels (1, C, h, w) -> (h w, count, C)."""
        return [level.expand(count, -1, -1, -1).flatten(2).permute(2, 0, 1) for level in features]

    def _step(self, features: LevelFeatures, count: int, **step: Any) -> SliceOutput:
        assert self._position is not None, "nothing was encoded"
        _, heads, _, _ = self.model._track_step(
            current_vision_feats=self._flat(features, count),
            current_vision_pos_embeds=[self._position.expand(-1, count, -1)],
            feat_sizes=self.feature_sizes,
            **step,
        )
        _, _, qualities, logits, _, pointer, presence = heads
        # objects of a batch may come from points and from masks, whose parts autocast leaves in different precisions
        return SliceOutput(logits.float(), pointer.float(), presence.float(), qualities.float().amax(dim=-1))

    def _remember(self, features: LevelFeatures, output: SliceOutput, prompted: bool) -> SliceOutput:
        size = (self.image_size, self.image_size)
        large = logits_at(output.logits, size)
        memory, position = self.model._encode_new_memory(
            current_vision_feats=self._flat(features, len(output.logits)),
            feat_sizes=self.feature_sizes,
            pred_masks_high_res=large,
            object_score_logits=output.presence,
            is_mask_from_pts=prompted,
        )
        if self._memory_position is None:
            self._memory_position = position[-1][:1].clone()
        return output._replace(memory=memory.to(torch.bfloat16))

    def _memories(self, conditioning: Memories, others: Memories) -> dict[str, dict[int, dict[str, Any]]]:
        places = self._memory_position
        here = [{i: output.to(self.device) for i, output in known.items()} for known in (conditioning, others)]
        cond, non_cond = ({i: output.for_sam2(places) for i, output in known.items()} for known in here)
        return {"cond_frame_outputs": cond, "non_cond_frame_outputs": non_cond}
