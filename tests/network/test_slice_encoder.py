import numpy as np
import pytest
import torch
from sam2.utils.transforms import SAM2Transforms

from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base
from nnunetv2_sam2_3dmed.network.slice_encoder import IMAGENET_MEAN, IMAGENET_STD, InputAdapter, SliceEncoder


def test_intensities_land_where_imagenet_has_them():
    adapter = InputAdapter(1, image_size=32, intensity_range=(-3, 3))
    patch = torch.tensor([-9.0, -3.0, 0.0, 3.0, 9.0]).view(1, 1, 5, 1, 1).expand(1, 1, 5, 32, 32)
    images = adapter(patch)
    assert images.shape == (5, 3, 32, 32)
    for channel, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD)):
        for index, grey in enumerate([0.0, 0.0, 0.5, 1.0, 1.0]):
            assert images[index, channel, 3, 4].item() == pytest.approx((grey - mean) / std, abs=1e-5)


@pytest.mark.parametrize("channels", [2, 4])
def test_several_channels_start_as_their_mean_and_learn(channels):
    adapter = InputAdapter(channels, 32, (-3, 3))
    patch = torch.randn(1, channels, 2, 32, 32).clamp(-3, 3)
    single = InputAdapter(1, 32, (-3, 3))
    torch.testing.assert_close(adapter(patch), single(patch.mean(dim=1, keepdim=True)), atol=1e-5, rtol=1e-5)
    adapter(patch).square().sum().backward()
    assert adapter.mix.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_normalised_as_sam2_s_own_transform_does(channels):
    """RGB in this order; grey is the same in all three. At the network's size nothing is resized."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, channels), dtype=np.uint8)
    expected = SAM2Transforms(resolution=32, mask_threshold=0.0)(np.broadcast_to(pixels, (32, 32, 3)).copy())
    patch = torch.from_numpy(pixels / 255).float().permute(2, 0, 1)[None, :, None]  # (1, C, D, H, W)
    torch.testing.assert_close(InputAdapter(channels, 32, (0, 1))(patch)[0], expected, atol=1e-5, rtol=1e-5)


def test_slices_keep_their_order_over_batch_and_depth():
    adapter = InputAdapter(1, 32, (0, 10))
    patch = torch.arange(6.0).view(2, 1, 3, 1, 1).expand(2, 1, 3, 32, 32)  # value = 3 b + d
    images = adapter(patch)
    grey = images[:, 0, 0, 0] * IMAGENET_STD[0] + IMAGENET_MEAN[0]
    torch.testing.assert_close(grey * 10, torch.arange(6.0), atol=1e-4, rtol=1e-4)


def test_features_equal_forward_image():
    """The encoder's levels, through a branch's lateral convolutions, are SAM 2's forward_image."""
    sam2 = build_sam2_base("sam2.1_hiera_tiny", 64)
    adapter = InputAdapter(1, 64, (-3, 3))
    patches = torch.randn(2, 1, 3, 64, 64)
    encoder = SliceEncoder(sam2.image_encoder, adapter, freeze_trunk=True)  # of the same modules
    with torch.no_grad():
        expected = sam2.forward_image(adapter(patches))
        features = encoder(patches)
        ours = [
            sam2.sam_mask_decoder.conv_s0(features.stride4.flatten(0, 1)),
            sam2.sam_mask_decoder.conv_s1(features.stride8.flatten(0, 1)),
            features.stride16.flatten(0, 1),
        ]
    for level, reference in zip(ours, expected["backbone_fpn"]):
        torch.testing.assert_close(level, reference, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features.position, expected["vision_pos_enc"][2][:1])


def test_a_learned_mix_of_channels_trains_through_a_frozen_trunk():
    sam2 = build_sam2_base("sam2.1_hiera_tiny", 64)
    encoder = SliceEncoder(sam2.image_encoder, InputAdapter(2, 64, (-3, 3)), freeze_trunk=True)
    encoder(torch.randn(1, 2, 2, 64, 64)).stride16.square().sum().backward()
    assert encoder.adapter.mix.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in encoder.trunk.parameters())


def test_an_empty_intensity_range_is_refused():
    with pytest.raises(ValueError, match=r"intensity_range is \(3, 3\)"):
        InputAdapter(1, 64, (3, 3))
