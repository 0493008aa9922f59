"""A loss that is no number ends a training, and the sentence names the case."""

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.training.checked import LossGuard


def batch(**broken: float) -> dict:
    """Cases a, b, b and c; one voxel of those named has another value."""
    keys = np.array(["a", "b", "b", "c"])
    data = torch.zeros(4, 1, 2, 3, 3)
    for key, value in broken.items():
        data[list(keys).index(key), 0, 1, 2, 0] = value
    return {"keys": keys, "data": data}


def loss(value: float) -> dict:
    return {"loss": np.array(value, dtype=np.float32)}


def test_finite_losses_are_let_through_and_the_batch_is_not_touched():
    guard = LossGuard("D")
    for value in (0.0, -1.0, 3e38):
        guard.check(loss(value), {}, training=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_voxels_that_are_no_numbers_are_blamed_on_their_case(value):
    with pytest.raises(UserError, match=r"a training step of D is nan, because the .* image of the case b has NaN"):
        LossGuard("D").check(loss(float("nan")), batch(b=value), training=True)
    with pytest.raises(UserError, match=r"a validation step .* image of the case a, c has NaN"):
        LossGuard("D").check(loss(float("nan")), batch(a=value, c=value), training=False)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_otherwise_the_training_has_diverged(value):
    with pytest.raises(UserError, match=f"is {value} for the cases a, b, c, whose voxels are finite.*--c"):
        LossGuard("D").check(loss(float(value)), batch(), training=True)


def test_in_float16_some_in_a_row_are_left_out():
    """``GradScaler`` skips such steps: the weights do not change."""
    guard = LossGuard("D", scaled=True)
    for _ in range(3):
        for _ in range(10):
            guard.check(loss(float("inf")), batch(), training=True)
        guard.check(loss(1.0), batch(), training=True)
    for _ in range(10):
        guard.check(loss(float("inf")), batch(), training=True)
    with pytest.raises(UserError, match="the training has diverged"):
        guard.check(loss(float("inf")), batch(), training=True)


def test_in_float16_broken_voxels_end_it_at_once():
    with pytest.raises(UserError, match="the case c has NaN"):
        LossGuard("D", scaled=True).check(loss(float("nan")), batch(c=float("nan")), training=True)
