"""Refinement of masks: what it starts from, what it sees, and that all ways of running it agree."""

import pytest
import torch
import torch.nn.functional as F

from nnunetv2_sam2_3dmed.network import mask_propagation
from nnunetv2_sam2_3dmed.network.refinement import MAX_LEVELS, MaskRefinement
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed


@pytest.fixture
def inputs() -> tuple[torch.Tensor, ...]:
    """Masks, pixel features, weights of masks, and images of two slices of 32 pixels."""
    pixels, weights = torch.randn(2, 8, 8, 8), torch.randn(2, 3, 8)
    return torch.einsum("nkc,nchw->nkhw", weights, pixels), pixels, weights, torch.randn(2, 3, 32, 32)


def learned(network: SAM2_3dMed) -> SAM2_3dMed:
    """The refinement adds something, as after some steps."""
    torch.nn.init.normal_(network.segmentation.refinement.last.weight, std=0.1)
    return network


@pytest.mark.parametrize("levels", range(1, MAX_LEVELS + 1))
def test_a_fresh_one_enlarges_the_masks(levels, inputs):
    expected = F.interpolate(inputs[0], size=(32, 32), mode="bilinear", align_corners=False)
    assert torch.equal(MaskRefinement(levels, 8)(*inputs), expected)


@pytest.mark.parametrize("levels", range(1, MAX_LEVELS + 1))
def test_all_of_it_trains_once_its_last_layer_is_not_zero(levels, inputs):
    refinement = MaskRefinement(levels, 8)
    torch.nn.init.normal_(refinement.last.weight)
    refinement(*inputs).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in refinement.parameters())


def test_each_mask_is_refined_by_its_own_weights(inputs):
    """A mask whose weights are zero stays as it was, whatever the convolutions find."""
    masks, pixels, weights, images = inputs
    refinement = MaskRefinement(2, 8)
    torch.nn.init.normal_(refinement.last.weight)
    weights[:, 1] = 0
    refined = refinement(masks, pixels, weights, images)
    enlarged = F.interpolate(masks, size=(32, 32), mode="bilinear", align_corners=False)
    assert torch.equal(refined[:, 1], enlarged[:, 1]) and not torch.allclose(refined[:, 0], enlarged[:, 0])


def test_masks_have_the_image_s_resolution_and_boundaries_the_decoder_s(make_network, patches):
    output = make_network(refine_masks=2)(patches)
    assert output.masks.shape == (2, 6, 2, 64, 64) and output.boundaries.shape == (2, 6, 2, 16, 16)


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"boundary_branch": "fused"}], ids=str)
def test_prediction_from_cached_features_is_that_of_validation(make_network, patches, options, monkeypatch):
    network = learned(make_network(refine_masks=2, **options)).eval()
    with torch.no_grad():
        expected = network(patches)
    monkeypatch.setattr(mask_propagation, "slices_at_once", lambda device, size: 5)  # of 12, in three parts
    with torch.inference_mode():
        for _ in range(2):
            torch.testing.assert_close(network(patches), expected, rtol=1e-4, atol=1e-4)


def test_both_directions_see_the_slices_in_their_own_order(make_network, patches):
    """A bidirectional network gives the reversed stack the reversed logits."""
    network = learned(make_network(refine_masks=2, bidirectional=True)).eval()
    with torch.no_grad():
        forward, backward = network(patches), network(patches.flip(2))
    torch.testing.assert_close(backward.flip(2), forward, rtol=1e-4, atol=1e-4)


def test_in_parts_and_checkpointed_it_has_the_same_gradients(make_network, patches, monkeypatch):
    gradients = []
    for at_once, checkpointing in ((12, False), (5, False), (12, True)):
        monkeypatch.setattr(mask_propagation, "recomputed_at_once", lambda image_size, n=at_once: n)
        torch.manual_seed(0)
        network = learned(make_network(refine_masks=2, dropout=0.0, activation_checkpointing=checkpointing))
        network(patches).masks.square().mean().backward()
        gradients.append({name: p.grad for name, p in network.segmentation.named_parameters() if p.grad is not None})
    assert any(name.startswith("refinement.") for name in gradients[0])
    for others in gradients[1:]:
        assert others.keys() == gradients[0].keys()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(others[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("refine_masks", [0, 2])
def test_images_are_given_to_a_branch_that_refines_and_to_no_other(make_network, patches, refine_masks):
    network = make_network(refine_masks=refine_masks)
    images = None if refine_masks else torch.randn(2, 6, 3, 64, 64)
    with pytest.raises(ValueError, match="images are needed to refine masks, and for nothing else"):
        network.segmentation(network.encoder(patches), images=images)


@pytest.mark.parametrize("levels", [-1, MAX_LEVELS + 1])
def test_levels_that_there_are_not(make_network, levels):
    with pytest.raises(ValueError, match=f"refine_masks is {levels}, but must be 0"):
        make_network(refine_masks=levels)
