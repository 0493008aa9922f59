"""Prompts, tracks and plans, which need no network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.interactive.objects import Objects
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError, SlicePrompt, check_points
from nnunetv2_sam2_3dmed.interactive.runs import MAX_BATCH, plan_runs
from nnunetv2_sam2_3dmed.interactive.tracks import Key, Place, SliceOutput, Track

KEY = Key(1, 0)


def output(number: float = 0.0) -> SliceOutput:
    return SliceOutput(*(torch.full((1, 1), number) for _ in range(5)))


@pytest.mark.parametrize(("z", "index"), [(2.4, 2), (2.6, 3), (-0.5, 0), (6.5, 6)])
def test_a_point_is_on_the_slice_whose_middle_is_nearest(z, index):
    """Voxel coordinates are those of the middles of voxels: slice 3 reaches from 2.5 to 3.5."""
    assert check_points([(z, 1, 1)], (7, 4, 5), 0)[1] == index


def test_corrections_take_the_place_of_tracked_slices_in_ascending_order():
    """SAM2VideoPredictor removes a frame with prompts from those that were tracked."""
    track = Track()
    for index in (5, 1, 3):
        track = track.with_visit(index, False, output(index)).with_answer(index, output(10 + index))
        track = track.with_visit(index + 1, False, output(index)).with_conditioning(track.answered)
    assert list(track.conditioning) == [1, 3, 5] and sorted(track.tracked) == [2, 4, 6]
    assert [track.output(index).logits.item() for index in (1, 2, 3)] == [11, 1, 13]


def test_as_many_prompts_can_be_undone_as_are_kept():
    objects, steps = Objects(), 32  # as InteractiveSession promises
    for index in range(steps + 1):
        objects.add_prompt(Place(KEY, index), SlicePrompt.empty())
    assert objects.latest == Place(KEY, steps)
    for index in reversed(range(steps)):
        objects.undo()
        assert objects.latest == Place(KEY, index) and sorted(objects.track(KEY).prompts) == list(range(index + 1))
    with pytest.raises(PromptError, match="nothing to undo"):
        objects.undo()


def test_a_removed_object_is_not_the_latest_until_that_is_undone():
    objects = Objects()
    objects.add_prompt(Place(KEY, 3), SlicePrompt.empty().with_box((1, 1, 2, 2)))
    objects.remove(1)
    assert objects.latest is None and objects.ids == []
    objects.undo()
    assert objects.latest == Place(KEY, 3) and objects.ids == [1]


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
