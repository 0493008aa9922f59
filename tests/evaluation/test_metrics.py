from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial import distance

from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics, compute_metrics

# surface-distance 0.1 imports from scipy's old namespaces
pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")


def box(shape: tuple[int, ...], start: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return mask


def test_dice_and_iou_of_shifted_cubes_by_counting():
    truth = box((8, 8, 8), (2, 2, 2), (4, 4, 4))
    prediction = box((8, 8, 8), (3, 2, 2), (4, 4, 4))
    metrics = compute_metrics(truth, prediction, (3, 1, 1), 2)
    # 64 voxels each, 3 * 4 * 4 = 48 in common, 80 in the union
    assert metrics.dice == 2 * 48 / (64 + 64)
    assert metrics.iou == 48 / 80


@pytest.mark.parametrize(("axis", "shift_mm", "face_mm2"), [(0, 3.0, 200), (1, 2.0, 300), (2, 1.0, 600)])
def test_surfaces_of_shifted_boxes_by_geometry(axis: int, shift_mm: float, face_mm2: float):
    # a box of 30 x 20 x 10 mm, whose surface is 2200 mm2, shifted by one voxel: the truth's trailing face and
    # the prediction's leading face, over 5 % of each surface, lie exactly the shift away, and nothing further
    spacing = (3.0, 2.0, 1.0)
    truth = box((12, 12, 12), (1, 1, 1), (10, 10, 10))
    prediction = np.roll(truth, 1, axis)
    within = compute_metrics(truth, prediction, spacing, tolerance_mm=shift_mm)
    below = compute_metrics(truth, prediction, spacing, tolerance_mm=0.99 * shift_mm)
    assert within.hd95_mm == pytest.approx(shift_mm)
    assert within.nsd == 1
    assert below.nsd < 1 - face_mm2 / 2200


@pytest.mark.parametrize("spacing", [(3.0, 2.0, 1.0), (2.0, 1.0)])
def test_neighbouring_single_voxels_share_half_their_surface(spacing: tuple[float, ...]):
    # the surface elements of one voxel are its corners, all of one area; neighbours share half of them, and
    # the other half lies one voxel away
    truth = box((5,) * len(spacing), (2,) * len(spacing), (1,) * len(spacing))
    prediction = np.roll(truth, 1, axis=0)
    metrics = compute_metrics(truth, prediction, spacing, tolerance_mm=0.9)
    assert (metrics.dice, metrics.iou) == (0, 0)
    assert metrics.nsd == pytest.approx(0.5)
    assert metrics.hd95_mm == spacing[0]
    assert compute_metrics(truth, prediction, spacing, tolerance_mm=spacing[0]).nsd == 1


def test_the_95th_percentile_of_distances_by_counting():
    # a row of n pixels, all spaced by two, of which the prediction has all and m more, further down: pixels that touch
    # nothing have 4 corners of one length each, so that a share m / (n + m) of the predicted contour lies far away
    gt = np.zeros((64, 64), bool)
    gt[2, :40:2] = True  # 20 pixels
    for more, far in ((1, False), (2, True)):  # 1 / 21 = 4.8 %, 2 / 22 = 9.1 %
        prediction = gt.copy()
        prediction[40, : 2 * more : 2] = True
        # the rows of corners of a pixel at row 40 lie 37 and 38 rows below those of the nearest at row 2
        assert (compute_metrics(gt, prediction, (1, 1), 1).hd95_mm > 30) is far


def test_identical_masks_are_perfect_up_to_the_edge_of_the_image():
    mask = box((4, 4, 4), (0, 0, 0), (4, 4, 2))
    assert compute_metrics(mask, mask.copy(), (5, 1, 1), 0) == MaskMetrics(dice=1, iou=1, nsd=1, hd95_mm=0)


def test_both_masks_empty_is_perfect():
    empty = np.zeros((3, 4, 5), bool)
    metrics = compute_metrics(empty, empty, (1, 1, 1), 2)
    assert metrics == MaskMetrics(dice=1, iou=1, nsd=1, hd95_mm=0)
    assert not metrics.failed


@pytest.mark.parametrize("empty_is_truth", [True, False])
def test_one_mask_empty_is_a_failure_without_distance(empty_is_truth: bool):
    masks = [np.zeros((3, 4, 5), bool), np.ones((3, 4, 5), bool)]
    metrics = compute_metrics(*(masks if empty_is_truth else masks[::-1]), (1, 1, 1), 2)
    assert (metrics.dice, metrics.iou, metrics.nsd) == (0, 0, 0)
    assert math.isnan(metrics.hd95_mm)
    assert metrics.failed


@pytest.mark.parametrize("shape", [(9, 10, 11), (30, 31)])
def test_dice_and_iou_of_random_masks_are_scipys_dissimilarities(shape: tuple[int, ...]):
    truth, prediction = np.random.default_rng(0).random((2, *shape)) < 0.3
    metrics = compute_metrics(truth, prediction, (1.0,) * len(shape), 1)
    assert metrics.dice == pytest.approx(1 - distance.dice(truth.ravel(), prediction.ravel()), abs=1e-12)
    assert metrics.iou == pytest.approx(1 - distance.jaccard(truth.ravel(), prediction.ravel()), abs=1e-12)


def test_where_the_masks_lie_in_the_image_does_not_matter():
    truth, prediction = box((6, 6, 6), (1, 1, 1), (3, 3, 2)), box((6, 6, 6), (2, 1, 1), (3, 4, 3))
    alone = compute_metrics(truth, prediction, (2.5, 1, 1), 1)
    for before in ((0, 0, 0), (7, 3, 20)):
        padding = [(n, 9 - n % 9) for n in before]
        assert compute_metrics(np.pad(truth, padding), np.pad(prediction, padding), (2.5, 1, 1), 1) == alone
    # down to the edges on all sides
    assert compute_metrics(truth[1:5, 1:5, 1:4], prediction[1:5, 1:5, 1:4], (2.5, 1, 1), 1) == alone
