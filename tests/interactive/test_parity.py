"""The same logits as SAM 2's own predictors, run beside, with the same weights and prompts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from tests.interactive.reference import Reference, build, image_predictor, phantom, random_weights

TOLERANCE = 1e-3
SPACING = (3.0, 1.0, 1.0)


@pytest.fixture
def ready(session):
    session.set_image(phantom(), SPACING)
    return session


def assert_alive(logits: np.ndarray) -> None:
    """Assert that masks are neither empty nor full, so that their equality means something."""
    assert 0.02 < (logits > 0).mean() < 0.98
    assert np.abs(logits).max() > 0.5


def propagated(session: InteractiveSession, object_id: int = 1, axis: int = 0) -> np.ndarray:
    """Logits (slices, rows, columns)."""
    depth = session.image.shape[axis]
    return np.stack([session.predict_slice(object_id, axis, i).logits for i in range(depth)])


@pytest.mark.parametrize(
    ("points", "labels", "box"),
    [
        ([(20, 30)], [1], None),
        ([(20, 30), (4, 5)], [1, 0], None),
        ([], [], (10, 12, 30, 33)),
        ([(18, 25)], [0], (10, 12, 30, 33)),
    ],
    ids=["click", "two clicks", "box", "box and click"],
)
def test_a_slice_is_segmented_as_the_image_predictor_does(ready, weights, points, labels, box):
    if box is not None:
        ready.add_box((3, *box[:2]), (3, *box[2:]))
    if points:
        ready.add_points([(3, *point) for point in points], labels)
    ours = ready.predict_slice()
    predictor = image_predictor(weights, ready.slice_as_seen(0, 3))
    count = len(points) + (2 if box else 0)
    masks, qualities, _ = predictor.predict(
        point_coords=np.array([(column, row) for row, column in points]) if points else None,
        point_labels=np.array(labels) if points else None,
        box=np.array([box[1], box[0], box[3], box[2]]) if box else None,
        multimask_output=count == 1,
        return_logits=True,
    )
    best = int(np.argmax(qualities))
    assert_alive(ours.logits)
    np.testing.assert_allclose(ours.logits, masks[best], atol=TOLERANCE)
    assert ours.quality == pytest.approx(float(qualities[best]), abs=1e-4)
    assert (ours.mask == (ours.logits > 0)).all()


def test_forward_as_the_video_predictor(ready, reference):
    ready.add_points([(2, 20, 30)])
    assert ready.propagate(direction="forward")
    state = reference.start(ready)
    reference.predictor.add_new_points_or_box(state, 2, 1, points=[(30, 20)], labels=[1])
    expected = reference.propagate(state)
    assert sorted(expected) == [2, 3, 4, 5, 6]
    for index, logits in expected.items():
        ours = ready.predict_slice(1, 0, index).logits
        assert_alive(ours)
        np.testing.assert_allclose(ours, logits[0], atol=TOLERANCE)
    assert (~ready.mask()[:2]).all(), "not reached"


def test_prompted_masks_are_remembered_binarized_by_a_network_that_is_built_so(ready, reference, model, monkeypatch):
    """SAM 2's ``apply_postprocessing`` builds networks so."""
    for network in (model, reference.predictor):
        monkeypatch.setattr(network, "binarize_mask_from_pts_for_mem_enc", True)
    test_forward_as_the_video_predictor(ready, reference)


def test_both_ways_as_the_video_predictor_in_a_video_and_in_the_reversed_video(ready, reference):
    ready.add_box((4, 10, 12), (4, 30, 33))
    assert ready.propagate()
    ours = propagated(ready)
    there = reference.start(ready)
    reference.predictor.add_new_points_or_box(there, 4, 1, box=[12, 10, 33, 30])
    expected = reference.propagate(there)
    back = reference.start(ready, reverse=True)
    last = len(ours) - 1
    reference.predictor.add_new_points_or_box(back, last - 4, 1, box=[12, 10, 33, 30])
    expected.update({last - frame: logits for frame, logits in reference.propagate(back).items() if frame > last - 4})
    assert sorted(expected) == list(range(last + 1))
    for index, logits in expected.items():
        np.testing.assert_allclose(ours[index], logits[0], atol=TOLERANCE)
    # the same again by the predictor's own way back
    state = reference.start(ready)
    reference.predictor.add_new_points_or_box(state, 4, 1, box=[12, 10, 33, 30])
    for index, logits in reference.propagate(state, reverse=True).items():
        np.testing.assert_allclose(ours[index], logits[0], atol=TOLERANCE)
    # slices are not copies of each other
    assert all(np.abs(a - b).max() > 10 * TOLERANCE for a, b in zip(ours, ours[1:]))


def test_a_mask_as_the_video_predictor(ready, reference):
    mask = phantom()[3] > 700
    ready.add_mask(mask, 3)
    ready.propagate(direction="forward")
    state = reference.start(ready)
    reference.predictor.add_new_mask(state, 3, 1, mask)
    expected = reference.propagate(state)
    for index in range(4, 7):
        np.testing.assert_allclose(ready.predict_slice(1, 0, index).logits, expected[index][0], atol=TOLERANCE)
    assert (ready.mask()[3] == mask).all(), "what was drawn stays as it was drawn"


