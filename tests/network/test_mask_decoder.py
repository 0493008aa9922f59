"""The decoder for many masks, against SAM 2's own."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_sam2_3dmed.network.mask_decoder import ManyMaskDecoder
from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base

CHANNELS, GRID = 256, 3


@pytest.mark.parametrize("masks", [1, 2, 5])
@pytest.mark.parametrize("backbone", ["sam2.1_hiera_tiny", "sam2_hiera_tiny"])
@torch.no_grad()
def test_masks_and_tokens_equal_those_that_sam2_decodes(masks, backbone):
    torch.manual_seed(0)
    decoder = ManyMaskDecoder(build_sam2_base(backbone, 64, with_trunk=False).sam_mask_decoder, masks).eval()
    features = torch.randn(2, CHANNELS, GRID, GRID)
    dense, place = torch.randn(2, CHANNELS, GRID, GRID), torch.randn(1, CHANNELS, GRID, GRID)
    prompt = torch.randn(3, CHANNELS)
    stride4 = torch.randn(2, CHANNELS // 8, 4 * GRID, 4 * GRID)
    stride8 = torch.randn(2, CHANNELS // 4, 2 * GRID, 2 * GRID)

    found = decoder.decode(features + dense, place, prompt, stride4, stride8, decoder.hypernetworks())

    # sam2's loop over hypernetworks, which the subclass does not touch
    expected, _, expected_tokens, _ = decoder.predict_masks(
        image_embeddings=features,
        image_pe=place,
        sparse_prompt_embeddings=prompt.expand(2, -1, -1),
        dense_prompt_embeddings=dense,
        repeat_image=False,
        high_res_features=[stride4, stride8],
    )
    torch.testing.assert_close(found.masks, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.tokens, expected_tokens, atol=1e-5, rtol=1e-5)
    product = torch.einsum("bkc,bchw->bkhw", *found.factors)
    torch.testing.assert_close(product, found.masks)


def test_every_hypernetwork_gets_the_gradient_of_its_mask():
    torch.manual_seed(0)
    decoder = ManyMaskDecoder(build_sam2_base("sam2.1_hiera_tiny", 64, with_trunk=False).sam_mask_decoder, 3)
    masks = decoder.decode(
        torch.randn(1, CHANNELS, GRID, GRID),
        torch.randn(1, CHANNELS, GRID, GRID),
        torch.randn(2, CHANNELS),
        torch.randn(1, CHANNELS // 8, 4 * GRID, 4 * GRID),
        torch.randn(1, CHANNELS // 4, 2 * GRID, 2 * GRID),
        decoder.hypernetworks(),
    ).masks
    masks[:, 1].sum().backward()
    reached = [
        any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
        for network in decoder.output_hypernetworks_mlps
    ]
    assert reached == [False, True, False]
