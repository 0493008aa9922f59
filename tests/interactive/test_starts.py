"""Objects that start from a mask of the whole volume."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.interactive import PromptError, runs
from nnunetv2_sam2_3dmed.interactive.engine import Engine
from tests.interactive.reference import phantom
from tests.interactive.test_session import BOX, SPACING

CLICK = [(3, 12, 12)]


@pytest.fixture
def ready(session):
    session.set_image(phantom(), SPACING)
    return session


@pytest.fixture
def start():
    return phantom() > 500


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def corrected(session, mask, points, labels=0):
    """Masks of a propagation without a start, from a click on a drawn mask: all slices, to be chosen from."""
    session.reset()
    index = points[0][0]
    session.add_mask(mask, index)
    session.predict_slice()
    session.add_points(points, labels)
    session.propagate()
    found = session.mask()
    session.reset()
    return found


def test_a_start_is_the_mask_until_a_prompt_changes_it(ready, start):
    ready.set_start(start.astype(np.uint8), object_id=3)
    assert ready.object_ids == [3] and ready.prompts == []
    np.testing.assert_array_equal(ready.mask(3), start)
    np.testing.assert_array_equal(ready.labels(), np.where(start, 3, 0))
    for axis, index in ((0, 2), (1, 20), (2, 25)):
        shown = ready.predict_slice(3, axis, index)
        np.testing.assert_array_equal(shown.mask, np.take(start, index, axis))
        np.testing.assert_array_equal(shown.logits > 0, shown.mask)
    with pytest.raises(PromptError, match="there are no prompts to propagate"):
        ready.propagate()


def test_several_starts_are_one_step(ready, start):
    ready.add_points([(3, 20, 24)], object_id=4)
    before = ready.mask(4)
    ready.set_starts({3: start, 4: ~start})
    np.testing.assert_array_equal(ready.labels(), np.where(start, 3, 4))
    assert ready.undo() == [3, 4] and ready.object_ids == [4]
    np.testing.assert_array_equal(ready.mask(4), before)
    assert ready.redo() == [3, 4]
    np.testing.assert_array_equal(ready.labels(), np.where(start, 3, 4))
    with pytest.raises(PromptError):
        ready.set_starts({1: start, 2: start[:, :, 1:]})
    assert ready.object_ids == [3, 4]


def test_an_undone_step_can_be_forgotten(ready, start):
    ready.set_start(start)
    ready.set_start(~start, object_id=2)
    assert ready.undo(forget=True) == [2] and ready.object_ids == [1]
    assert not ready.can_redo and ready.can_undo


def test_undo_goes_no_further_back_than_to_where_steps_were_forgotten(ready, start):
    ready.set_start(start)
    ready.forget_steps()
    assert not ready.can_undo and not ready.can_redo
    ready.set_start(~start, object_id=2)
    assert ready.undo() == [2] and ready.object_ids == [1] and not ready.can_undo
    np.testing.assert_array_equal(ready.mask(), start)


def test_the_array_that_was_given_can_be_changed_afterwards(ready, start):
    given = start.copy()
    ready.set_start(given)
    given[:] = False
    np.testing.assert_array_equal(ready.mask(), start)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("direction", [np.eye(3), np.diag([1.0, -1.0, -1.0])], ids=["as stored", "flipped"])
def test_prompts_refine_it_as_the_video_predictor_refines_a_mask(session, reference, start, axis, direction):
    session.set_image(phantom(), SPACING, direction=direction)
    session.set_start(start)
    voxel = [3, 20, 24]
    index = voxel[axis]
    for labels, shift in ((0, 0), (1, 2)):
        place = list(voxel)
        place[(axis + 1) % 3] += shift
        session.add_points([place], labels, axis=axis)
        ours = session.predict_slice()
        view, shape = session.image.view(axis), session.image.shape
        seen = view.slice_index(index, shape)
        if shift == 0:
            state = reference.start(session, axis)
            # frames of the reference are in the array's order
            reference.predictor.add_new_mask(state, index, 1, view.of(start)[seen].copy())
        row, column = view.points(np.array([place]), shape)[0, 1:]
        _, _, expected = reference.predictor.add_new_points_or_box(
            state, index, 1, points=[(column, row)], labels=[labels], clear_old_points=False
        )
        np.testing.assert_allclose(ours.logits, view.plane_back(expected[0, 0].numpy()), atol=1e-3)
    changed = (session.mask() != start).any(axis=tuple(k for k in range(3) if k != axis))
    assert np.flatnonzero(changed).tolist() == [index]


def test_where_it_is_empty_prompts_are_first_ones(ready, start):
    start[3] = False
    ready.add_points(CLICK)
    first = ready.predict_slice().logits
    ready.set_start(start)
    ready.add_points(CLICK)
    np.testing.assert_array_equal(ready.predict_slice().logits, first)


def test_a_correction_ends_where_its_mask_and_the_starts_agree(ready, start):
    found = corrected(ready, start[3], CLICK)
    start[4] = ~found[4]
    start[5] = found[5]
    start[5].flat[np.flatnonzero(found[5])[::50]] = False
    assert 0.95 < dice(start[5], found[5]) < 1
    start[6] = ~found[6]
    start[2], start[1] = ~found[2], ~found[1]
    start[0] = found[0]
    ready.set_start(start)
    ready.add_points(CLICK, 0)
    steps = list(ready.propagation())
    assert [step.index for step in steps] == [3, 4, 5, 2, 1, 0]
    assert [step.total for step in steps] == [7, 7, 6, 6, 6, 6] and steps[-1].done == 6
    expected = start.copy()
    expected[1:5] = found[1:5]
    np.testing.assert_array_equal(ready.mask(), expected)
    ready.undo()
    np.testing.assert_array_equal(ready.mask(), start)
    ready.add_points(CLICK, 0)
    assert [step.index for step in ready.propagation(nearest_first=True)] == [3, 2, 4, 1, 5, 0]
    np.testing.assert_array_equal(ready.mask(), expected)
    ready.undo()
    ready.add_points(CLICK, 0)
    ready.propagate(direction="forward", slices=(2, 4))
    expected = start.copy()
    expected[3:5] = found[3:5]
    np.testing.assert_array_equal(ready.mask(), expected)


def test_masks_that_are_empty_both_end_it(ready, start, monkeypatch):
    """The network's masks are never empty: those of slice 5 are made so."""
    track = Engine.track

    def nothing_on_slice_5(engine, features, index, *args):
        output = track(engine, features, index, *args)
        return output._replace(logits=-output.logits.abs()) if index == 5 else output

    monkeypatch.setattr(Engine, "track", nothing_on_slice_5)
    start[4] = ~start[4]
    start[5] = False
    ready.set_start(start)
    ready.add_points(CLICK, 0)
    ready.propagate(direction="forward")
    after = ready.mask()
    assert (after[4] != start[4]).any()
    np.testing.assert_array_equal(after[5:], start[5:])


