from pathlib import Path

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.label_maps import label_map

FILE = Path("mask.nii.gz")


def block(*labels: float, dtype: type = np.float32) -> np.ndarray:
    """A slab of four rows for each label, in 0."""
    array = np.zeros((3, 4 * len(labels) + 2, 8), dtype=dtype)
    for number, label in enumerate(labels):
        array[1, 4 * number : 4 * number + 4, 2:6] = label
    return array


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ((1.0,), (1,)),
        ((1.0, 3.0), (1, 3)),
        ((0.99999994, 2.0000002), (1, 2)),  # scaled by a slope in float32
        ((255.0,), (255,)),
        ((0.5,), (1,)),
        ((1 / 255,), (1,)),
        ((256.0, 2.0), (256, 2)),
    ],
)
def test_labels_and_masks(given, labels):
    found = label_map(block(*given), FILE)
    np.testing.assert_array_equal(found, block(*labels))
    assert found.dtype == (np.uint16 if max(labels) > 255 else np.uint8)


def test_an_atlas_of_many_labels_is_a_label_map():
    labels = tuple(range(1, 301))
    np.testing.assert_array_equal(label_map(block(*labels, dtype=np.int32), FILE), block(*labels))


def noise(low: int, high: int, dtype: type) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, size=(4, 20, 20)).astype(dtype)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (noise(-1024, 2000, np.int16), "looks like an image, .* different values from -1024 to|from -10"),
        (noise(0, 256, np.uint8), r"looks like an image, .* 25\d different values from 0 to 255"),
        (noise(0, 3000, np.float32) + np.float32(0.25), "looks like an image"),
        (block(-1, 1), "looks like an image, .* 3 different values from -1 to 1"),
        (np.linspace(0, 1, 3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5), r"probabilities .* \(0.0169, 0.0339, "),
        (block(0.4, 1), r"values between whole numbers \(0.4\)"),
        (block(1, 70000), "has the label 70000, but labels are at most 65535"),
    ],
)
def test_what_is_no_label_map(array, message):
    with pytest.raises(UserError, match=f"^mask.nii.gz .*({message})"):
        label_map(array, FILE)
