"""Sessions on videos: each call, what is kept in memory, and mistakes in a sentence each."""

from __future__ import annotations

import gc
import os
import tracemalloc

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.video import Video, VideoSession

ROWS, COLUMNS = 40, 48


class Discs:
    """Synthetic frames: a disc that moves over noise; of as many as are asked for."""

    def decode(self, index):
        rng = np.random.default_rng(index)
        rows, columns = np.mgrid[:ROWS, :COLUMNS]
        frame = rng.integers(40, 90, (ROWS, COLUMNS, 3), dtype=np.uint8)
        frame[(rows - 18) ** 2 + (columns - 20 - 6 * np.sin(index / 3)) ** 2 < 80] += 120
        yield index, frame


def discs(count: int, tmp_path) -> Video:
    return Video("discs", tmp_path, (count, ROWS, COLUMNS), Discs(), times=np.arange(count) / 10)


@pytest.fixture
def ready(session, tmp_path) -> VideoSession:
    session.set_video(discs(8, tmp_path))
    return session


BOX = ((2, 9, 11), (2, 27, 30))


def test_frames_one_by_one_are_the_arrays_of_all(ready):
    ready.add_box(*BOX)
    ready.add_points([(5, 30, 40)], object_id=3)
    ready.propagate()
    labels = ready.labels()
    assert labels.shape == (8, ROWS, COLUMNS) and set(np.unique(labels)) == {0, 1, 3}
    for index, frame in enumerate(ready.label_frames()):
        np.testing.assert_array_equal(frame, labels[index])
    logits = {n: np.stack([ready.predict_slice(n, 0, k).logits for k in range(8)]) for n in (1, 3)}
    for number in (1, 3):
        np.testing.assert_array_equal(ready.mask(number), logits[number] > 0)
    first = (logits[1] > 0) & (logits[1] >= logits[3])
    second = (logits[3] > 0) & (logits[3] > logits[1])
    np.testing.assert_array_equal(labels, np.where(first, 1, np.where(second, 3, 0)))
    ready.protect(3)
    labels = ready.labels()
    np.testing.assert_array_equal(labels == 3, logits[3] > 0)
    assert not (ready.mask(1) & ready.mask(3)).any()


def test_only_the_frames_asked_for_and_what_an_empty_mask_says(ready):
    """An object that is there on some frames only, and appears late."""
    ready.add_box((5, *BOX[0][1:]), (5, *BOX[1][1:]))
    ready.propagate(slices=(4, 6))
    there = [bool(ready.frame_mask(index).any()) for index in range(8)]
    assert there == [False] * 4 + [True] * 3 + [False]
    before = ready.frame_mask(6)
    ready.add_mask(np.zeros((ROWS, COLUMNS), dtype=bool), 6)
    ready.propagate()
    assert not ready.frame_mask(6).any() and before.any()
    assert ready.undo() == [1]
    np.testing.assert_array_equal(ready.frame_mask(6), before)


def test_a_start_and_its_correction(ready):
    start = np.zeros((8, ROWS, COLUMNS), dtype=bool)
    start[2:6, 10:20, 10:20] = True
    ready.set_start(start)
    np.testing.assert_array_equal(ready.mask(), start)
    ready.add_box(*BOX)
    ready.propagate()
    assert (ready.frame_mask(2) != start[2]).any()


def test_prompts_come_back_from_json(ready):
    ready.add_box(*BOX)
    ready.add_points([(6, 5, 5), (6, 20, 20)], [0, 1])
    ready.propagate()
    masks, text = ready.mask(), ready.prompts_as_json()
    ready.reset()
    ready.add_prompts_from_json(text)
    ready.propagate()
    np.testing.assert_array_equal(ready.mask(), masks)


