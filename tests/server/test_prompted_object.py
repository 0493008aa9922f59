"""An object's bookkeeping where the network fails or sees nothing, with a session that does so on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.interactive import PromptError
from nnunetv2_sam2_3dmed.server.interactions import extents
from nnunetv2_sam2_3dmed.server.prompted_object import PromptedObject, as_slices
from nnunetv2_sam2_3dmed.server.sessions import PooledSession
from nnunetv2_sam2_3dmed.server.worker import Worker
from tests.interactive.reference import phantom

POINT = (1, 8, 9)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture
def session(model) -> PooledSession:
    session = PooledSession(model, torch.device("cpu"), "float32", 2**30)
    session.set_image(phantom((4, 16, 18)), (3.0, 1.0, 1.0))
    return session


@pytest.fixture
def one(session, worker) -> PromptedObject:
    one = PromptedObject(session, worker, budget_s=60)
    one.set_buffer(np.dtype(np.uint8))
    return one


@pytest.fixture
def blind(session, monkeypatch):
    """Slices on which the network sees nothing."""
    slices: set[int] = set()
    answer = session._network.answer

    def answers(features, index, *args, **options):
        output = answer(features, index, *args, **options)
        return output._replace(logits=-output.logits.abs()) if index in slices else output

    monkeypatch.setattr(session._network, "answer", answers)
    return slices


BOX = [(1, 2), (2, 14), (3, 16)]


def on_slice_2(rows: slice, columns: slice) -> tuple[np.ndarray, tuple]:
    """A drawing, and the whole of slice 2 as its place."""
    drawn = np.zeros((1, 16, 18), bool)
    drawn[0, rows, columns] = True
    return drawn, ((2, 3), (0, 16), (0, 18))


def test_a_lasso_is_joined_with_what_is_segmented_on_its_slice(one):
    one.add_box(BOX, True, run=True)
    before = one.buffer[2] != 0
    region = on_slice_2(slice(0, 8), slice(0, 18))
    assert (before & ~region[0][0]).any() and (region[0][0] & ~before).any()
    one.add_lasso(*region, True, run=True)
    np.testing.assert_array_equal(one.buffer[2], before | region[0][0])


def test_lassos_that_wait_for_a_prediction_add_up(one):
    one.add_box(BOX, True, run=True)
    before = one.buffer[2] != 0
    added, taken = on_slice_2(slice(0, 8), slice(0, 18)), on_slice_2(slice(4, 12), slice(5, 9))
    for region, positive in ((added, True), (taken, False), (on_slice_2(slice(15, 16), slice(0, 1)), True)):
        one.add_lasso(*region, positive, run=False)
    expected = (before | added[0][0]) & ~taken[0][0]
    expected[15, 0] = True
    one.predict()
    np.testing.assert_array_equal(one.buffer[2], expected)


def test_undo_answers_no_prompt_that_waits_for_a_prediction(one, session, blind):
    one.add_box(BOX, True, run=True)
    before = one.buffer.copy()
    region, place = on_slice_2(slice(0, 8), slice(0, 18))
    one.add_lasso(region, place, True, run=False)
    one.add_point((3, 8, 9), True, run=True)  # answers both
    assert (one.buffer[2] != before[2]).any()
    assert one.undo().ran  # of the point, so that the lasso waits again
    np.testing.assert_array_equal(one.buffer, before)
    one.predict()
    np.testing.assert_array_equal(one.buffer[2], before[2] | region[0])
    # one that the network cannot answer is told when it is asked for, and the rest stays
    one.reset()
    one.add_point(POINT, True, run=False)
    one.add_box([(2, 3), (2, 12), (3, 14)], True, run=False)
    blind.add(turned(session, 1))
    assert one.undo().message is None and session.object_ids == [1] and not one.buffer.any()
    assert "sees no object" in one.predict().message


def test_what_was_propagated_to_a_slice_whose_prompt_waits_comes_with_its_prediction(session, worker):
    one = PromptedObject(session, worker, budget_s=0)
    one.set_buffer(np.dtype(np.uint8))
    one.add_box([(0, 1), *BOX[1:]], True, run=True)
    while one._unfinished():
        time.sleep(0.01)
    before = session.mask()
    assert before[2].any() and not one.buffer[2].any()
    one.add_point((2, 8, 9), True, run=False)
    assert "nothing is segmented" in one.add_lasso(*on_slice_2(slice(15, 16), slice(0, 1)), False, run=True).message
    np.testing.assert_array_equal(session.mask_so_far(1), before)
    one._budget = 60
    one.predict()
    assert (one.buffer[2] != before[2]).any()
    np.testing.assert_array_equal(one.buffer, session.mask())


def test_negative_prompts_are_judged_by_the_mask_and_not_by_a_new_buffer(one, session):
    one.add_box(BOX, True, run=True)
    before = one.buffer.copy()
    one.set_buffer(np.dtype(np.uint8))
    assert "nothing is segmented" in one.add_lasso(*on_slice_2(slice(0, 1), slice(0, 1)), False, run=True).message
    # what was looked up for it still comes with the next answer
    answer = one.predict()
    assert answer.box == extents(before)
    np.testing.assert_array_equal(answer.values, before[as_slices(answer.box)])
    one.set_buffer(np.dtype(np.uint8))
    inside = tuple(np.argwhere(before[2])[0])
    region = on_slice_2(slice(inside[0], inside[0] + 1), slice(inside[1], inside[1] + 1))
    assert one.add_lasso(*region, False, run=True).message is None
    np.testing.assert_array_equal(one.buffer[2], before[2] & ~region[0][0])
    one.set_buffer(np.dtype(np.uint8))
    assert one.add_point((1, *np.argwhere(before[1])[0]), False, run=True).message is None
    np.testing.assert_array_equal(one.buffer, session.mask())


def turned(session, index: int) -> int:
    return session._axes[0].turned(index)


def test_where_nothing_is_seen_the_prompt_is_taken_back(one, session, blind):
    blind.add(turned(session, 1))
    answer = one.add_point(POINT, True, run=True)
    assert answer.ran and answer.box is None and "sees no object" in answer.message
    assert session.object_ids == [] and not one.undo().ran and not one.predict().ran
    blind.clear()
    assert one.add_point(POINT, True, run=True).box is not None


def test_where_nothing_is_seen_of_queued_prompts_the_others_count(one, session, blind):
    blind.add(turned(session, 1))
    assert not one.add_point((2, 8, 9), True, run=False).ran
    assert not one.add_point((1, 8, 9), True, run=False).ran
    answer = one.predict()
    # known from slice 2, the object may be absent on slice 1
    assert answer.message is None and one.buffer[2].any() and not one.buffer[1].any()
    one.reset()
    for point in (POINT, (1, 9, 9)):
        one.add_point(point, True, run=False)
    answer = one.predict()
    assert "sees no object" in answer.message and answer.box is None
    # both prompts of the slice are gone, so that there is nothing to be taken back
    assert session.object_ids == [] and not one.undo().ran


@pytest.mark.parametrize("method", ["predict_slice", "propagation"])
def test_a_failure_of_the_network_leaves_the_object_as_it_was(one, session, monkeypatch, method):
    one.add_point(POINT, True, run=True)
    before = one.buffer.copy()

    def fail(*args, **options):
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(session, method, fail)
        one.add_box([(2, 3), (2, 12), (3, 14)], True, run=True)
    np.testing.assert_array_equal(one.buffer, before)
    np.testing.assert_array_equal(session.mask(), before)
    assert [(found.axis, found.index) for found in session.prompts] == [(0, 1)]
    assert one.undo().ran and not one.buffer.any()


def fail_on_step(session, monkeypatch, number: int) -> None:
    """Let one step of a propagation fail, once."""
    track, calls = session._network.track, []

    def tracked(*args, **options):
        calls.append(1)
        if len(calls) == number:
            raise torch.OutOfMemoryError("out of memory")
        return track(*args, **options)

    monkeypatch.setattr(session._network, "track", tracked)


def test_a_failure_during_propagation_is_told_with_the_slices_before_it(one, session, monkeypatch, caplog):
    fail_on_step(session, monkeypatch, 2)
    answer = one.add_point(POINT, True, run=True)
    assert "not all slices" in answer.message and "out of memory" in answer.message and not answer.unfinished
    assert "a propagation failed" in caplog.text
    # the prompt's slice and one beside it
    assert one.buffer[1].any() and one.buffer.any(axis=(1, 2)).sum() == 2 and answer.box == extents(one.buffer)
    np.testing.assert_array_equal(one.buffer, session.mask())
    one.add_point((1, 9, 12), True, run=True)
    assert one.buffer.any(axis=(1, 2)).all()
    np.testing.assert_array_equal(one.buffer, session.mask())
    assert one.undo().ran and one.buffer.any(axis=(1, 2)).sum() == 2


def test_a_failure_after_the_answer_is_told_by_the_next_one(session, worker, monkeypatch):
    one = PromptedObject(session, worker, budget_s=0)
    one.set_buffer(np.dtype(np.uint8))
    fail_on_step(session, monkeypatch, 3)
    answer = one.add_point(POINT, True, run=True)
    while one._unfinished():
        time.sleep(0.01)
    assert answer.message is None or "not all slices" in answer.message
    later = one.predict()
    assert "not all slices" in (answer.message or later.message)
    np.testing.assert_array_equal(one.buffer, session.mask())
    assert not one.predict().ran


def test_an_answer_says_if_more_will_follow(session, worker, monkeypatch):
    one = PromptedObject(session, worker, budget_s=0)
    one.set_buffer(np.dtype(np.uint8))
    track, begun, go_on = session._network.track, [], threading.Event()

    def tracked(*args):
        begun.append(args)
        assert len(begun) == 1 or go_on.wait(60)
        return track(*args)

    monkeypatch.setattr(session._network, "track", tracked)
    assert one.add_box(BOX, True, run=True).unfinished
    assert one.add_point((99, 0, 0), True, run=True).unfinished
    go_on.set()
    one._budget = 60
    answer = one.predict()
    assert answer.ran and not answer.unfinished and one.buffer.any(axis=(1, 2)).all()


def test_an_unfinished_propagation_goes_on_after_a_prompt_that_was_taken_back(session, worker, blind):
    one = PromptedObject(session, worker, budget_s=0)
    one.set_buffer(np.dtype(np.uint8))
    worker.start(iter(range(0)))
    one.add_box([(1, 2), (2, 14), (3, 16)], True, run=True)
    blind.update(range(18))
    one._budget = 60
    # along another axis, where the object is not known yet
    answer = one.add_box([(0, 4), (2, 14), (9, 10)], True, run=True)
    assert "sees no object" in answer.message
    until = time.monotonic() + 20
    while one._unfinished() and time.monotonic() < until:
        one.predict()
    one.predict()
    blind.clear()
    expected = PooledSession(session._network.model, torch.device("cpu"), "float32", 2**30)
    expected.set_image(session.image)
    expected.add_box((1, 2, 3), (1, 13, 15))
    expected.propagate()
    np.testing.assert_array_equal(one.buffer, expected.mask())


def test_a_refused_start_changes_nothing(one, session, monkeypatch):
    one.add_point(POINT, True, run=True)
    before = one.buffer.copy()
    with pytest.raises(PromptError), monkeypatch.context() as patch:
        patch.setattr(session, "set_start", lambda *_: (_ for _ in ()).throw(PromptError("no start.")))
        one.start(np.ones(one.shape, bool), run=False)
    np.testing.assert_array_equal(one.buffer, before)
    assert one.undo().ran
