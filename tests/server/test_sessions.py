from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import Volume, volume_from_array
from nnunetv2_sam2_3dmed.server.sessions import SessionPool, content_key
from nnunetv2_sam2_3dmed.video import open_video
from nnunetv2_sam2_3dmed.video.session import MAX_CACHE_BYTES
from tests.interactive.reference import phantom
from tests.server.video_files import write_frames

SLICE_BYTES = 4 * (16 * 16 * 32 + 8 * 8 * 64 + 4 * 4 * 256)  # features of a slice of 64 pixels in float32


def volume(seed: int = 0, depth: int = 4) -> Volume:
    noise = np.random.default_rng(seed).normal(0, 20, (depth, 40, 48)).astype(np.float32)
    return volume_from_array(phantom((depth, 40, 48)) + noise, (3.0, 1.0, 1.0))


@pytest.fixture
def make_pool(model):
    return lambda memory, keep=2: SessionPool(model, torch.device("cpu"), "float32", memory, keep)


@pytest.fixture
def encoded(model):
    """Slices that the image encoder has seen: one entry for each."""
    count = []
    hook = model.image_encoder.register_forward_pre_hook(lambda _, given: count.extend(given[0]))
    yield count
    hook.remove()


def test_the_key_is_that_of_all_that_is_shown():
    image = volume()
    array = image.array
    assert content_key(image) == content_key(replace(image, array=array.copy(), name="other", origin=(1, 2, 3)))
    changed = array.copy()
    changed[1, 2, 3] += 1
    others = [
        replace(image, array=changed),
        replace(image, array=array.astype(np.float64)),
        replace(image, array=array.reshape(8, 20, 48)),
        replace(image, spacing=(3.0, 1.0, 1.1)),
        replace(image, direction=np.diag([1.0, -1.0, 1.0])),
        replace(image, modality="CT"),
        replace(image, inverted=True),
    ]
    assert len({content_key(other) for other in [image, *others]}) == len(others) + 1


def test_the_same_image_finds_its_slices_again_and_nothing_else(make_pool, encoded):
    pool = make_pool(2**30)
    first = pool.open(volume())
    first.add_box((2, 10, 12), (2, 30, 33))
    first.propagate()
    expected = first.mask()
    pool.close(first)
    again = pool.open(volume())
    assert again.object_ids == [] and again.protected_ids == [] and len(encoded) == 4
    again.add_box((2, 10, 12), (2, 30, 33))
    again.propagate()
    np.testing.assert_array_equal(again.mask(), expected)
    assert len(encoded) == 4
    # two users of one image at a time have a session each, and so have two windows
    assert pool.open(volume()) is not again
    pool.close(again)
    assert pool.open(volume(), "bone") is not again
    assert pool.open(volume(1)) is not again
    assert pool.open(volume()) is again


def test_what_its_former_user_does_to_a_closed_session_is_not_seen_by_the_next(make_pool):
    pool = make_pool(2**30)
    first = pool.open(volume())
    first.add_points([(1, 20, 24)])
    pool.close(first)
    first.add_box((2, 10, 12), (2, 30, 33))
    late = first.propagation(nearest_first=True)
    again = pool.open(volume())
    assert again is first and again.object_ids == [] and not again.can_undo
    again.add_box((2, 10, 12), (2, 30, 33))
    assert list(late) == []


def test_closed_sessions_go_when_memory_is_needed(make_pool):
    image_bytes = volume().array.nbytes
    pool = make_pool(9 * SLICE_BYTES + 2 * image_bytes)
    first, second = pool.open(volume(0)), pool.open(volume(1))
    first.prepare()
    pool.close(first)
    pool.trim()
    assert pool.used_bytes == 4 * SLICE_BYTES + image_bytes
    second.prepare()
    pool.trim()
    assert pool.used_bytes == 8 * SLICE_BYTES + image_bytes
    third = pool.open(volume(2))
    third.prepare()
    pool.trim()  # 12 slices do not fit: the closed session goes, whoever used it
    assert pool.used_bytes == 8 * SLICE_BYTES
    with pytest.raises(UserError):
        _ = first.image


def test_no_more_closed_sessions_are_kept_than_asked_for(make_pool, encoded):
    pool = make_pool(2**30, keep=1)
    for seed in (0, 1):
        session = pool.open(volume(seed))
        session.prepare()
        pool.close(session)
    pool.open(volume(1)).prepare()
    assert len(encoded) == 8
    pool.open(volume(0)).prepare()
    assert len(encoded) == 12


def test_open_sessions_share_the_memory(make_pool):
    pool = make_pool(8 * SLICE_BYTES)
    first = pool.open(volume(0, depth=7))
    first.prepare()
    assert first.feature_bytes == 7 * SLICE_BYTES
    second = pool.open(volume(1, depth=7))
    assert first.feature_bytes == 4 * SLICE_BYTES
    second.prepare()
    assert second.feature_bytes == 4 * SLICE_BYTES
    pool.close(second)
    first.prepare()
    assert first.feature_bytes == 7 * SLICE_BYTES


def test_an_image_that_cannot_be_opened_leaves_the_pool_as_it_was(make_pool):
    pool = make_pool(2**30)
    with pytest.raises(UserError):
        pool.open(volume(), "no such window")
    assert pool.open_sessions == 0 and pool.used_bytes == 0


def test_a_video_shares_the_memory_and_never_takes_more_than_alone(make_pool, tmp_path):
    video = open_video(write_frames(tmp_path / "frames", 3))
    pool = make_pool(4 * MAX_CACHE_BYTES)
    session = pool.open_video(video)
    assert session._features.max_bytes == MAX_CACHE_BYTES
    others = [pool.open(volume(seed)) for seed in range(7)]
    assert session._features.max_bytes == MAX_CACHE_BYTES // 2
    session.add_box((1, 5, 4), (1, 28, 27))
    session.propagate()
    assert pool.used_bytes == session.feature_bytes > 0
    for other in others:
        pool.close(other)
    assert session._features.max_bytes == MAX_CACHE_BYTES
    pool.close(session)
    assert session.feature_bytes == 0 and session not in pool._idle.values()
