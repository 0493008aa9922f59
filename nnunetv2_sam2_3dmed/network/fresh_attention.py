"""Initialisation with which SAM 2 learns from random weights to follow prompts and memories."""

from __future__ import annotations

import torch

from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base

# on a grid of 6 x 6 places, the own place then gets about ten (prompts) and twenty times (memories) the mean attention
_PROMPT_GAIN = 2.0
_TOKEN_GAIN = 4.0
_MEMORY_BIAS = 3.0
_MEMORY_GAIN = 2.0  # memories are then about as large as the slice's own features


@torch.no_grad()
def attend_to_places(sam2: SAM2Base) -> None:
    """Initialise SAM 2's attention layers to attend to the same place.

    Prompts attend to themselves and to their place in the image, image places to prompts nearby, and slices to the same
    places in memories. Queries and keys of the same place are then similar from the first step on; with unrelated
    random projections this takes long to learn (``benchmarks/prompt_learning.py``).

    Args:
        sam2: freshly initialised; changed in place.
    """
    transformer = sam2.sam_mask_decoder.transformer
    crossing = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        # the first layer replaces tokens by what they look at: all alike, the mean of all would lose the prompt
        layer.self_attn.q_proj.weight.mul_(_TOKEN_GAIN**0.5)
        layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
        crossing += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in crossing:
        # prompts and places are encoded by the same sines: projected alike, they stay alike
        attention.q_proj.weight.mul_(_PROMPT_GAIN**0.5)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
    for layer in sam2.memory_attention.layers:
        # of constant queries and keys, the rotary encoding leaves how far places are apart
        layer.cross_attn_image.q_proj.bias.fill_(_MEMORY_BIAS)
        layer.cross_attn_image.k_proj.bias.fill_(_MEMORY_BIAS)
        layer.cross_attn_image.v_proj.weight.mul_(_MEMORY_GAIN)
        layer.cross_attn_image.out_proj.weight.mul_(_MEMORY_GAIN)
