from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import nn

from nnunetv2_sam2_3dmed.network.srpp import SliceRelativePositionPredictor, SRPPMemory
from nnunetv2_sam2_3dmed.training.losses import srpp_loss


class CausalMemory(nn.Module):
    """Counter-example: slice i reads itself and the slices before it, so that i can be counted."""

    def __init__(self, channels: int, num_heads: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, num_heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)

    def forward(self, descriptors: torch.Tensor) -> torch.Tensor:
        later = torch.ones(descriptors.shape[1], descriptors.shape[1], dtype=torch.bool).triu(1)
        read, _ = self.attention(descriptors, descriptors, descriptors, attn_mask=later, need_weights=False)
        return self.norm(descriptors + read)


@pytest.fixture
def embedding():
    return torch.randn(2, 5, 32, 4, 4)


@pytest.mark.parametrize("memory", [False, True])
def test_offsets_follow_the_slices_in_every_order(memory):
    """No positional encoding along D: the prediction for a pair does not depend on where the pair stands."""
    srpp = SliceRelativePositionPredictor(32, memory=memory).double()
    embedding = torch.randn(2, 4, 32, 4, 4, dtype=torch.float64)
    plain = srpp(embedding)
    for order in permutations(range(4)):
        moved = srpp(embedding[:, list(order)])
        torch.testing.assert_close(moved, plain[:, order][:, :, order], atol=1e-6, rtol=0)


def test_a_causal_memory_does_not_follow_the_slices():
    srpp = SliceRelativePositionPredictor(32)
    srpp.memory = CausalMemory(32, 8)
    embedding = torch.randn(2, 4, 32, 4, 4)
    order = [3, 2, 1, 0]
    difference = srpp(embedding[:, order]) - srpp(embedding)[:, order][:, :, order]
    assert difference.abs().max() > 1e-3


def chance(depth: int) -> float:
    """The best loss without any knowledge of the order, that of always predicting 0.

    The mean of (j - i)^2 over i != j: the sum over all i and j is D^2 (D^2 - 1) / 6, and there are D (D - 1) pairs.
    """
    return depth * (depth + 1) / 6


def test_chance_is_the_loss_of_predicting_nothing():
    for depth in (2, 6, 12):
        nothing = srpp_loss(torch.zeros(1, depth, depth), torch.ones(1, depth, dtype=torch.bool))
        assert nothing == pytest.approx(chance(depth))


def losses_of_all_orders(srpp: SliceRelativePositionPredictor, slices: torch.Tensor) -> torch.Tensor:
    """L_srpp of one stack (1, D, C, 1, 1) in each of its D! orders."""
    there = torch.ones(1, slices.shape[1], dtype=torch.bool)
    return torch.stack([srpp_loss(srpp(slices[:, list(order)]), there) for order in permutations(range(len(there[0])))])


@torch.no_grad()
@pytest.mark.parametrize("memory", [False, True])
def test_the_order_of_unrelated_slices_is_not_leaked(memory):
    """Whatever the weights: over all orders of a stack, the mean loss is chance plus the predictions' mean square.

    Each ordered pair of slices keeps its prediction p in all orders, and its target t has the mean 0: the mean of
    (p - t)^2 is p^2 plus the mean of t^2. With a leak, predictions would follow the targets, and the loss could be
    smaller.
    """
    srpp = SliceRelativePositionPredictor(32, memory=memory).double()
    for parameter in srpp.parameters():
        parameter.mul_(2)  # predictions of some size
    slices = torch.randn(1, 4, 32, 1, 1, dtype=torch.float64)
    predicted = srpp(slices)[0][~torch.eye(4, dtype=torch.bool)].double()
    assert predicted.square().mean() > 0.01
    expected = chance(4) + predicted.square().mean().item()
    assert losses_of_all_orders(srpp, slices).mean().item() == pytest.approx(expected, rel=1e-5)


def test_a_causal_memory_leaks_the_order():
    """The same measure finds a leak where there is one: a short training brings the mean loss far below chance."""
    srpp = SliceRelativePositionPredictor(32, num_layers=1)
    srpp.memory = CausalMemory(32, 8)
    optimizer = torch.optim.AdamW(srpp.parameters(), lr=3e-3)
    there = torch.ones(16, 4, dtype=torch.bool)
    for _ in range(150):
        loss = srpp_loss(srpp(torch.randn(16, 4, 32, 1, 1)), there)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert losses_of_all_orders(srpp, torch.randn(1, 4, 32, 1, 1)).mean() < chance(4) / 2


def test_shuffling_the_slices_changes_the_error(embedding):
    srpp = SliceRelativePositionPredictor(32).eval()
    there = torch.ones(2, 5, dtype=torch.bool)
    order = torch.tensor([3, 0, 4, 1, 2])
    plain, shuffled = srpp_loss(srpp(embedding), there), srpp_loss(srpp(embedding[:, order]), there)
    assert abs(plain - shuffled) > 1e-4


def test_it_learns_the_order_of_slices_that_differ():
    """Slices whose mean grows with their position: the offset can be read off, and soon is."""
    srpp = SliceRelativePositionPredictor(32)
    optimizer = torch.optim.Adam(srpp.parameters(), lr=1e-3)
    direction = torch.randn(32)
    there = torch.ones(4, 6, dtype=torch.bool)
    losses = []
    for _ in range(60):
        place = torch.arange(6.0)[None] + torch.rand(4, 1)
        embedding = (place[..., None] * direction)[..., None, None] + 0.1 * torch.randn(4, 6, 32, 2, 2)
        loss = srpp_loss(srpp(embedding), there)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # always predicting 0 costs the mean of (j - i)^2 over i != j, 7 for six slices
    assert losses[0] > 4 and losses[-1] < 1


def test_a_slice_reads_the_memories_of_all_others_but_not_its_own():
    """A change of one slice's memory reaches every other slice and not itself."""
    memory = SRPPMemory(32, 8)
    descriptors = torch.randn(1, 5, 32)
    stored = memory.memory_encoder(descriptors)
    changed = stored.clone()
    changed[:, 3] += 1
    plain = memory(descriptors)
    memory.memory_encoder.register_forward_hook(lambda *_: changed)
    difference = (memory(descriptors) - plain).abs().amax(dim=(0, 2))
    assert difference[3] < 1e-6
    assert (difference[[0, 1, 2, 4]] > 1e-4).all()


def test_memories_have_a_quarter_of_the_channels():
    """As in SAM 2, whose memories have 64 of 256."""
    assert SRPPMemory(256, 8).memory_encoder(torch.randn(1, 2, 256)).shape == (1, 2, 64)


def test_slice_memory_against_the_written_out_layers():
    """Residual attention and residual perceptron with normalised inputs, as in SAM 2's layer; here of two slices."""
    memory = SRPPMemory(16, 4).double()
    descriptors = torch.randn(1, 2, 16, dtype=torch.float64)
    # of two slices, each reads the other's memory alone: its attention weight is 1
    other = memory.memory_encoder(descriptors).flip(1)
    attention = memory.attention
    values = other @ attention.v_proj_weight.T + attention.in_proj_bias[32:]
    after = descriptors + values @ attention.out_proj.weight.T + attention.out_proj.bias
    expected = memory.norm(after + memory.mlp(memory.mlp_norm(after)))
    torch.testing.assert_close(memory(descriptors), expected)
