"""Colour jitter, beside torchvision's."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    rgb_to_grayscale,
)

from nnunetv2_sam2_3dmed.prompt_training.jitter import ColourJitter

STACK = [[0.5, -0.8], [-0.3, 0.7], [0.9, -0.6]]  # brightness, contrast and saturation of two stacks
SLICE = [[[0.9, -1.0, 0.0], [0.2, 0.4, -0.6]], [[-0.1, 0.3, 0.8], [1.0, -0.4, 0.5]], [[0.6, 0.1, -0.9], [-0.7, 0.2, 0]]]
LARGEST = (0.4, 0.3, 0.5, 0.2, 0.5, 0.6)


class Drawn:
    """Generator that draws the given numbers."""

    def __init__(self, *numbers: list):
        self.numbers = iter(numbers)

    def uniform(self, low: float, high: float, size: tuple[int, int]) -> np.ndarray:
        drawn = np.array(next(self.numbers), dtype=float).reshape(size)
        assert ((low <= drawn) & (drawn <= high)).all()
        return drawn


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_torchvisions_first_for_stacks_and_then_for_slices(channels):
    torch.manual_seed(0)
    images = torch.rand(2, 3, channels, 8, 9)
    given = images if channels == 3 else images[:, :, 0]
    greyscale = [0.5, 0.1]  # below 0.2: the second stack
    jittered = ColourJitter(*LARGEST, greyscale=0.2)(given, Drawn(*STACK, *SLICE, greyscale))
    assert jittered.shape == given.shape
    for b in range(2):
        for d in range(3):
            expected = images[b, d]
            for drawn, largest in (([s[b] for s in STACK], LARGEST[:3]), ([s[b][d] for s in SLICE], LARGEST[3:])):
                brightness, contrast, saturation = (1 + share * one for share, one in zip(largest, drawn, strict=True))
                expected = adjust_contrast(adjust_brightness(expected, brightness), contrast)
                if channels == 3:
                    expected = adjust_saturation(expected, saturation)
                    if b == 1:
                        expected = rgb_to_grayscale(expected, num_output_channels=3)
            found = jittered[b, d] if channels == 3 else jittered[b, d][None]
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_grey_levels_stay_within_black_and_white_and_change():
    torch.manual_seed(0)
    grey = torch.rand(1, 4, 16, 16)
    jittered = ColourJitter(0.9, 0.9, 0.9, 0.9, 0.9, 0.9)(grey, np.random.default_rng(0))
    assert jittered.min() >= 0 and jittered.max() <= 1
    assert (jittered - grey).abs().flatten(2).amax(dim=2).min() > 0.05


def test_the_share_of_stacks_that_become_grey():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    colours = torch.rand(400, 2, 3, 2, 2)
    jittered = ColourJitter(0, 0, 0, 0, 0, 0, greyscale=0.25)(colours, rng)
    grey = (jittered - jittered[:, :, :1]).abs().flatten(1).amax(dim=1) < 1e-5
    assert abs(grey.float().mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 400)
    torch.testing.assert_close(jittered[~grey], colours[~grey])
