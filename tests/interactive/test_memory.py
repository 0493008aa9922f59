"""Placement of the outputs of slices: on a GPU is only what attention still reaches."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive import session as session_module
from nnunetv2_sam2_3dmed.interactive.engine import Engine
from nnunetv2_sam2_3dmed.interactive.objects import Objects
from nnunetv2_sam2_3dmed.interactive.prompts import SlicePrompt
from nnunetv2_sam2_3dmed.interactive.runs import plan_runs
from nnunetv2_sam2_3dmed.interactive.segmenter import Segmenter
from nnunetv2_sam2_3dmed.interactive.tracks import HOST
from tests.interactive.fake_gpu import GPU, fake_copy
from tests.interactive.reference import SIZE, phantom

DEPTH = 24
MEMORY = (1, 64, SIZE // 16, SIZE // 16)


def memories_on_gpu() -> int:
    gc.collect()
    found = [one for one in gc.get_objects() if type(one) is FakeTensor and one.dtype == torch.bfloat16]
    return sum(tuple(one.shape) == MEMORY and one.device.type == "cuda" for one in found)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_propagation_leaves_nothing_on_the_gpu_and_has_there_what_attention_reaches(model, reverse):
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    copied = fake_copy(model, mode)
    engine = Engine(copied, GPU, "float32")
    with mode, engine.running():
        (features,) = engine.encode(torch.zeros(1, 3, SIZE, SIZE))
        assert {level.device for level in features} == {GPU}
        prompt = SlicePrompt.empty().with_box((10, 12, 30, 33))
        start = DEPTH - 1 if reverse else 0
        answer = engine.answer(features, start, prompt, (40, 48), DEPTH)
        conditioning = {1: {start: engine.remember(features, answer)}}
        (run,) = plan_runs(conditioning, 0, DEPTH - 1, [reverse])
        slices = SimpleNamespace(depth=DEPTH, features_along=lambda indices: iter([features] * len(indices)))
        steps, there = [], []
        for step in Segmenter(engine, [slices], Objects()).track(run, 0):
            steps.append(step)
            if len(steps) in (4, 20, 23):
                there.append(memories_on_gpu())
        # the prompted slice, and all others at first, but later only the 16 latest: the next looks back to 15 of them
        assert there == [1 + 3, 1 + 16, 1 + 16]
        del run
        assert memories_on_gpu() == 0
        found = [output for _, output in steps if output is not None]
        assert len(found) == DEPTH - 1
        assert {tensor.device for output in found for tensor in output} == {HOST}


@pytest.fixture
def on_gpu(model, monkeypatch):
    """A fake tensor mode, and a session in it on a GPU with a box on slice 3."""
    monkeypatch.setattr(session_module, "choose_device", lambda device: torch.device(device))
    monkeypatch.setattr(torch.Tensor, "any", lambda tensor: True)  # whether SAM 2 sees the object
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    copied = fake_copy(model, mode)
    with mode:
        session = InteractiveSession(copied, GPU, "float32", max_cache_bytes=2**30)
        session.set_image(phantom(), (3, 1, 1))
        session.add_box((3, 10, 12), (3, 30, 33))
    return mode, session


def test_a_session_keeps_nothing_but_features_on_the_gpu(on_gpu):
    mode, session = on_gpu
    with mode:
        session.propagate()
        session.add_points([(5, 30, 10)], 0)
        session.propagate()
        assert memories_on_gpu() == 0
        session.add_points([(1, 30, 10)], 0)
        with session._network.running():
            session._segmenter.answer(session._objects.latest.key)
        ((track,), (before,)) = session._objects.tracks.values(), session._objects._past[1].tracks.values()
        assert sorted(track.answered) == [1] and sorted(track.conditioning) == [3, 5]
        known = [*track.answered.values(), *track.conditioning.values(), *track.tracked.values()]
        known += [*before.conditioning.values(), *before.tracked.values()]
        assert {tensor.device for output in known for tensor in output if tensor is not None} == {HOST}
        assert {level.device for level in session._axes[0].features(6)} == {GPU}


def test_a_propagation_that_is_dropped_or_ended_leaves_nothing_on_the_gpu(on_gpu):
    mode, session = on_gpu
    with mode:
        steps = session.propagation(nearest_first=True)
        assert memories_on_gpu() == 0
        for _ in range(4):
            next(steps)
        assert memories_on_gpu() == 2 * 1 + 3  # the prompted slice's in both directions, and three others
        session.add_points([(5, 30, 10)], 0)
        assert list(steps) == []
        assert memories_on_gpu() == 0
        steps = session.propagation()
        next(steps), next(steps)
        assert memories_on_gpu() > 0
        del steps
        assert memories_on_gpu() == 0


def test_slices_out_of_reach_change_nothing(session):
    """SAM 2 with all memories given, and with those in reach."""
    network = session._network
    assert network.reach == 15  # 16 object pointers, one of them the prompted slice's; of memories, it takes 6
    session.set_image(phantom((DEPTH, 40, 48)), (1, 1, 1))
    session.add_box((2, 10, 12), (2, 30, 33))
    session.propagate()
    (track,) = session._objects.tracks.values()
    last = DEPTH - 1
    features = session._axes[0].features(last)
    near = {index: output for index, output in track.tracked.items() if last - 15 <= index < last}
    nearer = {index: output for index, output in near.items() if index > last - 15}
    with network.running():
        all_of_them, reached, too_few = (
            network.track(features, last, 1, DEPTH, False, track.conditioning, others).logits
            for others in (track.tracked, near, nearer)
        )
    assert torch.equal(reached, all_of_them) and torch.equal(reached, track.tracked[last].logits)
    assert not torch.equal(too_few, all_of_them)


def test_a_correction_is_given_what_its_attention_reaches(session, monkeypatch):
    session.set_image(phantom((DEPTH, 40, 48)), (1, 1, 1))
    session.add_box((20, 10, 12), (20, 30, 33))
    session.propagate()
    given = []
    answer = session._network.answer
    monkeypatch.setattr(session._network, "answer", lambda *a, **k: given.append(k["others"]) or answer(*a, **k))
    for index in (1, 22):
        session.add_points([(index, 20, 20)])
        session.predict_slice()
    # backward from 20, slice 1 looks back to the 15 before it; forward, slice 22 to 21, but not to the prompted one
    assert [sorted(others) for others in given] == [list(range(2, 17)), [21]]


def test_undo_brings_back_the_same_tensors(session):
    session.set_image(phantom(), (3, 1, 1))
    session.add_box((3, 10, 12), (3, 30, 33))
    session.propagate()
    (before,) = session._objects.tracks.values()
    content = {index: [tensor.clone() for tensor in before.output(index)] for index in range(7)}
    pixels = session.predict_slice(1, 0, 6).logits
    session.add_points([(5, 30, 10)], 0)
    session.propagate()
    (later,) = session._objects.tracks.values()
    assert not torch.equal(later.output(6).logits, before.output(6).logits)
    assert later.conditioning[3] is before.conditioning[3], "kept once for now and for the past"
    session.undo()
    (after,) = session._objects.tracks.values()
    for index, tensors in content.items():
        assert all(torch.equal(one, other) for one, other in zip(after.output(index), tensors, strict=True))
    np.testing.assert_array_equal(session.predict_slice(1, 0, 6).logits, pixels)