def test_another_video_drops_objects_and_a_failed_one_does_not(ready, tmp_path):
    ready.add_box(*BOX)
    with pytest.raises(Exception, match="there is no file"):
        ready.set_video(tmp_path / "nothing.mp4")
    assert ready.object_ids == [1]
    ready.set_video(discs(3, tmp_path))
    assert ready.object_ids == [] and ready.image.shape == (3, ROWS, COLUMNS)
    ready.clear()
    with pytest.raises(PromptError, match="there is no video yet"):
        ready.add_box(*BOX)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.add_points([(8, 1, 1)]), "frame 8 does not exist: discs has 8 frames, 0 to 7"),
        (lambda s: s.add_box((99, 1, 1), (99, 5, 5)), "frame 99 does not exist"),
        (lambda s: s.add_scribble([(-3, 1, 1), (-3, 5, 5)]), "frame -3 does not exist"),
        (lambda s: s.add_mask(np.ones((ROWS, COLUMNS)), 8), "frame 8 does not exist"),
        (lambda s: s.predict_slice(1, 0, 9), "frame 9 does not exist"),
        (lambda s: s.propagate(slices=(0, 8)), "frame 8 does not exist"),
        (lambda s: s.frame_labels(-1), "frame -1 does not exist"),
        (lambda s: s.frame_mask(20), "frame 20 does not exist"),
        (lambda s: s.add_points([(1, 40, 1)]), "lies outside"),
        (lambda s: s.add_points([(1, 1)]), "three voxel coordinates"),
        (lambda s: s.add_mask(np.ones((3, 3)), 1), "the mask is 3 x 3"),
        (lambda s: s.add_points([(1, 1, 1)], axis=1), "a video has one, 0"),
        (lambda s: s.set_image("a.nii.gz"), "this session is for videos"),
        (lambda s: s.frame_mask(0, 4), "there is no object 4"),
    ],
)
def test_mistakes_are_sentences_and_change_nothing(ready, call, message):
    ready.add_box(*BOX)
    ready.propagate()
    before = ready.labels()
    with pytest.raises(PromptError, match=message):
        call(ready)
    np.testing.assert_array_equal(ready.labels(), before)


def test_a_frame_of_one_colour(session, tmp_path):
    class Black:
        def decode(self, index):
            yield index, np.full((4, 5, 3), (0, 0, 9), dtype=np.uint8)

    session.set_video(Video("black", tmp_path, (2, 4, 5), Black()))
    with pytest.raises(PromptError, match=r"frame 1 shows nothing: all of it has the colour \(0, 0, 9\)"):
        session.add_points([(1, 2, 2)])


def test_memory_does_not_grow_with_the_number_of_frames(model, tmp_path, monkeypatch):
    """Python's and numpy's memory is traced; torch's is that of outputs and features, which are counted."""
    monkeypatch.setattr("nnunetv2_sam2_3dmed.video.video.MOST_FRAMES", 4)
    session = VideoSession(model, "cpu", "float32", max_cache_bytes=1)
    session._network.slices_at_once = 4
    peaks, tensors = [], []
    for count in (20, 60):
        video = discs(count, tmp_path)
        session.set_video(video)
        session.add_box((count // 2, *BOX[0][1:]), (count // 2, *BOX[1][1:]))
        gc.collect()
        tracemalloc.start()
        session.propagate()
        assert sum(int(labels.any()) for labels in session.label_frames()) > count // 2
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        track = next(iter(session._objects.tracks.values()))
        assert len(track.tracked) == count - 1 and len(video._frames) <= 4 and len(session._features) == 1
        shelf = next(iter(track.tracked.values()))._shelf
        tensors.append(os.fstat(shelf._file.fileno()).st_size / (count - 1))
    assert peaks[1] - peaks[0] < 40 * 1500, "an entry in a table for each further frame, no picture"
    # logits of 16 x 16, a pointer, presence and quality in float32, a memory of 4 x 4 in bfloat16
    size = 4 * 16**2 + 4 * 256 + 4 + 4 + 2 * 64 * 4**2
    assert tensors == [size, size], "what is kept of a frame lies in the file"
