"""SAM 2's mask decoder for many masks at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from nnunetv2_sam2_3dmed.network.precision import as_autocast_would
from nnunetv2_sam2_3dmed.network.sam2_modules import MaskDecoder


class HypernetworkLayer(NamedTuple):
    """One layer of the K perceptrons that map mask tokens to the weights of masks.

    Attributes:
        weights: (K, inputs, outputs).
        biases: (K, 1, outputs).
    """

    weights: torch.Tensor
    biases: torch.Tensor


class ForAllSlices(NamedTuple):
    """Inputs of the decoder that are the same for all slices.

    Attributes:
        place: (1, C, H', W'), positional encoding of the places in a slice.
        hypernetworks: of all masks, made once since their weights are copied.
    """

    place: torch.Tensor
    hypernetworks: Sequence[HypernetworkLayer]


class Factors(NamedTuple):
    """Factors whose product the masks are.

    Attributes:
        weights: (B, K, C/8), what the hypernetworks make of the mask tokens.
        pixels: (B, C/8, 4H', 4W'), the pixel features.
    """

    weights: torch.Tensor
    pixels: torch.Tensor


class Decoded(NamedTuple):
    """Masks of one slice of each stack.

    Attributes:
        masks: logits (B, K, 4H', 4W').
        tokens: (B, K, C), the mask tokens.
        factors: of the masks.
    """

    masks: torch.Tensor
    tokens: torch.Tensor
    factors: Factors


class ManyMaskDecoder(MaskDecoder):
    """SAM 2's decoder with K mask tokens and without its heads for mask quality and object presence.

    Its parameters are SAM 2's by name. SAM 2 runs its hypernetworks one after the other, which suits its four; here all
    K run as one, so that the launches of a slice do not grow with the number of classes.

    Args:
        original: SAM 2's decoder; its transformer is taken over, the rest is freshly initialised.
        num_masks: K.
    """

    def __init__(self, original: MaskDecoder, num_masks: int):
        super().__init__(
            transformer_dim=original.transformer_dim,
            transformer=original.transformer,
            num_multimask_outputs=num_masks - 1,
            use_high_res_features=True,
            pred_obj_scores=original.pred_obj_scores,
        )
        self.iou_prediction_head = nn.Identity()
        self.pred_obj_score_head = nn.Identity()

    def hypernetworks(self) -> list[HypernetworkLayer]:
        """Stack the layers of all K; made once for all slices of a stack, since their weights are copied."""
        layers = zip(*(network.layers for network in self.output_hypernetworks_mlps), strict=True)
        return [
            HypernetworkLayer(
                as_autocast_would(torch.stack([layer.weight for layer in same])).mT,
                as_autocast_would(torch.stack([layer.bias for layer in same]))[:, None],
            )
            for same in layers
        ]

    def decode(
        self,
        features: torch.Tensor,
        place: torch.Tensor,
        prompt: torch.Tensor,
        stride4: torch.Tensor,
        stride8: torch.Tensor,
        hypernetworks: Sequence[HypernetworkLayer],
    ) -> Decoded:
        """Decode masks as SAM 2's ``predict_masks`` does, with one prompt for all.

        Args:
            features: (B, C, H', W'), with the dense prompt.
            place: (1, C, H', W'), the encoding of their places.
            prompt: (P, C), tokens.
            stride4: (B, C/8, 4H', 4W'), the projected finest level.
            stride8: (B, C/4, 2H', 2W').
            hypernetworks: of :meth:`hypernetworks`.
        """
        batch, _, height, width = features.shape
        own = [self.obj_score_token.weight] if self.pred_obj_scores else []
        first = len(own) + 1  # of the mask tokens
        tokens = torch.cat([*own, self.iou_token.weight, self.mask_tokens.weight, prompt]).expand(batch, -1, -1)
        found, features = self.transformer(features, place.expand(batch, -1, -1, -1), tokens)
        found = found[:, first : first + self.num_mask_tokens]
        features = features.transpose(1, 2).unflatten(2, (height, width))
        to_stride8, norm, activation, to_stride4, last_activation = self.output_upscaling
        finer = activation(norm(to_stride8(features) + stride8))
        finest = last_activation(to_stride4(finer) + stride4)
        weights = _run(hypernetworks, found)
        return Decoded(torch.einsum("bkc,bchw->bkhw", weights, finest), found, Factors(weights, finest))


def _run(layers: Sequence[HypernetworkLayer], tokens: torch.Tensor) -> torch.Tensor:
    """Apply each token's own network: (B, K, C) -> (B, K, outputs)."""
    x = tokens.transpose(0, 1)
    for number, layer in enumerate(layers):
        x = torch.baddbmm(layer.biases, x, layer.weights)
        if number < len(layers) - 1:
            x = torch.relu(x)
    return x.transpose(0, 1)
