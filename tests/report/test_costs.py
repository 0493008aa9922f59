from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.report.costs import build_model, count_flop, count_mirrorings, count_windows, median_shape


def test_operations_of_a_network_by_formula():
    network = nn.Sequential(
        nn.Conv3d(2, 5, 3, padding=1), nn.ReLU(), nn.Conv3d(5, 3, 1), nn.Flatten(2), nn.Linear(64, 7)
    )
    # a multiplication and an addition for each weight of each output voxel
    first, second, last = 5 * 2 * 27 * 4**3, 3 * 5 * 4**3, 3 * 64 * 7
    assert count_flop(network, (1, 2, 4, 4, 4)) == 2 * (first + second + last)


def test_operations_of_attention_by_formula():
    class Attention(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    heads, tokens, channels = 2, 96, 8
    # queries times keys, and weights times values
    assert count_flop(Attention(), (1, heads, tokens, channels)) == 2 * 2 * heads * tokens**2 * channels


@pytest.mark.parametrize(
    ("image", "patch", "windows"),
    [
        ((35, 50, 35), (40, 56, 40), 1),  # padded to the patch
        ((110, 64, 64), (64, 64, 64), 3),  # at 0, 23 and 46: nnU-Net's own example
        ((36, 64, 64), (12, 64, 64), 5),  # at 0, 6, 12, 18 and 24
        ((35, 50, 35), (50, 35), 35),  # 2D: every slice
        ((10, 75, 50), (50, 50), 20),  # 2D, two windows a slice
    ],
)
def test_windows_by_hand(image, patch, windows):
    assert count_windows(image, patch) == windows


def test_median_case_of_3d_and_2d_configurations():
    plans = SimpleNamespace(original_median_shape_after_transp=[35, 60, 40])
    assert median_shape(plans, SimpleNamespace(median_image_size_in_voxels=[36.0, 50.0, 35.0])) == (36, 50, 35)
    assert median_shape(plans, SimpleNamespace(median_image_size_in_voxels=[50.0, 35.0])) == (35, 50, 35)


@pytest.mark.parametrize(("axes", "passes"), [(None, 1), ((2,), 2), ((0, 1, 2), 8)])
def test_passes_with_mirroring(tmp_path, axes, passes):
    torch.save({"inference_allowed_mirroring_axes": axes}, tmp_path / "checkpoint_final.pth")
    assert count_mirrorings(tmp_path / "checkpoint_final.pth") == passes


def test_a_trainer_that_is_not_here_is_named(tmp_path):
    folder = tmp_path / "NoSuchTrainer__nnUNetPlans__3d_fullres"
    folder.mkdir()
    (folder / "plans.json").write_text(json.dumps({"configurations": {"3d_fullres": {"architecture": {}}}}))
    (folder / "dataset.json").write_text("{}")
    with pytest.raises(UserError, match="the network of NoSuchTrainer__nnUNetPlans__3d_fullres cannot be built"):
        build_model(folder)