def test_an_earlier_correction_goes_where_a_later_one_ends(ready, start, monkeypatch):
    """Masks are those of prompts and start, whatever was propagated before."""
    monkeypatch.setattr(runs, "AGREEMENT", 1.0)  # masks of random weights hardly depend on the prompts
    ready.add_mask(start[3], 3)
    ready.propagate()
    later = ready.mask()
    ready.reset()
    start[[2, 4]] = later[[2, 4]]
    ready.set_start(start)
    ready.add_mask(~start[3], 3)
    ready.propagate()
    assert (ready.mask() != start).any(axis=(1, 2)).all()
    ready.add_mask(start[3], 3)
    steps = list(ready.propagation())
    assert [step.index for step in steps] == [3, 4, 5, 6, 2, 1, 0], "slices that change are told"
    assert [step.done for step in steps] == list(range(1, 8)) and {step.total for step in steps} == {7}
    np.testing.assert_array_equal(ready.mask(), start)
    steps = list(ready.propagation())
    assert [step.index for step in steps] == [3, 4, 2] and steps[-1].done == steps[-1].total
    np.testing.assert_array_equal(ready.mask(), start)


def test_a_correction_that_leaves_nothing_takes_back_what_it_had_spread(ready, start):
    start[1:3] = start[4:] = ~(phantom()[3] > 500)
    ready.set_start(start)
    ready.add_points(CLICK, 0)
    ready.propagate(slices=(1, 5))
    reached = np.flatnonzero((ready.mask() != start).any(axis=(1, 2)))
    assert reached.tolist() == [1, 2, 3, 4, 5]
    ready.add_mask(np.zeros_like(start[3]), 3)
    assert [step.index for step in ready.propagation()] == [1, 2, 4, 5]
    start[3] = False
    np.testing.assert_array_equal(ready.mask(), start)
    assert ready.propagate() and list(ready.propagation()) == []


