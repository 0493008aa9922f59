"""The same logits as SAM2VideoPredictor's on a real echocardiogram in colour, with the same weights and prompts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from sam2.utils.misc import _load_img_as_tensor

from nnunetv2_sam2_3dmed.video import Video, VideoSession, open_video
from tests.interactive.reference import SIZE, Reference, build
from tests.interactive.test_parity import assert_alive

TOLERANCE = 1e-3
BOX = (60, 90, 150, 190)  # rows and columns around the left ventricle
FRAMES = 12
PRESENCE = 20.0407


class FirstFrames:
    """The first frames of a video, as a source of its own."""

    def __init__(self, video: Video):
        self.video = video

    def decode(self, index):
        yield index, self.video.frame(index)


@pytest.fixture(scope="module")
def echo(echo_file) -> Video:
    whole = open_video(echo_file)
    return Video(whole.name, echo_file, (FRAMES, *whole.shape[1:]), FirstFrames(whole))


def start(reference: Reference, video: Video, reverse: bool = False, size: int = SIZE) -> dict:
    """A state of the predictor for the frames, or for them from last to first, as its own loader makes them.

    Losses of JPEG apart: the predictor reads nothing else from a folder, but its function for one picture does.
    """
    order = range(len(video))
    frames = [video.frame(index) for index in (reversed(order) if reverse else order)]
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(reference.folder / f"{number}.jpg")
    state = reference.predictor.init_state(str(reference.folder))
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = []
    for number, frame in enumerate(frames):
        (reference.folder / f"{number}.jpg").unlink()
        lossless = reference.folder / "frame.png"
        Image.fromarray(frame).save(lossless)
        image, height, width = _load_img_as_tensor(lossless, size)
        assert (height, width) == frame.shape[:2]
        images.append((image.float() - mean) / std)
    lossless.unlink()
    state["images"] = torch.stack(images)
    state["cached_features"] = {}
    return state


def add_box(reference: Reference, state: dict, frame: int, object_id: int = 1, box: tuple = BOX) -> None:
    top, left, bottom, right = box
    reference.predictor.add_new_points_or_box(state, frame, object_id, box=[left, top, right, bottom])


def ours(session: VideoSession, object_id: int = 1) -> np.ndarray:
    return np.stack([session.predict_slice(object_id, 0, index).logits for index in range(FRAMES)])


def test_forward_and_reversed_in_colour(session, reference, echo):
    assert (echo.frame(0)[..., 0] != echo.frame(0)[..., 2]).any(), "a frame in colour"
    session.set_video(echo)
    session.add_box((4, *BOX[:2]), (4, *BOX[2:]))
    assert session.propagate()
    found = ours(session)
    assert_alive(found)
    forward = start(reference, echo)
    add_box(reference, forward, 4)
    expected = reference.propagate(forward)
    backward = start(reference, echo, reverse=True)
    add_box(reference, backward, FRAMES - 1 - 4)
    for frame, logits in reference.propagate(backward).items():
        if frame > FRAMES - 1 - 4:
            expected[FRAMES - 1 - frame] = logits
    assert sorted(expected) == list(range(FRAMES))
    for index, logits in expected.items():
        np.testing.assert_allclose(found[index], logits[0], atol=TOLERANCE)
    assert all(np.abs(one - found[4]).max() > 10 * TOLERANCE for one in found[[0, 2, 6, 8, 11]]), "other frames"
    # the same by the predictor's own way back
    state = start(reference, echo)
    add_box(reference, state, 4)
    for index, logits in reference.propagate(state, reverse=True).items():
        np.testing.assert_allclose(found[index], logits[0], atol=TOLERANCE)


def test_several_objects_and_a_correction_after_a_propagation(session, reference, echo):
    """A corrected frame attends to the memories of those before it, which come back from their file."""
    session.set_video(echo)
    other = (100, 40, 200, 120)
    session.add_box((0, *BOX[:2]), (0, *BOX[2:]))
    session.add_box((0, *other[:2]), (0, *other[2:]), 2)
    session.propagate()
    state = start(reference, echo)
    add_box(reference, state, 0)
    add_box(reference, state, 0, 2, other)
    for index, logits in reference.propagate(state).items():
        for number in (1, 2):
            ours_here = session.predict_slice(number, 0, index).logits
            np.testing.assert_allclose(ours_here, logits[number - 1], atol=TOLERANCE)
    before = ours(session)
    for row, column, label in ((100, 140, 1), (200, 60, 0)):
        session.add_points([(9, row, column)], label)
        session.predict_slice()  # the second click corrects the answer to the first one
        reference.predictor.add_new_points_or_box(
            state, 9, 1, points=[(column, row)], labels=[label], clear_old_points=False
        )
    session.propagate([1])
    for index, logits in reference.propagate(state).items():
        np.testing.assert_allclose(session.predict_slice(1, 0, index).logits, logits[0], atol=TOLERANCE)
    assert np.abs(ours(session)[11] - before[11]).max() > 10 * TOLERANCE
    assert session.undo() == [1] and session.undo() == [1]
    np.testing.assert_array_equal(ours(session), before)


def test_a_mask_on_the_first_frame(session, reference, echo):
    session.set_video(echo)
    mask = np.zeros(echo.shape[1:], dtype=bool)
    mask[BOX[0] : BOX[2], BOX[1] : BOX[3]] = True
    session.add_mask(mask, 0)
    session.propagate()
    state = start(reference, echo)
    reference.predictor.add_new_mask(state, 0, 1, mask)
    for index, logits in reference.propagate(state).items():
        if index:
            np.testing.assert_allclose(session.predict_slice(1, 0, index).logits, logits[0], atol=TOLERANCE)
    assert (session.frame_mask(0) == mask).all(), "what was drawn stays as it was drawn"


def test_an_object_that_leaves_the_picture(weights, echo, tmp_path):
    """Weights that see it on some frames only: those without it are empty, and what is remembered of them says so."""
    head = "sam_mask_decoder.pred_obj_score_head.layers.2."
    changed = {**weights, head + "weight": 1000 * weights[head + "weight"]}
    # of the object on the echocardiogram, the other weights make presences about as large, with either sign
    changed[head + "bias"] = 1000 * (weights[head + "bias"] - PRESENCE)
    session = VideoSession(build(changed), device="cpu", precision="float32")
    session.set_video(echo)
    mask = np.zeros(echo.shape[1:], dtype=bool)
    mask[BOX[0] : BOX[2], BOX[1] : BOX[3]] = True
    session.add_mask(mask, 0)
    session.propagate()
    reference = Reference(changed, tmp_path)
    state = start(reference, echo)
    reference.predictor.add_new_mask(state, 0, 1, mask)
    expected = np.stack([logits[0] for _, logits in sorted(reference.propagate(state).items())])
    gone = [bool((logits < -1000).all()) for logits in expected[1:]]
    assert any(gone) and not all(gone)
    np.testing.assert_allclose(ours(session)[1:], expected[1:], atol=TOLERANCE)
    assert [not session.frame_mask(index).any() for index in range(1, FRAMES)] == gone
