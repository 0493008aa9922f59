"""Scores against values worked out by hand and a direct computation of the published definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.video.scores import (
    FrameScore,
    ObjectScores,
    contour,
    contour_accuracy,
    dice,
    region_similarity,
    score_frame,
)


def drawn(*rows: str) -> np.ndarray:
    """A mask drawn with # for its pixels."""
    return np.array([[letter == "#" for letter in row] for row in rows])


def contour_pixels(mask: np.ndarray) -> set[tuple[int, int]]:
    """The contour pixel by pixel, from DAVIS' definition."""
    rows, columns = mask.shape
    found = set()
    for row in range(rows):
        for column in range(columns):
            right, below = column + 1 < columns, row + 1 < rows
            others = []
            if right and below:
                others = [(row, column + 1), (row + 1, column), (row + 1, column + 1)]
            elif right:
                others = [(row, column + 1)]
            elif below:
                others = [(row + 1, column)]
            if any(mask[place] != mask[row, column] for place in others):
                found.add((row, column))
    return found


def f_measure(gt: np.ndarray, found: np.ndarray) -> float:
    """F from the definition: precision and recall of contour pixels with a match within 0.8 % of the diagonal."""
    within = math.ceil(0.008 * math.sqrt(gt.shape[0] ** 2 + gt.shape[1] ** 2))
    ours, theirs = contour_pixels(found), contour_pixels(gt)
    if not ours and not theirs:
        return 1.0
    if not ours or not theirs:
        return 0.0

    def share(some, others):
        return sum(any(math.dist(a, b) <= within for b in others) for a in some) / len(some)

    precision, recall = share(ours, theirs), share(theirs, ours)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


GT = drawn("........", "..###...", "..###...", "..###...", "........", "........")
SHIFTED = drawn("........", "...###..", "...###..", "...###..", "........", "........")
FAR = drawn("........", "........", "........", "........", "........", "......##")
EMPTY = np.zeros_like(GT)


def test_by_hand():
    assert dice(GT, SHIFTED) == pytest.approx(12 / 18)
    assert region_similarity(GT, SHIFTED) == pytest.approx(6 / 12)
    # the upper left of two pixels that differ
    expected = drawn(".####...", ".#..#...", ".#..#...", ".####...", "........", "........")
    np.testing.assert_array_equal(contour(GT), expected)
    # the diagonal is 10, so that contours match within one pixel: all of them do
    assert contour_accuracy(GT, SHIFTED) == 1
    assert contour_accuracy(GT, FAR) == 0 and region_similarity(GT, FAR) == 0


@pytest.mark.parametrize("score", [dice, region_similarity, contour_accuracy])
def test_empty_masks(score):
    assert score(EMPTY, EMPTY) == 1
    assert score(GT, EMPTY) == 0 and score(EMPTY, GT) == 0
    assert score(GT, GT) == 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(12, 17), (90, 130)])
def test_contours_of_random_shapes(seed, shape):
    """Blobs that reach the edges, with holes; within one pixel, and within two."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((2, shape[0] // 4 + 1, shape[1] // 4 + 1)) > (0.4, 0.7)[seed % 2]
    gt, found = (np.kron(mask, np.ones((4, 4)))[: shape[0], : shape[1]] > 0 for mask in coarse)
    assert {tuple(place) for place in np.argwhere(contour(gt))} == contour_pixels(gt)
    ours = contour_accuracy(gt, found)
    assert ours == pytest.approx(f_measure(gt, found)) and 0 < ours < 1


def test_score_of_a_frame():
    assert score_frame(4, GT, SHIFTED) == FrameScore(4, 12 / 18, 0.5, 1.0, 9, 9, 3)


def object_scores(values: list[float], gone: tuple[int, ...] = (), prompted=(0,), masks_when_gone=()) -> ObjectScores:
    """An object of 100 pixels whose Dice, J and F are the same values."""
    frames = [
        FrameScore(k, v, v, v, 0 if k in gone else 100, 10 if k not in gone or k in masks_when_gone else 0, 7)
        for k, v in enumerate(values)
    ]
    return ObjectScores(frames, prompted, len(values))


def test_means_with_and_without_the_prompt():
    scores = object_scores([1.0, 0.8, 0.6, 0.4])
    assert scores.mean() == pytest.approx(0.6)
    assert scores.mean(with_prompts=True) == pytest.approx(0.7)
    assert math.isnan(object_scores([1.0]).mean())


def test_davis_means_recall_and_decay():
    """Ten values between first and last, whose quarters are 0 to 2 and 7 to 9 (DAVIS' bins share their ends)."""
    values = [1.0, *(0.9, 0.9, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2), 0.0]
    mean, recall, decay = object_scores(values).davis("j")
    assert mean == pytest.approx(0.62)
    assert recall == pytest.approx(0.6), "0.5 is not above 0.5"
    assert decay == pytest.approx((0.9 + 0.9 + 0.9) / 3 - (0.4 + 0.3 + 0.2) / 3)
    assert object_scores(values).j_and_f() == pytest.approx(0.62)
    assert math.isnan(object_scores([1.0, 1.0]).j_and_f())


def test_davis_means_leave_out_the_prompt_of_an_object_that_appears_later():
    late = ObjectScores(object_scores([0.0, 0.0, 1.0, 0.6, 0.4, 0.9]).frames[2:], (2,), 6)
    assert late.davis("f")[:2] == pytest.approx((0.5, 0.5)) and late.j_and_f() == pytest.approx(0.5)


def test_failures_of_propagation():
    values = [0.9, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 1.0, 0.0, 0.0]
    scores = object_scores(values, gone=(9, 10, 11), masks_when_gone=(10, 11))
    assert scores.excess_at_prompts() == pytest.approx(0.07)
    assert scores.over_propagation() == pytest.approx(2 / 3)
    # eight frames with the object beside the prompt: the two nearest and the two farthest
    assert scores.decay_with_distance() == pytest.approx((0.9 + 0.8) / 2 - (0.3 + 0.2) / 2)
    always = object_scores([0.5] * 4)
    assert math.isnan(always.over_propagation()) and math.isnan(always.decay_with_distance())


def test_distance_is_to_the_nearest_prompt():
    values = [1.0, 0.9, 0.1, 0.2, 0.8, 1.0]
    assert object_scores(values, prompted=(0, 5)).decay_with_distance() == pytest.approx(0.9 - 0.2)
