"""From the first step on, a click is about its place."""

import torch

from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base
from nnunetv2_sam2_3dmed.prompting.fresh_decoder import attend_to_places

SIZE, GRID = 96, 6


def share_at_place(sam2, clicks: torch.Tensor) -> float:
    """How clicks (N, 2), in places of the grid, attend to their own place in the first layer; 1 / 36 is the mean."""
    encoder = sam2.sam_prompt_encoder
    attention = sam2.sam_mask_decoder.transformer.layers[0].cross_attn_token_to_image
    points = (clicks.flip(-1)[:, None] + 0.5) * SIZE / GRID  # x before y
    tokens, _ = encoder(points=(points, torch.ones(len(clicks), 1, dtype=torch.int)), boxes=None, masks=None)
    queries = attention.q_proj(2 * tokens[:, :1])  # SAM 2 adds the prompt to itself
    image = encoder.get_dense_pe()[0].flatten(1).T + 0.3 * torch.randn(GRID * GRID, 256)
    keys = attention.k_proj(image)[None]
    heads = [attention._separate_heads(t, attention.num_heads) for t in (queries, keys)]
    logits = heads[0] @ heads[1].transpose(-1, -2) / heads[0].shape[-1] ** 0.5
    own = clicks[:, 0] * GRID + clicks[:, 1]
    return float(logits.softmax(dim=-1)[torch.arange(len(clicks)), :, 0, own].mean())


@torch.no_grad()
def test_a_click_looks_at_its_place_and_before_it_did_not():
    torch.manual_seed(0)
    sam2 = build_sam2_base("sam2.1_hiera_tiny", SIZE, with_trunk=False)
    clicks = torch.tensor([[row, column] for row in range(GRID) for column in range(GRID)])
    assert share_at_place(sam2, clicks) < 2 / GRID**2
    attend_to_places(sam2.sam_mask_decoder)
    assert share_at_place(sam2, clicks) > 5 / GRID**2
