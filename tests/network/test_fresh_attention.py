"""From the first step on, a click is about itself and its place, and a place about the same one in memories."""

import pytest
import torch
from sam2.modeling.position_encoding import apply_rotary_enc, compute_axial_cis

from nnunetv2_sam2_3dmed.network.fresh_attention import attend_to_places
from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base

SIZE, GRID = 96, 6
MEAN = 1 / GRID**2


@pytest.fixture
def sam2():
    torch.manual_seed(0)
    return build_sam2_base("sam2.1_hiera_tiny", SIZE, with_trunk=False)


def share(attention, queries: torch.Tensor, keys: torch.Tensor, own: torch.Tensor) -> float:
    """Mean attention of queries (N, heads, 1, c) to keys (heads, places, c) at their own places."""
    logits = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    return float(logits.softmax(dim=-1)[torch.arange(len(own)), :, 0, own].mean())


def clicks_at_their_place(sam2) -> float:
    encoder = sam2.sam_prompt_encoder
    attention = sam2.sam_mask_decoder.transformer.layers[0].cross_attn_token_to_image
    places = torch.tensor([[row, column] for row in range(GRID) for column in range(GRID)])
    points = (places.flip(-1)[:, None] + 0.5) * SIZE / GRID  # x before y
    tokens, _ = encoder(points=(points, torch.ones(len(places), 1, dtype=torch.int)), boxes=None, masks=None)
    image = encoder.get_dense_pe()[0].flatten(1).T + 0.3 * torch.randn(GRID * GRID, 256)
    queries = attention._separate_heads(attention.q_proj(2 * tokens[:, :1]), attention.num_heads)  # added to itself
    keys = attention._separate_heads(attention.k_proj(image)[None], attention.num_heads)[0]
    return share(attention, queries, keys, torch.arange(GRID * GRID))


def tokens_at_themselves(sam2) -> float:
    """Keys for as many tokens as there are places."""
    attention = sam2.sam_mask_decoder.transformer.layers[0].self_attn
    tokens = torch.randn(1, GRID * GRID, 256)
    queries, keys = (
        attention._separate_heads(project(tokens), attention.num_heads)[0]
        for project in (attention.q_proj, attention.k_proj)
    )
    return share(attention, queries.transpose(0, 1)[:, :, None], keys, torch.arange(GRID * GRID))


def slices_at_their_place(sam2) -> float:
    attention = sam2.memory_attention.layers[0].cross_attn_image
    queries = attention.q_proj(torch.randn(1, 1, GRID * GRID, 256))
    keys = attention.k_proj(torch.randn(1, 1, GRID * GRID, 64))
    queries, keys = apply_rotary_enc(queries, keys, freqs_cis=compute_axial_cis(256, GRID, GRID))
    return share(attention, queries[0, 0][:, None, None], keys[0], torch.arange(GRID * GRID))


@pytest.mark.parametrize(
    "looks, times", [(clicks_at_their_place, 5), (tokens_at_themselves, 20), (slices_at_their_place, 10)]
)
@torch.no_grad()
def test_the_own_place_stands_out_as_it_did_not_before(sam2, looks, times):
    assert looks(sam2) < 1.5 * MEAN
    attend_to_places(sam2)
    assert looks(sam2) > times * MEAN
