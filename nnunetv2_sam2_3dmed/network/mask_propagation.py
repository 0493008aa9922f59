"""SAM 2's memory over the slices of a stack: the structure that both branches of SAM2-3dMed share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from nnunetv2_sam2_3dmed.network.checkpointing import recomputed
from nnunetv2_sam2_3dmed.network.compilation import EAGER, Compiled, compiled_function, in_usual_order, mark_dynamic
from nnunetv2_sam2_3dmed.network.mask_decoder import HypernetworkLayer, ManyMaskDecoder
from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base, get_1d_sine_pe
from nnunetv2_sam2_3dmed.network.self_sorting import SliceSummary, memories_to_attend
from nnunetv2_sam2_3dmed.network.slice_encoder import SliceFeatures


class Memory(NamedTuple):
    """What is kept of one slice.

    Attributes:
        spatial: spatial memory (B, M, H', W').
        pointer: object pointer (B, C).
        summary: by which a self-sorting memory chooses; None without one.
    """

    spatial: torch.Tensor
    pointer: torch.Tensor
    summary: SliceSummary | None = None


class ForAllSlices(NamedTuple):
    """What decoding needs that no slice changes.

    Attributes:
        place: the encoding (1, C, H', W') of the places in a slice.
        hypernetworks: of all masks.
    """

    place: torch.Tensor
    hypernetworks: Sequence[HypernetworkLayer]


def _by_slice(level: torch.Tensor, compiled: Compiled) -> tuple[torch.Tensor, ...]:
    """The slices (B, C, H, W) of a level (B, D, C, H, W); in one piece, so that backward puts it together once.

    For compiled code channels come last, as the trunk has them, and strides do not depend on the depth or on who made
    the level: one graph serves training, validation and windows from the cache of slices.
    """
    if compiled == EAGER:
        return level.unbind(1)
    return in_usual_order(level.permute(1, 0, 3, 4, 2)).permute(0, 1, 4, 2, 3).unbind()


def _of_any_number(spatial: torch.Tensor, pointers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (N, B, M) for code that is compiled once for all N."""
    spatial, pointers = in_usual_order(spatial), in_usual_order(pointers)
    mark_dynamic(spatial, 0)
    mark_dynamic(pointers, 0)
    return spatial, pointers


