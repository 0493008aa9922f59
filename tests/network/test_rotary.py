"""Rotary attention in real numbers against SAM 2's own, in complex ones."""

import pytest
import torch

from nnunetv2_sam2_3dmed.network.positions import RotaryAttention
from nnunetv2_sam2_3dmed.network.sam2_modules import RoPEAttention, build_sam2_base

GRID = 6  # places along a side


def both(**options) -> tuple[RoPEAttention, RotaryAttention]:
    options = {"embedding_dim": 64, "num_heads": 1, "feat_sizes": (GRID, GRID), **options}
    theirs, ours = RoPEAttention(**options), RotaryAttention(**options)
    ours.load_state_dict(theirs.state_dict())  # strict: the same parameters, and nothing else
    return theirs, ours


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "options, memories, pointers",
    [({}, 1, 0), ({"num_heads": 4}, 1, 0), ({"rope_k_repeat": True, "kv_in_dim": 16}, 3, 8)],
    ids=["self", "heads", "memories and pointers"],
)
def test_results_and_gradients_equal_sam2_bit_for_bit(options, memories, pointers, dtype):
    theirs, ours = both(**options)
    queries = torch.randn(2, GRID**2, 64)
    keys = torch.randn(2, memories * GRID**2 + pointers, options.get("kv_in_dim", 64))
    results = []
    for attention in (theirs, ours):
        q, k = queries.clone().requires_grad_(), keys.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            attended = attention(q, k, k, num_k_exclude_rope=pointers)
        attended.float().square().sum().backward()
        results.append([attended, q.grad, k.grad, *(p.grad for p in attention.parameters())])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_the_network_attends_with_it_and_drops_no_attention_weights():
    sam2 = build_sam2_base("sam2.1_hiera_tiny", 96, dropout=0.1)
    for layer in sam2.memory_attention.layers:
        for attention in (layer.self_attn, layer.cross_attn_image):
            assert isinstance(attention, RotaryAttention)
            assert attention.cos.shape == attention.sin.shape == (36, 256)  # (96 / 16) ** 2 places
            assert attention.dropout_p == 0
        assert layer.dropout1.p == layer.dropout2.p == layer.dropout3.p == layer.dropout.p == 0.1


def test_building_a_network_touches_no_gpu(monkeypatch):
    """SAM 2's own constructor moves its tables to the first GPU if there is one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    sam2 = build_sam2_base("sam2.1_hiera_tiny", 64)
    assert {t.device.type for t in [*sam2.parameters(), *sam2.buffers()]} == {"cpu"}
    with pytest.raises((AssertionError, RuntimeError)):  # no CUDA here
        RoPEAttention(embedding_dim=64, num_heads=1, feat_sizes=(GRID, GRID))
