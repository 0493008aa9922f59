"""Surface elements and distances against surface-distance and MONAI, on random masks and by geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from surface_distance import compute_robust_hausdorff, compute_surface_dice_at_tolerance, compute_surface_distances

from nnunetv2_sam2_3dmed.evaluation import surfaces
from nnunetv2_sam2_3dmed.evaluation.metrics import compute_metrics
from nnunetv2_sam2_3dmed.evaluation.surfaces import distances_between, surface_of

# surface-distance 0.1 imports from scipy's old namespaces
pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

SPACINGS = {3: [(1.0, 1.0, 1.0), (5.0, 0.7, 0.7), (0.3, 2.0, 1.1)], 2: [(1.0, 1.0), (0.7, 3.0)]}


def blobs(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping random masks, which reach the edges of the array too."""
    rng = np.random.default_rng(seed)
    smooth = [gaussian_filter(rng.normal(size=shape), 1.5) for _ in range(3)]
    return smooth[0] + 0.7 * smooth[1] > 0.05, smooth[0] + 0.7 * smooth[2] > 0.05


@pytest.mark.parametrize(
    ("near_steps", "voxels_per_far_element"),
    [(8, 5000), (0.5, 0), (0.5, 10**9)],
    ids=["mostly by the near tree", "far ones by the tree", "far ones by slices"],
)
@pytest.mark.parametrize(("ndim", "spacing"), [(d, s) for d, found in SPACINGS.items() for s in found])
@pytest.mark.parametrize("seed", [0, 1])
def test_distances_and_areas_are_those_of_surface_distance(
    monkeypatch, near_steps, voxels_per_far_element, ndim, spacing, seed
):
    monkeypatch.setattr(surfaces, "_NEAR_STEPS", near_steps)
    monkeypatch.setattr(surfaces, "_VOXELS_PER_FAR_ELEMENT", voxels_per_far_element)
    truth, prediction = blobs(seed, (17, 24, 21)[:ndim])
    prediction[:10] = False  # so that there are far elements
    expected = compute_surface_distances(truth, prediction, spacing)
    a, b = surface_of(truth, spacing), surface_of(prediction, spacing)
    for surface, other, direction, areas in (
        (a, b, "distances_gt_to_pred", "surfel_areas_gt"),
        (b, a, "distances_pred_to_gt", "surfel_areas_pred"),
    ):
        distances = distances_between(surface, other, spacing)
        np.testing.assert_allclose(np.sort(distances), expected[direction], rtol=0, atol=1e-9)
        np.testing.assert_allclose(np.sort(surface.areas_mm2), np.sort(expected[areas]), rtol=0, atol=1e-9)
        # also each distance with its own area
        assert distances @ surface.areas_mm2 == pytest.approx(expected[direction] @ expected[areas], rel=1e-12)
    metrics = compute_metrics(truth, prediction, spacing, 1.4)
    assert metrics.nsd == pytest.approx(compute_surface_dice_at_tolerance(expected, 1.4), abs=1e-9)
    assert metrics.hd95_mm == pytest.approx(compute_robust_hausdorff(expected, 95), abs=1e-9)


def test_a_distance_of_the_tolerance_itself_counts_as_the_library_counts_it():
    # three voxels of 0.1 mm are 0.30000000000000004 mm, four of 0.7 mm 2.8 mm: last bits decide
    for spacing, voxels, tolerance in ((0.1, 3, 0.3), (0.7, 4, 2.8), (0.6, 5, 3.0)):
        truth = np.zeros((4, 4, 16), bool)
        truth[1:3, 1:3, 1:6] = True
        prediction = np.roll(truth, voxels, axis=2)
        expected = compute_surface_distances(truth, prediction, (spacing,) * 3)
        nsd = compute_metrics(truth, prediction, (spacing,) * 3, tolerance).nsd
        assert nsd == compute_surface_dice_at_tolerance(expected, tolerance)


@pytest.mark.filterwarnings("ignore:monai.metrics.utils:FutureWarning")
@pytest.mark.parametrize("spacing", SPACINGS[3])
@pytest.mark.parametrize("tolerance", [0.5, 2.0])
def test_nsd_is_that_of_monai(spacing, tolerance):
    torch = pytest.importorskip("torch")
    monai_metrics = pytest.importorskip("monai.metrics")
    truth, prediction = blobs(3, (14, 20, 18))
    theirs = monai_metrics.compute_surface_dice(
        torch.from_numpy(prediction)[None, None],
        torch.from_numpy(truth)[None, None],
        [tolerance],
        include_background=True,
        spacing=spacing,
        use_subvoxels=True,
    )
    ours = compute_metrics(truth, prediction, spacing, tolerance).nsd
    assert 0.1 < ours < 1
    assert ours == pytest.approx(theirs.item(), abs=1e-6)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.5)])
def test_two_spheres_with_one_centre(spacing):
    # radii of 16 and 20 mm, so 4 mm between them. An element lies between the centres of voxels inside and outside,
    # half a voxel's diagonal from each, and so within half a diagonal of its sphere; that holds at both ends
    diagonal = math.hypot(*spacing)
    shape = tuple(round(50 / s) for s in spacing)
    grids = np.ogrid[tuple(slice(0, n) for n in shape)]
    square = sum(((g - n // 2) * s) ** 2 for g, n, s in zip(grids, shape, spacing, strict=True))
    small, large = square <= 16**2, square <= 20**2
    outside, inside = (
        compute_metrics(large, small, spacing, 4 + diagonal),
        compute_metrics(large, small, spacing, 4 - diagonal),
    )
    assert outside.hd95_mm == pytest.approx(4, abs=diagonal)
    assert (outside.nsd, inside.nsd) == (1, 0)
    # volumes as 16**3 to 20**3, each known to within its surface times half a diagonal
    ratio = (16 / 20) ** 3
    error = 3 * (diagonal / 2) * (1 / 16 + 1 / 20)
    assert outside.iou == pytest.approx(ratio, rel=error)
    assert outside.dice == pytest.approx(2 * ratio / (1 + ratio), rel=error)


def test_the_surface_of_a_box_has_its_area():
    # marching cubes cuts the rims off: the area lies between that of the faces without their rims and that of the box
    spacing = (3.0, 2.0, 1.0)
    mask = np.zeros((12, 8, 9), bool)
    mask[1:11, 1:6, 1:7] = True
    surface = surface_of(mask, spacing)
    inner_faces = 2 * (9 * 4 * 6 + 9 * 5 * 3 + 4 * 5 * 2)
    whole = 2 * (10 * 5 * 6 + 10 * 6 * 3 + 5 * 6 * 2)
    assert inner_faces < surface.areas_mm2.sum() < whole
    # corners of the box's 10 x 5 x 6 voxels: 11 * 6 * 7, less the 9 * 4 * 5 inside
    assert len(surface.corners) == 11 * 6 * 7 - 9 * 4 * 5


def test_identical_surfaces_need_no_search():
    truth, _ = blobs(5, (12, 12, 12))
    surface = surface_of(truth, (1, 1, 1))
    assert not distances_between(surface, surface, (1, 1, 1)).any()
