"""SAM 2's memory over the slices of a stack: the structure that both branches of SAM2-3dMed share.

Which memories a slice attends to is a rule of its own: ``memory_rules``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from nnunetv2_sam2_3dmed.network.checkpointing import recomputed, recomputed_at_once
from nnunetv2_sam2_3dmed.network.compilation import (
    EAGER,
    Compiled,
    any_number_of_tokens,
    compiled_function,
    in_usual_order,
    unbind_slices,
)
from nnunetv2_sam2_3dmed.network.mask_decoder import Decoded, Factors, ForAllSlices, ManyMaskDecoder
from nnunetv2_sam2_3dmed.network.memory_rules import FirstAndLatest, Memory, MemoryRule, pointer_tokens
from nnunetv2_sam2_3dmed.network.refinement import MaskRefinement
from nnunetv2_sam2_3dmed.network.sam2_modules import STRIDE, SAM2Base
from nnunetv2_sam2_3dmed.network.slice_encoder import SliceFeatures, slices_at_once


def _attend(
    memory_attention: nn.Module,
    embedding: torch.Tensor,
    position: torch.Tensor,
    tokens: tuple[torch.Tensor, torch.Tensor],
    positions: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Condition a slice on memory tokens.

    Args:
        memory_attention: SAM 2's.
        embedding: (B, C, H', W').
        position: (1, C, H', W').
        tokens: (R * H' W', B, M), spatial memory, and (P, B, M), object pointers.
        positions: their positional encodings.

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
        masks: mask logits (B, D, K, S/4, S/4); refined, (B, D, K, S, S).
        decoded: (B, D, C, S/16, S/16), the features given to the decoder; bidirectional, (2B, D, C, S/16, S/16), the
            backward pass in the second half. None unless asked for.
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

    When compiled, all slices share two graphs: memory attention, with a dynamic number of memory tokens, and the rest
    of the step, with static shapes.

    Args:
        sam2: a freshly built SAM 2, whose parts this module takes over.
        num_masks: K.
        fusion: a module (conditioned features, encoder features) -> features that the decoder gets instead
            of the conditioned ones, both (B, C, H', W'); the boundary branch has one.
        bidirectional: also run over the slices from D - 1 to 0, and average the logits.
        rule: chooses the spatial memories that a slice attends to.
        checkpointing: in training, keep of each slice only its masks and its memory, and compute the rest a second
            time in backward.
        memory_attention: another branch's, to share it; by default ``sam2``'s own.
        refinement: takes the masks of all slices to the image's resolution, after propagation.
    """

    def __init__(
        self,
        sam2: SAM2Base,
        num_masks: int,
        fusion: nn.Module | None = None,
        bidirectional: bool = False,
        rule: MemoryRule = FirstAndLatest(),
        checkpointing: bool = False,
        memory_attention: nn.Module | None = None,
        refinement: MaskRefinement | None = None,
    ):
        super().__init__()
        self.num_masks = num_masks
        self.bidirectional = bidirectional
        self.rule = rule
        self.checkpointing = checkpointing
        self.max_pointers = sam2.max_obj_ptrs_in_encoder
        self.image_size = sam2.image_size
        self.mask_scale = sam2.sigmoid_scale_for_mem_enc
        self.mask_bias = sam2.sigmoid_bias_for_mem_enc
        # SAM 2.1 encodes how far back an object pointer lies, SAM 2.0 does not
        self.pointers_know_distance = sam2.add_tpos_enc_to_obj_ptrs

        self.memory_attention = sam2.memory_attention if memory_attention is None else memory_attention
        self.memory_encoder = sam2.memory_encoder
        self.mask_decoder = ManyMaskDecoder(sam2.sam_mask_decoder, num_masks)
        self.pointer_projection = sam2.obj_ptr_proj
        self.pointer_distance_projection = sam2.obj_ptr_tpos_proj
        self.memory_age = sam2.maskmem_tpos_enc
        self.no_memory = sam2.no_mem_embed
        # SAM 2's embeddings of an absent prompt
        self.position_encoding = sam2.sam_prompt_encoder.pe_layer
        self.no_point = sam2.sam_prompt_encoder.not_a_point_embed
        self.no_mask = sam2.sam_prompt_encoder.no_mask_embed
        # SAM 2's tokens for three candidate masks decode nothing here, but its single-mask token attends to them
        self.candidate_tokens = nn.Parameter(sam2.sam_mask_decoder.mask_tokens.weight[1:].detach().clone())
        self.fusion = fusion
        self.refinement = refinement

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
        images: torch.Tensor | None = None,
    ) -> Propagated:
        """Project and propagate the encoder's features; arguments as for :meth:`propagate`."""
        return self.propagate(self.project(features), added, keep_decoded, compiled, images)

    def project(self, features: SliceFeatures) -> SliceFeatures:
        """Project the two finer levels to the C/8 and C/4 channels that the decoder takes."""
        stride4, stride8 = (
            convolution(level.flatten(0, 1)).unflatten(0, level.shape[:2])
            for convolution, level in (
                (self.mask_decoder.conv_s0, features.stride4),
                (self.mask_decoder.conv_s1, features.stride8),
            )
        )
        return features._replace(stride4=stride4, stride8=stride8)

    def propagate(
        self,
        projected: SliceFeatures,
        added: torch.Tensor | None = None,
        keep_decoded: bool = False,
        compiled: Compiled = EAGER,
        images: torch.Tensor | None = None,
    ) -> Propagated:
        """Propagate masks through B stacks from their first slices to their last.

        Args:
            projected: of :meth:`project`.
            added: (B, D, C, H', W'), another branch's ``decoded``, which is added to the decoder's input.
            keep_decoded: the result has ``decoded``.
            compiled: how each slice is computed.
            images: (B, D, 3, S, S), the slices, where the branch refines its masks, and only there.
        """
        if (images is None) != (self.refinement is None):
            raise ValueError("images are needed to refine masks, and for nothing else")
        depth = projected.stride16.shape[1]
        if self.bidirectional:
            # the backward pass is B more stacks of the same batch
            stride4, stride8, stride16 = (torch.cat([level, level.flip(1)]) for level in projected[:3])
            projected = SliceFeatures(stride4, stride8, stride16, projected.position)
        same = self.for_all_slices(projected.stride16.shape[-2:])
        position = projected.position if compiled == EAGER else in_usual_order(projected.position)
        levels = [unbind_slices(level, compiled) for level in projected[:3]]
        others = [None] * depth if added is None else unbind_slices(added, compiled)
        memories: list[Memory] = []
        factors: list[Factors] = []
        masks, decoded = [], []
        for i, (stride4, stride8, stride16, more) in enumerate(zip(*levels, others, strict=True)):
            slices = SliceFeatures(stride4, stride8, stride16, position)
            # nothing reads the last slice's memory; compiled, it is made all the same, which saves a graph
            remembered = i < depth - 1 or compiled != EAGER
            step = partial(self._step, slices, same, tuple(memories), depth, more, remembered, compiled)
            if self.checkpointing and torch.is_grad_enabled():
                mask, product, features, memory = recomputed(step, stride16, stride16[0, 0].numel())
            else:
                mask, product, features, memory = step()
            masks.append(mask)
            if product is not None:
                factors.append(product)
            if keep_decoded:
                decoded.append(features)
            if memory is not None:
                memories.append(memory)
        stacked = torch.stack(masks, dim=1)
        if self.refinement is not None and images is not None:
            stacked = self._refined(self.refinement, stacked, factors, images)
        if self.bidirectional:
            forward, backward = stacked.chunk(2)
            stacked = (forward + backward.flip(1)) / 2
        return Propagated(stacked, torch.stack(decoded, dim=1) if keep_decoded else None)

    def _refined(
        self, refinement: MaskRefinement, masks: torch.Tensor, factors: Sequence[Factors], images: torch.Tensor
    ) -> torch.Tensor:
        """Refine the masks (B, D, K, S/4, S/4) of all slices, some at a time: (B, D, K, S, S)."""
        if self.bidirectional:
            images = torch.cat([images, images.flip(1)])
        weights, pixels = (torch.stack(level, dim=1).flatten(0, 1) for level in zip(*factors, strict=True))
        slices = (masks.flatten(0, 1), pixels, weights, images.flatten(0, 1))
        at_once, checkpointing = slices_at_once(images.device, self.image_size), False
        if torch.is_grad_enabled():
            at_once = recomputed_at_once(self.image_size)
            # activations at the image's resolution are large, and computed again within moments
            checkpointing = self.checkpointing or at_once < len(pixels)
        parts = []
        for some in zip(*(each.split(at_once) for each in slices), strict=True):
            refine = partial(refinement, *some)
            tokens = (self.image_size // STRIDE) ** 2
            parts.append(recomputed(refine, some[-1], tokens, draws=False) if checkpointing else refine())
        return torch.cat(parts).unflatten(0, masks.shape[:2])

    def _step(
        self,
        slices: SliceFeatures,
        same: ForAllSlices,
        memories: Sequence[Memory],
        depth: int,
        added: torch.Tensor | None,
        remembered: bool,
        compiled: Compiled,
    ) -> tuple[torch.Tensor, Factors | None, torch.Tensor, Memory | None]:
        """Compute a slice of each stack (features without D), as :meth:`_answer` says."""
        conditioned = self.condition(slices.stride16, slices.position, memories, depth, compiled)
        if compiled != EAGER:
            # the first slice, which attends to no memory, gets the strides of all others
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
    ) -> tuple[torch.Tensor, Factors | None, torch.Tensor, Memory | None]:
        """Compute the part of a step that follows memory attention.

        Returns:
            The masks, their factors where they are to be refined, the decoder's input and the memory.
        """
        features = conditioned
        if self.fusion is not None:
            features = self.fusion(features, slices.stride16)
        if added is not None:
            features = features + added
        masks, tokens, factors = self.decode(features, slices.stride4, slices.stride8, same)
        memory = self.remember(slices.stride16, masks, tokens.mean(dim=1)) if remembered else None
        return masks, None if self.refinement is None else factors, features, memory

    def condition(
        self,
        embedding: torch.Tensor,
        position: torch.Tensor,
        memories: Sequence[Memory],
        depth: int,
        compiled: Compiled = EAGER,
    ) -> torch.Tensor:
        """Condition a slice on the memories of the slices before it in the stack.

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
        spatial, ages = self.rule.choose(memories, embedding, self.memory_age)
        place = self.memory_encoder.position_encoding(memories[0].spatial).flatten(2).permute(2, 0, 1)  # (H'W', B, M)
        pointers, distances = pointer_tokens(
            memories,
            depth,
            self.max_pointers,
            spatial.shape[-1],
            self.pointer_distance_projection if self.pointers_know_distance else None,
        )
        tokens, positions = (spatial, pointers), ((place + ages).flatten(0, 1), distances)
        if compiled != EAGER:
            tokens, positions = (any_number_of_tokens(*each) for each in (tokens, positions))
        attend = compiled_function(_attend, compiled)
        return attend(self.memory_attention, embedding, position, tokens, positions)

    def for_all_slices(self, grid: Sequence[int]) -> ForAllSlices:
        """Prepare :meth:`decode` for slices of a grid (H', W')."""
        return ForAllSlices(self.position_encoding(tuple(grid)).unsqueeze(0), self.mask_decoder.hypernetworks())

    def decode(
        self, features: torch.Tensor, stride4: torch.Tensor, stride8: torch.Tensor, same: ForAllSlices
    ) -> Decoded:
        """Decode K masks of a slice without a prompt; the logits are float32.

        Args:
            features: (B, C, H', W'), conditioned on memory.
            stride4: (B, C/8, 4H', 4W'), the projected finest level.
            stride8: (B, C/4, 2H', 2W').
            same: of :meth:`for_all_slices` for H' and W'.
        """
        # SAM 2 encodes "no point" as two tokens: the empty point, and the padding that follows any points
        prompt = torch.cat([self.no_point.weight.expand(2, -1), self.candidate_tokens])
        dense = features + self.no_mask.weight.view(1, -1, 1, 1)
        answer = self.mask_decoder.decode(dense, same.place, prompt, stride4, stride8, same.hypernetworks)
        return answer._replace(masks=answer.masks.float())

    def remember(self, embedding: torch.Tensor, masks: torch.Tensor, token: torch.Tensor) -> Memory:
        """Encode a slice's features (B, C, H', W'), mask logits (B, K, 4H', 4W') and mean mask token (B, C)."""
        size = (self.image_size, self.image_size)
        # with channels last, resizing and convolving many masks takes a third of the time
        masks_last = masks.contiguous(memory_format=torch.channels_last)
        large = F.interpolate(masks_last, size=size, mode="bilinear", align_corners=False)
        weights = torch.sigmoid(large) * self.mask_scale + self.mask_bias
        encoded = self.memory_encoder(embedding, weights, skip_mask_sigmoid=True)
        return Memory(encoded["vision_features"], self.pointer_projection(token), self.rule.summarize(embedding, masks))
