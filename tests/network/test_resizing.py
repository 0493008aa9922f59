"""Resizing between slices and SAM 2's square, beside SAM 2's own transforms."""

import inspect
import re

import numpy as np
import pytest
import torch
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.utils.transforms import SAM2Transforms

from nnunetv2_sam2_3dmed.network.resizing import LARGEST_LOGIT, as_images, at_image_size, logits_at


@pytest.mark.parametrize("shape", [(40, 48), (130, 70), (64, 64)])
def test_images_are_those_of_sam2s_image_predictor(shape):
    grey = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    transforms = SAM2Transforms(resolution=64, mask_threshold=0)
    expected = torch.stack([transforms(np.repeat(plane[..., None], 3, axis=-1)) for plane in grey])
    torch.testing.assert_close(as_images(torch.from_numpy(grey)[None] / 255, 64)[0], expected, atol=1e-5, rtol=1e-5)


def test_a_voxel_becomes_the_pixels_that_it_covers():
    masks = torch.zeros(1, 4, 8, dtype=torch.bool)
    masks[0, 1, 2] = True
    large = at_image_size(masks, 32)  # 8 pixels per row of voxels, 4 per column
    rows, columns = large[0, 0].nonzero().T
    assert large.shape == (1, 1, 32, 32) and set(large.unique().tolist()) == {0.0, 1.0}
    assert abs(rows.float().mean() - 11.5) < 0.01 and abs(columns.float().mean() - 9.5) < 0.01
    assert rows.max() - rows.min() < 8 and columns.max() - columns.min() < 4


def test_a_mask_of_the_images_size_stays():
    masks = torch.rand(2, 16, 16) > 0.5
    assert torch.equal(at_image_size(masks, 16)[:, 0] > 0, masks)


def test_logits_are_interpolated_between_the_middles_of_pixels():
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    expected = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    torch.testing.assert_close(logits_at(ramp, (8, 8))[0, 0], expected.expand(8, 8))
    assert logits_at(ramp.bfloat16(), (4, 4)).dtype == torch.float32


def test_the_mask_to_be_corrected_is_clamped_as_sam2s_video_predictor_does():
    source = inspect.getsource(SAM2VideoPredictor.add_new_points_or_box)
    assert re.findall(r"clamp\(prev_sam_mask_logits, (\S+), (\S+)\)", source) == [
        (f"-{LARGEST_LOGIT}", f"{LARGEST_LOGIT}")
    ]
