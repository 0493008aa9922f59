"""Plans of a propagation, which need no network."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.interactive.runs import MAX_BATCH, agree, alternate, plan_corrections, plan_runs
from tests.interactive.test_tracks import output

WAYS = {
    "both": ((False, True), [((2, 3, 4, 5, 6), False), ((1, 0), True)]),
    "forward": ((False,), [((2, 3, 4, 5, 6), False)]),
    "backward": ((True,), [((4, 3, 2, 1, 0), True)]),
}


@pytest.mark.parametrize("direction", WAYS)
def test_ways_lead_from_the_prompts_to_both_ends_which_are_included(direction):
    directions, expected = WAYS[direction]
    runs = plan_runs({1: {2: output(), 4: output()}}, 0, 6, directions)
    assert [(run.slices, run.reverse) for run in runs] == expected
    assert [sorted(run.conditioning) for run in runs] == [[2, 4]] * len(runs)


def test_objects_with_prompts_on_the_same_slices_share_a_batch():
    prompted = {number: {3: output(number)} for number in range(1, MAX_BATCH + 2)}
    runs = plan_runs({**prompted, 50: {2: output(), 3: output()}, 60: {0: output()}}, 1, 4, (False,))
    assert [run.objects for run in runs] == [tuple(range(1, MAX_BATCH + 1)), (MAX_BATCH + 1,), (50,)]
    np.testing.assert_array_equal(runs[0].conditioning[3].logits[:, 0], np.arange(1, MAX_BATCH + 1))
    assert [run.slices for run in runs] == [(3, 4), (3, 4), (2, 3, 4)]


EMPTY = output(-1.0)
SEEN = output(1.0)
CORRECTIONS = {
    "one slice": ({4: SEEN}, (0, 9), (False, True), [[4, 5, 6, 7, 8, 9], [3, 2, 1, 0]]),
    "half-way of two, of five": ({1: SEEN, 7: SEEN}, (0, 9), (False, True), [[1, 2, 3, 4], [0], [7, 8, 9], [6, 5]]),
    "half-way of two, of four": ({2: SEEN, 7: SEEN}, (2, 8), (False, True), [[2, 3, 4], [], [7, 8], [6, 5]]),
    "neighbours": ({4: SEEN, 5: SEEN}, (3, 6), (False, True), [[4], [3], [5, 6], []]),
    "from none where nothing is left": ({2: SEEN, 6: EMPTY}, (0, 9), (False, True), [[2, 3, 4, 5], [1, 0]]),
    "from none at all": ({6: EMPTY}, (0, 9), (False, True), []),
    "forward": ({1: SEEN, 5: SEEN}, (0, 7), (False,), [[1, 2, 3, 4], [5, 6, 7]]),
    "backward": ({1: SEEN, 5: SEEN}, (0, 7), (True,), [[1, 0], [5, 4, 3, 2]]),
    "within a range": ({1: SEEN, 5: SEEN, 9: SEEN}, (4, 6), (False, True), [[5, 6], [4]]),
}


@pytest.mark.parametrize("name", CORRECTIONS)
def test_corrections_go_outwards_from_their_slices(name):
    conditioning, (first, last), directions, expected = CORRECTIONS[name]
    runs = plan_corrections(3, conditioning, first, last, directions)
    assert [list(run.slices) for run in runs] == expected
    assert all(run.objects == (3,) and run.conditioning == conditioning for run in runs)
    assert [run.reverse for run in runs] == list(directions) * (len(runs) // len(directions))


def test_masks_agree_from_a_dice_of_95_percent():
    start = np.zeros((10, 20), dtype=bool)
    assert agree(start, start)
    start[:5] = True  # 100 pixels
    mask = start.copy()
    mask.flat[:9] = False  # Dice 182 / 191
    assert agree(mask, start)
    mask.flat[:10] = False  # 180 / 190 = 0.947
    assert not agree(mask, start)
    assert not agree(np.zeros_like(start), start)


def test_iterators_alternate_until_all_are_at_their_end():
    assert list(alternate([iter("abc"), iter(""), iter("x"), iter("12")])) == ["a", "x", "1", "b", "2", "c"]
