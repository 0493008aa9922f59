"""What a mask decoder needs to learn to follow prompts from random weights; SAM 2's code counts on a checkpoint."""

from __future__ import annotations

import torch

from nnunetv2_sam2_3dmed.network.sam2_modules import MaskDecoder

_GAIN = 2.0  # attention to the own place is then about ten times the average, on a grid of 6 x 6


@torch.no_grad()
def attend_to_places(decoder: MaskDecoder) -> None:
    """Lets a prompt look at its place in the image, and the image at the prompts that are near.

    A prompt and a place are both encoded by the same sines. Queries and keys that are projected by unrelated random
    weights do not see that, and it takes a long time to learn; projected alike, what is near is alike.

    Args:
        decoder: freshly initialised; changed in place.
    """
    transformer = decoder.transformer
    crossing = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        crossing += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in crossing:
        attention.q_proj.weight.mul_(_GAIN**0.5)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
