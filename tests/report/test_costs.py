from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.report import costs
from nnunetv2_sam2_3dmed.report.costs import (
    Model,
    build_model,
    cost_of,
    costs_section,
    count_encoded_slices,
    count_windows,
    median_shape,
    mirrored_axes,
)
from nnunetv2_sam2_3dmed.report.methods import ReportMethod
from nnunetv2_sam2_3dmed.report.operations import count_operations


def test_operations_of_a_network_by_formula():
    network = nn.Sequential(
        nn.Conv3d(2, 5, 3, padding=1), nn.ReLU(), nn.Conv3d(5, 3, 1), nn.Flatten(2), nn.Linear(64, 7)
    )
    # a multiplication and an addition for each weight of each output voxel
    first, second, last = 5 * 2 * 27 * 4**3, 3 * 5 * 4**3, 3 * 64 * 7
    counted = count_operations(network, (1, 2, 4, 4, 4))
    assert (counted.patch, counted.encoding) == (2 * (first + second + last), None)
    assert counted.of_volume(windows=3, mirrorings=2, encoded_slices=9) == 6 * counted.patch


def test_operations_of_attention_by_formula():
    class Attention(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    heads, tokens, channels = 2, 96, 8
    # queries times keys, and weights times values
    counted = count_operations(Attention(), (1, heads, tokens, channels))
    assert counted.patch == 2 * 2 * heads * tokens**2 * channels


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


@pytest.mark.parametrize(
    ("image", "patch", "mirrored", "slices"),
    [
        ((36, 64, 64), (12, 64, 64), (), 36),
        ((36, 64, 64), (12, 64, 64), (0, 1, 2), 36 * 4),  # mirrored along the slice axis, they stay the same slices
        ((8, 64, 64), (12, 64, 64), (1,), 12 * 2),  # padded to the patch
        ((36, 96, 128), (12, 64, 64), (0,), 36 * 2 * 3),  # windows at 0 and 32, and at 0, 32 and 64
        ((10, 75, 50), (50, 50), (0,), 10 * 2 * 2),  # 2D: its first axis lies in the plane
    ],
)
def test_encoded_slices_by_hand(image, patch, mirrored, slices):
    assert count_encoded_slices(image, patch, mirrored) == slices


@pytest.mark.parametrize("axes", [None, (2,), (0, 1, 2)])
def test_mirrored_axes_are_those_of_the_checkpoint(tmp_path, axes):
    torch.save({"inference_allowed_mirroring_axes": axes}, tmp_path / "checkpoint_final.pth")
    assert mirrored_axes(tmp_path / "checkpoint_final.pth") == (axes or ())


def test_operations_of_a_volume_are_those_that_really_run(make_network):
    """SAM2-3dMed over all windows and mirrored copies, with its slice cache, as nnU-Net's predictor runs it."""
    patch, shape, mirrored = (2, 24, 20), (3, 24, 25), (0, 2)
    network = make_network(srpp=False, boundary=False, num_slices=2).eval()
    volume = torch.randn(1, 1, *shape)
    along = compute_steps_for_sliding_window(shape, patch, 0.5)
    assert along == [[0, 1], [0], [0, 5]]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        for z, y, x in product(*along):
            window = volume[:, :, z : z + 2, y : y + 24, x : x + 20]
            for axes in ((), (2,), (4,), (2, 4)):
                network(window.flip(axes))
    cache = network.slice_cache
    counted = count_operations(network, (1, 1, *patch))
    assert network.slice_cache is cache
    volume_flop = counted.of_volume(2 * 2, 4, count_encoded_slices(shape, patch, mirrored))
    assert volume_flop == counter.get_total_flops()
    # 12 slices are encoded (3 slices, 2 places, 2 mirrored copies), of 4 windows x 4 passes x 2 slices = 32
    assert volume_flop == counted.patch * 16 - counted.encoding / 2 * (32 - 12)


class _LooksAtItsValues(nn.Module):
    """Cannot run on tensors without values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 1000)

    def forward(self, x):
        return self.layer(x) if x.sum().item() > 0 else x


@pytest.fixture
def unusual(monkeypatch) -> ReportMethod:
    """A method whose network counts as such, and whose plans lack the median case."""
    configuration = SimpleNamespace(patch_size=[8, 8, 8])
    model = Model(_LooksAtItsValues(), SimpleNamespace(), configuration, {}, "T", 1, (8, 8, 8))
    monkeypatch.setattr(costs, "build_model", lambda folder: model)
    return ReportMethod("odd", "odd", "#000000", "o", "●", Path("T__P__C"), (Path("T__P__C/fold_0"),))


def test_what_cannot_be_counted_is_not_available_and_said(unusual):
    cost = cost_of(unusual.results_folder, None)
    assert (cost.parameters, cost.trained_parameters) == (9000, 9000)
    assert (cost.gflop_patch, cost.gflop_volume, cost.median_shape, cost.windows) == (None,) * 4
    section = costs_section([unusual], {})
    row = [cell.text for cell in section.table.rows[0]]
    assert row == ["odd", "0.0", "8 × 8 × 8", "n/a", "n/a × n/a", "n/a", "n/a", "n/a"]
    assert any(note.startswith("odd: its operations could not be counted (") for note in section.notes)
    assert any(note.startswith("odd: the voxels of the median case could not be counted (") for note in section.notes)


def test_a_damaged_checkpoint_leaves_the_other_numbers(unusual, tmp_path):
    (tmp_path / "checkpoint_final.pth").write_text("no checkpoint")
    cost = cost_of(unusual.results_folder, tmp_path / "checkpoint_final.pth")
    assert cost.parameters == 9000 and cost.mirrorings is None
    assert any(failure.startswith("its mirrorings could not be counted (UserError") for failure in cost.failures)


def test_a_trainer_that_is_not_here_is_named(tmp_path):
    folder = tmp_path / "NoSuchTrainer__nnUNetPlans__3d_fullres"
    folder.mkdir()
    (folder / "plans.json").write_text(json.dumps({"configurations": {"3d_fullres": {"architecture": {}}}}))
    (folder / "dataset.json").write_text("{}")
    with pytest.raises(UserError, match="the network of NoSuchTrainer__nnUNetPlans__3d_fullres cannot be built"):
        build_model(folder)
