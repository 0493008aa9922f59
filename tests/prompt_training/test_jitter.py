"""Colour jitter, beside torchvision's."""

import numpy as np
import torch
from torchvision.transforms.v2.functional import adjust_brightness, adjust_contrast

from nnunetv2_sam2_3dmed.prompt_training.jitter import ColourJitter


class Drawn:
    """Generator that draws the given numbers between -1 and 1."""

    def __init__(self, *numbers: list):
        self.numbers = iter(numbers)

    def uniform(self, low: float, high: float, size: tuple[int, int]) -> np.ndarray:
        assert (low, high) == (-1, 1)
        return np.array(next(self.numbers), dtype=float).reshape(size)


def test_it_is_torchvisions_first_for_stacks_and_then_for_slices():
    torch.manual_seed(0)
    grey = torch.rand(2, 3, 8, 9)
    stack, one = [0.5, -0.8], [[0.9, -1.0, 0.0], [0.2, 0.4, -0.6]]
    jittered = ColourJitter(0.4, 0.3, 0.2, 0.5)(grey, Drawn(stack, stack[::-1], one, one[::-1]))
    for b in range(2):
        for d in range(3):
            expected = adjust_brightness(grey[b, d][None], 1 + 0.4 * stack[b])
            expected = adjust_contrast(expected, 1 + 0.3 * stack[1 - b])
            expected = adjust_brightness(expected, 1 + 0.2 * one[b][d])
            expected = adjust_contrast(expected, 1 + 0.5 * one[1 - b][d])
            torch.testing.assert_close(jittered[b, d], expected[0])


def test_grey_levels_stay_within_black_and_white_and_change():
    torch.manual_seed(0)
    grey = torch.rand(1, 4, 16, 16)
    jittered = ColourJitter(0.9, 0.9, 0.9, 0.9)(grey, np.random.default_rng(0))
    assert jittered.min() >= 0 and jittered.max() <= 1
    assert (jittered - grey).abs().flatten(2).amax(dim=2).min() > 0.05