def test_an_object_that_is_not_on_a_slice_may_be_on_all_others(ready, start):
    ready.set_start(start)
    ready.add_mask(np.zeros_like(start[4]), 4)
    ready.propagate()
    expected = start.copy()
    expected[4] = False
    np.testing.assert_array_equal(ready.mask(), expected)


def test_two_corrections_meet_half_way(ready, start):
    def draw_two():
        for index in (1, 4):
            ready.add_mask(start[5], index)

    found = {}
    for direction in ("forward", "backward"):
        ready.reset()
        draw_two()
        ready.propagate(direction=direction)
        found[direction] = [ready.predict_slice(1, 0, index).logits for index in (2, 3)]
    assert (found["forward"][0] != found["backward"][0]).any()
    start[1:5] = False
    ready.set_start(start)
    draw_two()
    ready.propagate()
    for index, direction in ((2, "forward"), (3, "backward")):
        np.testing.assert_array_equal(ready.predict_slice(1, 0, index).logits, found[direction][index - 2])


def test_objects_with_and_without_a_start_are_propagated_together(ready, start):
    ready.add_box(*BOX, object_id=2)
    ready.propagate()
    alone = ready.mask(2)
    ready.reset()
    ready.set_start(start)
    ready.add_points(CLICK, 0)
    ready.propagate()
    corrected_alone = ready.mask(1)
    ready.add_box(*BOX, object_id=2)
    ready.propagate()
    np.testing.assert_array_equal(ready.mask(2), alone)
    np.testing.assert_array_equal(ready.mask(1), corrected_alone)


def test_a_start_takes_the_place_of_prompts_and_undo_brings_them_back(ready, start):
    ready.add_box(*BOX)
    ready.propagate()
    before = ready.mask()
    ready.set_start(start)
    np.testing.assert_array_equal(ready.mask(), start)
    assert ready.prompts == []
    with pytest.raises(PromptError, match="there is no prompt yet"):
        ready.predict_slice()
    assert ready.undo() == [1]
    np.testing.assert_array_equal(ready.mask(), before)
    assert ready.redo() == [1]
    np.testing.assert_array_equal(ready.mask(), start)
    ready.remove_object(1)
    assert ready.object_ids == []


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.ones((7, 40)), "the mask is 7 x 40, but the image is 7 x 40 x 48"),
        (np.full((7, 40, 48), 2), "other values than 0 and 1"),
        (np.full((7, 40, 48), np.nan), "other values than 0 and 1"),
        (np.zeros((7, 40, 48)), "the mask is empty"),
    ],
)
def test_a_mistake_leaves_the_object_as_it_was(ready, mask, said):
    ready.add_box(*BOX)
    tracks = dict(ready._objects.tracks)
    with pytest.raises(PromptError, match=said):
        ready.set_start(mask)
    assert ready._objects.tracks == tracks and not ready._objects.starts
