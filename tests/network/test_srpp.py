import pytest
import torch

from nnunetv2_sam2_3dmed.network.srpp import SliceRelativePositionPredictor
from nnunetv2_sam2_3dmed.training.losses import srpp_loss


@pytest.fixture
def embedding():
    return torch.randn(2, 5, 32, 4, 4)


def test_offsets_follow_the_slices_when_these_are_shuffled(embedding):
    """No positional encoding along D: the prediction for a pair does not depend on where the pair stands."""
    srpp = SliceRelativePositionPredictor(32).eval()
    order = torch.tensor([3, 0, 4, 1, 2])
    plain, shuffled = srpp(embedding), srpp(embedding[:, order])
    torch.testing.assert_close(shuffled, plain[:, order][:, :, order], atol=1e-5, rtol=1e-4)


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


def test_memory_sees_only_the_past(embedding):
    memory = SliceRelativePositionPredictor(32, memory=True).eval().memory
    descriptors = torch.randn(1, 5, 32)
    changed = descriptors.clone()
    changed[:, 3] += 1
    difference = (memory(descriptors) - memory(changed)).abs().amax(dim=(0, 2))
    assert (difference[:3] < 1e-6).all() and (difference[3:] > 1e-4).all()