def test_several_prompted_slices_are_all_attended_to(ready, reference):
    for index in (1, 4):
        ready.add_points([(index, 20, 30)])
    ready.propagate(direction="forward")
    state = reference.start(ready)
    for index in (1, 4):
        reference.predictor.add_new_points_or_box(state, index, 1, points=[(30, 20)], labels=[1])
    for index, logits in reference.propagate(state).items():
        np.testing.assert_allclose(ready.predict_slice(1, 0, index).logits, logits[0], atol=TOLERANCE)


def test_objects_in_a_batch_are_the_predictors_objects_one_by_one(ready, reference):
    boxes = {1: (10, 12, 30, 33), 2: (2, 3, 20, 18), 5: (20, 5, 38, 44)}
    for object_id, box in boxes.items():
        ready.add_box((1, *box[:2]), (1, *box[2:]), object_id)
    ready.propagate(direction="forward")
    state = reference.start(ready)
    for object_id, box in boxes.items():
        reference.predictor.add_new_points_or_box(state, 1, object_id, box=[box[1], box[0], box[3], box[2]])
    for index, logits in reference.propagate(state).items():
        for number, object_id in enumerate(boxes):
            ours = ready.predict_slice(object_id, 0, index).logits
            np.testing.assert_allclose(ours, logits[number], atol=TOLERANCE)


def test_corrections_become_conditioning_memories(ready, reference):
    """Click after click, a correction of a tracked slice, and the volume again."""
    predictor = reference.predictor
    state = reference.start(ready)

    def click(index, row, column, label):
        ready.add_points([(index, row, column)], [label])
        _, _, logits = predictor.add_new_points_or_box(
            state, index, 1, points=[(column, row)], labels=[label], clear_old_points=False
        )
        np.testing.assert_allclose(ready.predict_slice().logits, logits[0, 0].numpy(), atol=TOLERANCE)

    click(1, 20, 30, 1)
    click(1, 5, 5, 0)  # SAM 2 also gets its mask of the first click
    ready.propagate(direction="forward")
    reference.propagate(state)
    first = ready.predict_slice(1, 0, 5).logits
    click(4, 30, 10, 1)
    click(4, 8, 40, 0)
    ready.propagate(direction="forward")
    for index, logits in reference.propagate(state).items():
        np.testing.assert_allclose(ready.predict_slice(1, 0, index).logits, logits[0], atol=TOLERANCE)
    assert np.abs(ready.predict_slice(1, 0, 5).logits - first).max() > 10 * TOLERANCE
    click(1, 12, 20, 1)  # on a slice with prompts that is a memory already


def test_sam2_0_too(tmp_path):
    backbone = "sam2_hiera_tiny"
    weights = random_weights(backbone)
    session = InteractiveSession(build(weights, backbone=backbone), device="cpu", precision="float32")
    session.set_image(phantom(), SPACING)
    session.add_points([(2, 20, 30)])
    session.propagate()
    reference = Reference(weights, tmp_path, backbone)
    for reverse in (False, True):
        state = reference.start(session)
        reference.predictor.add_new_points_or_box(state, 2, 1, points=[(30, 20)], labels=[1])
        for index, logits in reference.propagate(state, reverse=reverse).items():
            np.testing.assert_allclose(session.predict_slice(1, 0, index).logits, logits[0], atol=TOLERANCE)


def test_on_a_real_ct(session, weights, reference, ct_file):
    session.set_image(ct_file)
    assert tuple(session.window) == (-160, 240)
    depth = session.image.shape[0]
    _check_real(session, weights, reference, depth // 2, (200, 150), (300, 260), range(depth // 2, depth // 2 + 4))


def test_on_a_real_mr(session, weights, reference, hippocampus_file):
    session.set_image(hippocampus_file)
    depth, rows, columns = session.image.shape
    corners = (rows // 4, columns // 4), (3 * rows // 4, 3 * columns // 4)
    _check_real(session, weights, reference, depth // 2, *corners, range(depth // 2, depth // 2 + 4))


def _check_real(session, weights, reference, index, corner, opposite, indices):
    flipped = session.image.view(0).flips[0]
    assert not flipped
    session.add_box((index, *corner), (index, *opposite))
    ours = session.predict_slice().logits
    view = session.image.view(0)
    shape = session.image.shape
    seen = view.points(np.array([(index, *corner), (index, *opposite)]), shape)[:, 1:]
    low, high = seen.min(axis=0), seen.max(axis=0)
    box = np.array([low[1], low[0], high[1], high[0]])
    single, _, _ = image_predictor(weights, session.slice_as_seen(0, index)).predict(
        box=box, multimask_output=False, return_logits=True
    )
    assert_alive(ours)
    np.testing.assert_allclose(ours, view.plane_back(single[0]), atol=TOLERANCE)
    session.propagate(slices=(indices[0], indices[-1]))
    state = reference.start(session)
    reference.predictor.add_new_points_or_box(state, index, 1, box=box)
    with torch.inference_mode():
        steps = reference.predictor.propagate_in_video(state, max_frame_num_to_track=len(indices) - 1)
        expected = {frame: logits[0, 0].numpy() for frame, _, logits in steps}
    assert list(expected) == list(indices)
    for frame, logits in expected.items():
        ours = session.predict_slice(1, 0, frame).logits
        np.testing.assert_allclose(ours, view.plane_back(logits), atol=TOLERANCE)
