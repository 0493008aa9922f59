import copy

import pytest
import torch

from nnunetv2_sam2_3dmed.network.fresh_trunk import (
    fit_windows,
    initialise_positions,
    keep_steady,
    sine_embedding,
)
from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base


def test_sines_of_the_place():
    embedding = sine_embedding(8, 3, 5, (4.0, 16.0))  # two frequencies: a quarter and a sixteenth of a turn a place
    assert embedding.shape == (1, 8, 3, 5)
    y, x = 1, 3
    expected = [1.0, 0.3826834, 0.0, 0.9238795]  # sin 90, sin 22.5, cos 90, cos 22.5 degrees
    expected += [-1.0, 0.9238795, 0.0, 0.3826834]  # sin 270, sin 67.5, cos 270, cos 67.5 degrees
    torch.testing.assert_close(embedding[0, :, y, x], torch.tensor(expected), atol=1e-6, rtol=0)


def test_fresh_trunks_can_tell_places_apart():
    trunk = build_sam2_base("sam2.1_hiera_tiny", 64).image_encoder.trunk
    flat = torch.zeros(1, 3, 64, 64)
    middle = trunk.eval()(flat)[0][0, :, 4:12, 4:12]  # away from the edge, which the patch embedding pads
    assert (middle == middle[:, :1, :1]).all(), "as SAM 2's code leaves it"
    initialise_positions(trunk)
    middle = trunk(flat)[0][0, :, 4:12, 4:12].flatten(1).T
    assert torch.pdist(middle).min() > 1e-3


@pytest.mark.parametrize("image_size", [64, 96])
@torch.no_grad()
def test_a_fitted_window_is_attention_over_the_whole_grid(image_size):
    trunk = build_sam2_base("sam2.1_hiera_tiny", image_size).image_encoder.trunk.eval()
    everywhere = copy.deepcopy(trunk)
    grids = {96: image_size // 4, 192: image_size // 8, 384: image_size // 16, 768: image_size // 32}
    padded = 0
    for block in everywhere.blocks:
        if block.window_size > grids[block.dim]:
            # 0 is Hiera's way to say: no windows; blocks that pool always have them
            block.window_size = grids[block.dim] if block.q_stride else 0
            padded += 1
    assert padded > 0
    images = torch.randn(1, 3, image_size, image_size)
    before = trunk(images)
    fit_windows(trunk, image_size)
    for ours, expected, with_padding in zip(trunk(images), everywhere(images), before):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
        assert ours.shape == with_padding.shape
    assert not torch.allclose(trunk(images)[-1], before[-1], atol=1e-5)


def test_windows_that_fit_are_left_alone():
    trunk = build_sam2_base("sam2.1_hiera_tiny", 512).image_encoder.trunk
    before = [block.window_size for block in trunk.blocks]
    fit_windows(trunk, 512)
    assert [block.window_size for block in trunk.blocks] == before


@pytest.mark.parametrize("size", [0.9, 3.0])
def test_steady_features(size):
    trained, frozen = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    trained = (trained * size / trained.square().mean().sqrt()).requires_grad_()
    features = trained * 1.0
    keep_steady([features, frozen])
    weights = torch.rand(2, 3, 4, 4)
    (features * weights + frozen).sum().backward()
    shared = weights.permute(1, 0, 2, 3).flatten(1).mean(dim=1)  # of each channel
    (penalty,) = torch.autograd.grad(0.1 * (trained.square().mean() - 1).clamp(min=0), trained)
    assert penalty.any() == (size > 1)
    torch.testing.assert_close(trained.grad, weights - shared[None, :, None, None] + penalty)


def test_features_are_steadied_in_float16_as_without_scaling():
    """Losses are scaled against underflow: what is added to their gradients must be as well."""
    scale = 2.0**16
    features = (3 * torch.rand(8, 32, 8, 8)).half().requires_grad_()
    # the gradient of 0.1 * (mean square - 1)
    penalty = 0.2 * features.detach().float() / features.numel()
    for given, kept in ((lambda gradient: scale * gradient, True), (None, False)):
        features.grad = None
        steadied = features * 1.0
        keep_steady([steadied], given)
        (0 * steadied).sum().backward()
        assert torch.allclose(features.grad.float() / scale, penalty, rtol=1e-2, atol=1e-9) == kept


def test_fresh_positions_are_about_as_large_as_patch_embeddings():
    """A sine of amplitude 0.3 has a root mean square of 0.21; those of noise lie within a factor of three."""
    trunk = build_sam2_base("sam2.1_hiera_tiny", 64).image_encoder.trunk
    initialise_positions(trunk)
    for embedding in (trunk.pos_embed, trunk.pos_embed_window):
        assert embedding.abs().max().item() == pytest.approx(0.3, rel=0.02)
        assert embedding.square().mean().sqrt().item() == pytest.approx(0.3 / 2**0.5, rel=0.1)
    patches = trunk.patch_embed(torch.randn(1, 3, 64, 64)).square().mean().sqrt().item()
    assert 0.21 / 3 < patches < 0.21 * 3
