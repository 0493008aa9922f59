"""Propagation a slice at a time: order, equality with a propagation at once, and its end."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.interactive import PromptError
from tests.interactive.reference import phantom
from tests.interactive.test_session import BOX, SLICE_BYTES, SPACING


@pytest.fixture
def ready(session):
    session.set_image(phantom(), SPACING)
    return session


def test_the_slices_nearest_to_the_prompt_come_first(ready):
    ready.add_box(*BOX)
    steps = list(ready.propagation(nearest_first=True))
    assert [step.index for step in steps] == [3, 2, 4, 1, 5, 0, 6]
    assert [step.done for step in steps] == list(range(1, 8)) and {step.total for step in steps} == {7}
    assert [step.index for step in ready.propagation()] == [3, 4, 5, 6, 2, 1, 0]


PLACES = {
    "one object": [((3, 10, 12), (3, 30, 33), 1, 0)],
    "two slices of it": [((2, 10, 12), (2, 30, 33), 1, 0), ((4, 10, 12), (4, 30, 33), 1, 0)],
    "objects on other slices": [((3, 10, 12), (3, 30, 33), 1, 0), ((5, 2, 3), (5, 20, 18), 4, 0)],
    "two axes": [((3, 10, 12), (3, 30, 33), 1, 0), ((1, 4, 12), (5, 4, 33), 1, 1)],
}


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("name", PLACES)
def test_either_order_gives_the_very_logits_of_a_propagation_at_once(ready, name, cached):
    if not cached:
        ready._features.max_bytes = 2 * SLICE_BYTES
    ready.set_image(phantom(), SPACING, direction=np.diag([1.0, 1.0, -1.0]))
    found = []
    for nearest_first in (None, True, False):
        ready.reset()
        ready._features.clear()
        for corner, opposite, object_id, axis in PLACES[name]:
            ready.add_box(corner, opposite, object_id, axis)
        if nearest_first is None:
            ready.propagate(slices=(0, 6))
        else:
            steps = ready.propagation(slices=(0, 6), nearest_first=nearest_first)
            assert len({(step.axis, step.index) for step in steps}) >= 7
        found.append([ready._logits(object_id) for object_id in ready.object_ids])
        assert all((volume > 0).any(axis=(1, 2)).all() for volume in found[-1])
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"direction": "up"}, "direction is 'up'"),
        ({"slices": (4, 6)}, "object 1 has no prompt on slices 4 to 6"),
        ({"slices": (0, 7)}, "slice 7 along axis 0 does not exist"),
        ({"object_ids": [2]}, "there is no object 2"),
        ({"axis": 1}, "no prompts along axis 1"),
    ],
)
def test_mistakes_are_told_by_the_call(ready, options, said):
    ready.add_box(*BOX)
    with pytest.raises(PromptError, match=said):
        ready.propagation(**options)


CHANGES = {
    "a prompt": lambda s: s.add_points([(5, 20, 20)]),
    "an undo": lambda s: s.undo(),
    "an undo that is redone": lambda s: (s.undo(), s.redo()),
    "a removal": lambda s: s.remove_object(1),
    "a start": lambda s: s.set_start(phantom() > 700),
    "a reset": lambda s: s.reset(),
    "an image": lambda s: s.set_image(phantom(), SPACING),
}


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("name", CHANGES)
def test_it_ends_with_a_change_of_its_object(ready, name, before):
    ready.add_box(*BOX)
    steps = ready.propagation()
    assert [next(steps).index for _ in range(before)] == [3, 4, 5][:before]
    CHANGES[name](ready)
    tracks = dict(ready._objects.tracks)
    assert list(steps) == []
    assert ready._objects.tracks == tracks


def test_changes_of_other_objects_do_not_end_it(ready):
    ready.add_box(*BOX)
    ready.propagate()
    alone = ready.mask()
    ready.reset()
    ready.add_box(*BOX)
    steps = ready.propagation(nearest_first=True)
    indices = [next(steps).index]
    ready.add_box((5, 2, 3), (5, 20, 18), object_id=2)
    indices.append(next(steps).index)
    ready.predict_slice()
    ready.propagate([2])
    indices.append(next(steps).index)
    assert ready.undo() == [2]
    ready.protect(1)
    indices += [step.index for step in steps]
    assert indices == [3, 2, 4, 1, 5, 0, 6]
    np.testing.assert_array_equal(ready.mask(), alone)


def test_what_was_reached_before_the_end_has_its_masks(ready):
    ready.add_box(*BOX)
    ready.propagate()
    whole = ready.mask()
    ready.undo()
    ready.redo()
    ready.reset()
    ready.add_box(*BOX)
    steps = ready.propagation(nearest_first=True)
    reached = [next(steps).index for _ in range(4)]
    expected = np.zeros_like(whole)
    expected[reached] = whole[reached]
    assert sorted(reached) == [1, 2, 3, 4]
    np.testing.assert_array_equal(ready.mask(), expected)


def test_between_steps_nothing_is_set_for_the_thread(ready):
    ready.add_box(*BOX)
    for _ in ready.propagation(slices=(2, 4)):
        assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
