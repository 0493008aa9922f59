import numpy as np
import pytest

from nnunetv2_sam2_3dmed.images.masks import dice


def test_dice_by_hand():
    first, second = np.zeros((2, 4, 5), bool), np.zeros((2, 4, 5), bool)
    assert dice(first, second) == 1.0
    first[0, :2, :3] = True  # 6 voxels
    assert dice(first, second) == dice(second, first) == 0.0
    second[0, 1:, :3] = True  # 9 voxels, 3 of them in both
    assert dice(first, second) == pytest.approx(2 * 3 / 15)
    assert dice(first, first) == 1.0