def _attend(
    memory_attention: nn.Module,
    embedding: torch.Tensor,
    position: torch.Tensor,
    tokens: tuple[torch.Tensor, torch.Tensor],
    positions: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Runs memory attention.

    Args:
        memory_attention: SAM 2's.
        embedding: (B, C, H', W').
        position: (1, C, H', W').
        tokens: (R * H' W', B, M), spatial memory, and (P, B, M), object pointers.
        positions: theirs.

    Returns:
        (B, C, H', W').
    """
    batch = embedding.shape[0]
    conditioned = memory_attention(
        curr=embedding.flatten(2).permute(2, 0, 1),  # (H'W', B, C)
        curr_pos=position.flatten(2).permute(2, 0, 1).expand(-1, batch, -1),
        memory=torch.cat(tokens),
        memory_pos=torch.cat(positions),
        num_obj_ptr_tokens=tokens[1].shape[0],
    )
    return conditioned.permute(1, 2, 0).view_as(embedding)


class Propagated(NamedTuple):
    """Results of a branch for B stacks of D slices.

    Attributes:
        masks: mask logits (B, D, K, S/4, S/4).
        decoded: (B, D, C, S/16, S/16), the features that the decoder was given; with both directions, those of 2 B
            stacks, the second half of which is the way back. None unless asked for.
    """

    masks: torch.Tensor
    decoded: torch.Tensor | None


class MaskPropagation(nn.Module):
    """Memory attention, mask decoder and memory encoder, run over the slices from 0 to D - 1.

    Slice i is conditioned on the memory of slice 0 and of the slices just before it, as SAM 2 conditions a
    video frame (``SAM2Base._prepare_memory_conditioned_features``); the decoder, without a prompt, gives K
    masks in one pass from K mask tokens; the memory encoder stores the slice with all K masks.

    SAM 2's heads for mask quality and object presence take no part: an object counts as present, and where
    it is not its mask is empty.

    Compiled, a slice is two graphs for all slices: memory attention, whose number of memory tokens is dynamic, and all
    that follows, whose shapes are static.

    Args:
        sam2: a freshly built SAM 2, whose parts this module takes over.
        num_masks: K.
        fusion: a module (conditioned features, encoder features) -> features that the decoder gets instead
            of the conditioned ones, both (B, C, H', W'); the boundary branch has one.
        bidirectional: also run over the slices from D - 1 to 0, and average the logits.
        self_sorting: a slice is conditioned on the memories that ``self_sorting.memories_to_attend`` chooses,
            instead of on slice 0 and the slices just before it.
        checkpointing: in training, keep of each slice only its masks and its memory, and compute the rest a second
            time in backward.
        memory_attention: another branch's, to share it; by default ``sam2``'s own.
    """

    def __init__(
        self,
        sam2: SAM2Base,
        num_masks: int,
        fusion: nn.Module | None = None,
        bidirectional: bool = False,
        self_sorting: bool = False,
        checkpointing: bool = False,
        memory_attention: nn.Module | None = None,
    ):
        super().__init__()
        self.num_masks = num_masks
        self.bidirectional = bidirectional
        self.self_sorting = self_sorting
        self.checkpointing = checkpointing
        self.num_memories = sam2.num_maskmem
        self.max_pointers = sam2.max_obj_ptrs_in_encoder
        self.image_size = sam2.image_size
        self.mask_scale = sam2.sigmoid_scale_for_mem_enc
        self.mask_bias = sam2.sigmoid_bias_for_mem_enc
        # SAM 2.0 gives its object pointers no place in time, SAM 2.1 does
        self.pointers_know_distance = sam2.add_tpos_enc_to_obj_ptrs

        self.memory_attention = sam2.memory_attention if memory_attention is None else memory_attention
        self.memory_encoder = sam2.memory_encoder
        self.mask_decoder = ManyMaskDecoder(sam2.sam_mask_decoder, num_masks)
        self.pointer_projection = sam2.obj_ptr_proj
        self.pointer_distance_projection = sam2.obj_ptr_tpos_proj
        self.memory_age = sam2.maskmem_tpos_enc
        self.no_memory = sam2.no_mem_embed
        # what SAM 2's prompt encoder gives when there is no prompt
        self.position_encoding = sam2.sam_prompt_encoder.pe_layer
        self.no_point = sam2.sam_prompt_encoder.not_a_point_embed
        self.no_mask = sam2.sam_prompt_encoder.no_mask_embed
        # SAM 2's tokens for three candidate masks decode nothing here, but its single-mask token attends to them
        self.candidate_tokens = nn.Parameter(sam2.sam_mask_decoder.mask_tokens.weight[1:].detach().clone())
        self.fusion = fusion

        if num_masks != 1:
            first = self.memory_encoder.mask_downsampler.encoder[0]
            self.memory_encoder.mask_downsampler.encoder[0] = nn.Conv2d(
                num_masks, first.out_channels, first.kernel_size, first.stride, first.padding
            )

    def forward(
        self,
        features: SliceFeatures,
        added: torch.Tensor | None = None,
        keep_decoded: bool = False,
        compiled: Compiled = EAGER,
    ) -> Propagated:
        """Projects and propagates the encoder's features; arguments as for :meth:`propagate`."""
        return self.propagate(self.project(features), added, keep_decoded, compiled)

    def project(self, features: SliceFeatures) -> SliceFeatures:
        """The two finer levels as the decoder takes them, with C/8 and C/4 channels: all that is done per slice."""
        return features._replace(
            stride4=self._lateral(self.mask_decoder.conv_s0, features.stride4),
            stride8=self._lateral(self.mask_decoder.conv_s1, features.stride8),
        )

    def propagate(
        self,
        projected: SliceFeatures,
        added: torch.Tensor | None = None,
        keep_decoded: bool = False,
        compiled: Compiled = EAGER,
    ) -> Propagated:
        """Goes through B stacks from their first slices to their last.

        Args:
            projected: of :meth:`project`.
            added: another branch's ``decoded``, which is added to what the decoder gets.
            keep_decoded: the result has ``decoded``.
            compiled: how each slice is computed.
        """
        depth = projected.stride16.shape[1]
        if self.bidirectional:
            # the way back is more stacks of the same batch
            stride4, stride8, stride16 = (torch.cat([level, level.flip(1)]) for level in projected[:3])
            projected = SliceFeatures(stride4, stride8, stride16, projected.position)
        masks, decoded = self.walk(projected, [], depth, added, keep_decoded, False, compiled)
        if self.bidirectional:
            there, back = masks.chunk(2)
            masks = (there + back.flip(1)) / 2
        return Propagated(masks, decoded)

    def walk(
        self,
        projected: SliceFeatures,
        memories: list[Memory],
        horizon: int,
        added: torch.Tensor | None = None,
        keep_decoded: bool = False,
        to_be_continued: bool = True,
        compiled: Compiled = EAGER,
    ) -> Propagated:
        """Goes on over D more slices of B stacks.

        Args:
            projected: features of these slices.
            memories: of the slices before them, at most ``horizon - 1``, oldest first; those of these slices are
                added, and the oldest dropped. Empty at the start.
            horizon: slices that know of each other. A slice far from the start sees what the last one of a stack of
                this depth sees: the oldest memory there is takes the place of slice 0.
            added: (B, D, C, H', W'), see :meth:`propagate`.
            keep_decoded: the result has ``decoded``.
            to_be_continued: the last slice is remembered as well.
            compiled: how each slice is computed.
        """
        depth = projected.stride16.shape[1]
        same = self.for_all_slices(projected.stride16.shape[-2:])
        position = projected.position if compiled == EAGER else in_usual_order(projected.position)
        levels = [_by_slice(level, compiled) for level in projected[:3]]
        others = [None] * depth if added is None else _by_slice(added, compiled)
        masks, decoded = [], []
        for i, (stride4, stride8, stride16, more) in enumerate(zip(*levels, others, strict=True)):
            slices = SliceFeatures(stride4, stride8, stride16, position)
            # a compiled slice is always remembered: one graph less
            remembered = to_be_continued or i < depth - 1 or compiled != EAGER
            step = partial(self._step, slices, same, tuple(memories), horizon, more, remembered, compiled)
            if self.checkpointing and torch.is_grad_enabled():
                mask, features, memory = recomputed(step, stride16, stride16[0, 0].numel())
            else:
                mask, features, memory = step()
            masks.append(mask)
            if keep_decoded:
                decoded.append(features)
            if memory is not None:
                memories.append(memory)
                del memories[: max(0, len(memories) - (horizon - 1))]
        return Propagated(torch.stack(masks, dim=1), torch.stack(decoded, dim=1) if keep_decoded else None)

    def _step(
        self,
        slices: SliceFeatures,
        same: ForAllSlices,
        memories: Sequence[Memory],
        horizon: int,
        added: torch.Tensor | None,
        remembered: bool,
        compiled: Compiled,
    ) -> tuple[torch.Tensor, torch.Tensor, Memory | None]:
        """The masks of one slice of each stack (features without D), what was decoded, and what is remembered of it."""
        conditioned = self.condition(slices.stride16, slices.position, memories, horizon, compiled)
        if compiled != EAGER:
            # the first slice, which no memory conditions, is laid out as all others
            conditioned = in_usual_order(conditioned.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        answer = compiled_function(MaskPropagation._answer, compiled)
        return answer(self, conditioned, slices, same, added, remembered)

    def _answer(
        self,
        conditioned: torch.Tensor,
        slices: SliceFeatures,
        same: ForAllSlices,
        added: torch.Tensor | None,
        remembered: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, Memory | None]:
        """All of a step that follows memory attention."""
        features = conditioned
        if self.fusion is not None:
            features = self.fusion(features, slices.stride16)
        if added is not None:
            features = features + added
        masks, token = self.decode(features, slices.stride4, slices.stride8, same)
        memory = self.remember(slices.stride16, masks, token) if remembered else None
        return masks, features, memory

    @staticmethod
    def _lateral(convolution: nn.Module, level: torch.Tensor) -> torch.Tensor:
        return convolution(level.flatten(0, 1)).unflatten(0, level.shape[:2])

    def condition(
        self,
        embedding: torch.Tensor,
        position: torch.Tensor,
        memories: Sequence[Memory],
        depth: int,
        compiled: Compiled = EAGER,
    ) -> torch.Tensor:
        """Conditions a slice on the memories of all slices before it in the stack.

        Args:
            embedding: (B, C, H', W'), the slice's stride-16 features.
            position: (1, C, H', W').
            memories: those of slices 0 to i - 1, in this order; none for the first slice of a stack.
            depth: D, the number of slices in the stack (SAM 2 states the age of object pointers relative to it).
            compiled: how memory attention is computed.

        Returns:
            (B, C, H', W').
        """
        if not memories:
            return embedding + self.no_memory.view(1, -1, 1, 1)
        spatial, spatial_position = (
            self._chosen_tokens(embedding, memories) if self.self_sorting else self._spatial_tokens(memories)
        )
        pointers, pointer_position = self._pointer_tokens(memories, depth)
        tokens, positions = (spatial, pointers), (spatial_position, pointer_position)
        if compiled != EAGER:
            tokens, positions = (_of_any_number(*each) for each in (tokens, positions))
        attend = compiled_function(_attend, compiled)
        return attend(self.memory_attention, embedding, position, tokens, positions)

    def _spatial_tokens(self, memories: Sequence[Memory]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of slice 0 and of up to ``num_memories - 1`` slices before this one, oldest first."""
        here = len(memories)
        recent = range(max(here - self.num_memories + 1, 1), here)
        spatial = [memories[i].spatial.flatten(2).permute(2, 0, 1) for i in (0, *recent)]  # each (H'W', B, M)
        # slice 0 is what SAM 2 calls the conditioning frame, with an age of its own: the last entry
        ages = torch.cat([self.memory_age[-1:], self.memory_age[: len(recent)].flip(0)])
        return torch.cat(spatial), self._spatial_positions(memories[0].spatial, ages)

    def _spatial_positions(self, spatial: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
        """Place and age of the tokens of N memories, shaped as one ``spatial`` (B, M, H', W'): (N * H'W', B, M).

        Args:
            spatial: any of them.
            ages: (N, 1, 1 or B, M), the entries for their ages.
        """
        place = self.memory_encoder.position_encoding(spatial).flatten(2).permute(2, 0, 1)
        return (place + ages).flatten(0, 1)

    def _chosen_tokens(self, embedding: torch.Tensor, memories: Sequence[Memory]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of the memories that each stack chooses for itself.

        Ages as SAM 2 has them; what is older than its latest slices has the entry of its conditioning frame.
        """
        here = len(memories)
        summaries = [memory.summary for memory in memories if memory.summary is not None]
        chosen = memories_to_attend(summaries, embedding, self.num_memories)
        spatial = torch.stack([memory.spatial for memory in memories])  # (N, B, M, H', W')
        tokens = spatial.flatten(3).permute(0, 3, 1, 2)  # (N, H'W', B, M)
        count, length, batch, width = len(chosen), *tokens.shape[1:]
        tokens = tokens.gather(0, chosen[:, None, :, None].expand(-1, length, -1, width))
        ages = self.memory_age[(here - 1 - chosen).clamp(max=self.num_memories - 1)].view(count, 1, batch, width)
        return tokens.flatten(0, 1), self._spatial_positions(memories[0].spatial, ages)

    def _pointer_tokens(self, memories: Sequence[Memory], depth: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Object pointers of slice 0 and of the slices before this one, newest first, cut into tokens of M."""
        here = len(memories)
        most = min(depth, self.max_pointers)
        chosen = [0, *range(here - 1, max(here - most, 0), -1)]
        pointers = torch.stack([memories[i].pointer for i in chosen])  # (P, B, C)
        count, batch, channels = pointers.shape
        width = self.memory_age.shape[-1]
        if self.pointers_know_distance:
            # of slice 0, then of the others; made on the device, since a copy to it would wait for it
            distance = torch.arange(count, device=pointers.device)
            distance[0] = here
            encoded = get_1d_sine_pe(distance / (most - 1), dim=channels)
            position = self.pointer_distance_projection(encoded)[:, None].expand(-1, batch, -1)
        else:
            position = pointers.new_zeros(count, batch, width)
        pieces = channels // width
        tokens = pointers.view(count, batch, pieces, width).transpose(1, 2).flatten(0, 1)
        return tokens, position.repeat_interleave(pieces, dim=0)

    def for_all_slices(self, grid: Sequence[int]) -> ForAllSlices:
        """What :meth:`decode` needs for slices of a grid (H', W')."""
        return ForAllSlices(self.position_encoding(tuple(grid)).unsqueeze(0), self.mask_decoder.hypernetworks())

    def decode(
        self, features: torch.Tensor, stride4: torch.Tensor, stride8: torch.Tensor, same: ForAllSlices
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decodes K masks of a slice without any prompt.

        Args:
            features: (B, C, H', W'), conditioned on memory.
            stride4: (B, C/8, 4H', 4W'), the projected finest level.
            stride8: (B, C/4, 2H', 2W').
            same: what :meth:`for_all_slices` gives for H' and W'.

        Returns:
            Mask logits (B, K, 4H', 4W') and the mean of the K mask tokens (B, C).
        """
        # SAM 2 says "no point" with two tokens: the empty point, and the padding that follows any points
        prompt = torch.cat([self.no_point.weight.expand(2, -1), self.candidate_tokens])
        dense = features + self.no_mask.weight.view(1, -1, 1, 1)
        masks, tokens = self.mask_decoder.decode(dense, same.place, prompt, stride4, stride8, same.hypernetworks)
        return masks.float(), tokens.mean(dim=1)

    def remember(self, embedding: torch.Tensor, masks: torch.Tensor, token: torch.Tensor) -> Memory:
        """Encodes a slice's features (B, C, H', W') with its mask logits (B, K, 4H', 4W') into a memory."""
        size = (self.image_size, self.image_size)
        # with channels last, resizing and convolving many masks takes a third of the time
        masks_last = masks.contiguous(memory_format=torch.channels_last)
        large = F.interpolate(masks_last, size=size, mode="bilinear", align_corners=False)
        weights = torch.sigmoid(large) * self.mask_scale + self.mask_bias
        encoded = self.memory_encoder(embedding, weights, skip_mask_sigmoid=True)
        summary = SliceSummary.of(embedding, masks) if self.self_sorting else None
        return Memory(encoded["vision_features"], self.pointer_projection(token), summary)
