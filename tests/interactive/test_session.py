from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import volume_from_array
from nnunetv2_sam2_3dmed.images.windows import Window
from nnunetv2_sam2_3dmed.interactive import InteractiveSession, PromptError
from nnunetv2_sam2_3dmed.interactive import session as session_module
from tests.interactive.reference import build, phantom

SPACING = (3.0, 1.0, 1.0)
SLICE_BYTES = 4 * (16 * 16 * 32 + 8 * 8 * 64 + 4 * 4 * 256)  # of the features of a slice of 64 pixels in float32
BOX = ((3, 10, 12), (3, 30, 33))


@pytest.fixture
def ready(session):
    session.set_image(phantom(), SPACING)
    return session


@pytest.fixture
def encoded(ready):
    """Slices that the image encoder has seen: one entry for each."""
    count = []
    hook = ready._network.model.image_encoder.register_forward_pre_hook(lambda _, given: count.extend(given[0]))
    yield count
    hook.remove()


@pytest.fixture
def batches(ready):
    """The numbers of slices that the image encoder has seen at once."""
    sizes = []
    hook = ready._network.model.image_encoder.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    yield sizes
    hook.remove()


def test_each_slice_is_encoded_once(ready, encoded):
    ready.add_box(*BOX)
    ready.predict_slice()
    assert len(encoded) == 1
    ready.propagate()
    ready.add_points([(5, 20, 20)])
    ready.predict_slice()
    ready.propagate()
    assert len(encoded) == 7
    ready.add_points([(3, 20, 20)], axis=1)
    ready.predict_slice()
    assert len(encoded) == 8


def test_the_cache_keeps_its_bound(model):
    session = InteractiveSession(model, device="cpu", precision="float32", max_cache_bytes=3 * SLICE_BYTES)
    session.set_image(phantom(), SPACING)
    session.add_box(*BOX)
    session.propagate()
    expected = session.mask()
    assert session._features.bytes == 3 * SLICE_BYTES
    session.propagate()
    np.testing.assert_array_equal(session.mask(), expected)


def test_slices_of_a_batch_have_the_features_of_single_slices(ready):
    network = ready._network
    assert network.slices_at_once == 4 * 512**2 // 64**2  # as many pixels as four slices of 512
    images = ready._slices(0).images(range(5))
    assert (images[0] != images[4]).any()
    with network.running():
        for number, together in enumerate(network.encode(images)):
            (alone,) = network.encode(images[number : number + 1])
            for level, expected in zip(together, alone, strict=True):
                torch.testing.assert_close(level, expected, rtol=0, atol=1e-5)


def test_prepared_slices_are_encoded_in_batches_and_not_again(ready, batches):
    ready.set_image(phantom((7, 12, 14)), SPACING)
    ready._network.slices_at_once = 4
    ready.add_box((3, 2, 3), (3, 9, 10))
    ready.predict_slice()
    ready.prepare()
    assert batches == [1, 4, 2]  # the prompted slice, and the six others
    ready.prepare()
    ready.propagate()
    assert len(batches) == 3
    ready.prepare(axis=1)
    assert sum(batches[3:]) == 12 and max(batches[3:]) == 4


def test_a_cache_that_is_too_small_is_filled_and_what_was_in_it_stays(ready, batches):
    ready._features.max_bytes = 3 * SLICE_BYTES
    ready.add_box((5, 10, 12), (5, 30, 33))
    ready.predict_slice()
    ready.prepare()
    assert sum(batches) == 3 and [index for index in range(7) if (0, index) in ready._features] == [0, 1, 5]
    ready.prepare()
    assert sum(batches) == 3
    ready.prepare(axis=2)
    assert sum(batches) == 6 and [index for index in range(48) if (2, index) in ready._features] == [0, 1, 2]


def test_a_propagation_encodes_ahead_and_gives_the_logits_of_single_slices(ready, batches):
    found = []
    for at_once in (1, 3):
        batches.clear()
        ready._features.clear()
        ready.reset()
        ready._network.slices_at_once = at_once
        ready.add_box(*BOX)
        ready.propagate(slices=(1, 6))
        found.append(np.stack([ready.predict_slice(1, 0, index).logits for index in range(1, 7)]))
        assert batches == ([1] * 6 if at_once == 1 else [1, 3, 2])  # the prompted one; 4, 5, 6; and 2, 1
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-5)


def test_a_stated_bound_is_taken_as_it_is(model, monkeypatch):
    monkeypatch.setattr(session_module, "bound_on", lambda device: 1234)  # of a small device
    assert InteractiveSession(model, device="cpu")._features.max_bytes == 1234
    assert InteractiveSession(model, device="cpu", max_cache_bytes=5 * 2**30)._features.max_bytes == 5 * 2**30
    assert InteractiveSession(model, device="cpu", max_cache_bytes=0)._features.max_bytes == 0


def test_progress_is_told_after_every_slice(ready):
    ready.add_box(*BOX)
    ready.add_box(*BOX, object_id=4)
    told = []
    assert ready.propagate(progress=told.append)
    assert [step.done for step in told] == list(range(1, 8))
    assert {step.total for step in told} == {7}
    assert [step.index for step in told] == [3, 4, 5, 6, 2, 1, 0]
    assert {step.object_ids for step in told} == {(1, 4)} and {step.axis for step in told} == {0}


def test_stopping_takes_effect_after_the_slice(ready):
    ready.add_box(*BOX)
    told = []

    def stop_at_the_third(step):
        told.append(step.index)
        if step.done == 3:
            ready.stop()

    assert not ready.propagate(progress=stop_at_the_third)
    assert told == [3, 4, 5]
    found = ready.mask()
    assert found[3:6].any(axis=(1, 2)).all() and not found[[0, 1, 2, 6]].any()
    assert ready.propagate(), "goes on as if nothing had been"
    assert ready.mask().any(axis=(1, 2)).all()


def test_a_range_bounds_what_is_segmented(ready):
    ready.add_box(*BOX)
    ready.propagate(slices=(2, 4))
    assert ready.mask().any(axis=(1, 2)).tolist() == [False, False, True, True, True, False, False]
    with pytest.raises(PromptError, match="object 1 has no prompt on slices 4 to 6 along axis 0, only on 3"):
        ready.propagate(slices=(4, 6))
    with pytest.raises(PromptError, match="slice 7 along axis 0 does not exist"):
        ready.propagate(slices=(0, 7))
    with pytest.raises(PromptError, match="from 4 to 2"):
        ready.propagate(slices=(4, 2))


def test_directions_are_those_of_the_array_however_it_is_stored(session):
    for direction in (np.eye(3), np.diag([1.0, 1.0, -1.0])):
        session.set_image(phantom(), SPACING, direction=direction)
        session.add_box(*BOX)
        session.propagate(direction="forward")
        assert session.mask().any(axis=(1, 2)).tolist() == [False] * 3 + [True] * 4
        session.reset()
        session.add_box(*BOX)
        session.propagate(direction="backward")
        assert session.mask().any(axis=(1, 2)).tolist() == [True] * 4 + [False] * 3
    with pytest.raises(PromptError, match="direction is 'up'"):
        session.propagate(direction="up")


def test_forward_in_a_volume_is_backward_in_the_turned_volume(session):
    found = []
    for array, direction, turn in (
        (phantom(), "forward", slice(None)),
        (phantom()[::-1], "backward", slice(None, None, -1)),
    ):
        session.set_image(array, SPACING)
        for index in (2, 4):
            own = index if direction == "forward" else 6 - index
            session.add_box((own, 10, 12), (own, 30, 33))
        session.propagate(direction=direction)
        found.append(session.mask()[turn])
    assert (found[0] != found[1]).mean() < 1e-3  # memories are added up in another order


def test_objects_do_not_depend_on_each_other(ready):
    ready.add_box(*BOX)
    ready.propagate()
    alone = ready.mask(1)
    ready.reset()
    ready.add_box(*BOX)
    ready.add_points([(5, 8, 8)], object_id=2)
    ready.add_box((3, 2, 2), (3, 20, 20), object_id=3)
    ready.propagate()
    np.testing.assert_array_equal(ready.mask(1), alone)
    assert ready.object_ids == [1, 2, 3]


def test_where_objects_overlap_the_surer_one_counts(ready):
    ready.add_box(*BOX)
    ready.add_box((3, 2, 2), (3, 38, 40), object_id=7)
    ready.propagate()
    labels, first, second = ready.labels(), ready.mask(1), ready.mask(7)
    assert labels.dtype == np.uint8 and set(np.unique(labels)) <= {0, 1, 7}
    np.testing.assert_array_equal(labels > 0, first | second)
    # at half precision, where logits of random weights are often equal
    both = [ready.predict_slice(number, 0, 5).logits.astype(np.float16) for number in (1, 7)]
    expected = np.where(np.maximum(*both) > 0, np.where(both[0] >= both[1], 1, 7), 0)
    np.testing.assert_array_equal(labels[5], expected)


def test_axes_are_averaged_where_they_meet(ready):
    ready.add_box(*BOX)
    ready.propagate()
    first = np.stack([ready.predict_slice(1, 0, i).logits for i in range(7)])
    ready.reset()
    ready.add_box((1, 20, 12), (5, 20, 33), axis=1)
    ready.propagate(slices=(17, 23))
    second = np.stack([ready.predict_slice(1, 1, i).logits for i in range(17, 24)], axis=1)
    ready.reset()
    ready.add_box(*BOX)
    ready.add_box((1, 20, 12), (5, 20, 33), axis=1)
    ready.propagate(axis=0)
    ready.propagate(axis=1, slices=(17, 23))
    expected = first.copy()
    expected[:, 17:24] = (first[:, 17:24] + second) / 2
    sure = np.abs(expected) > 0.01  # half precision
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(ready.mask()[sure], expected[sure] > 0)


def test_undo_brings_back_what_was_before_the_prompt(ready):
    ready.add_box(*BOX)
    ready.propagate()
    before = ready.mask()
    ready.add_points([(5, 30, 10)], 0)
    ready.propagate()
    assert (ready.mask() != before).any()
    ready.undo()
    np.testing.assert_array_equal(ready.mask(), before)
    assert [p.index for p in ready.prompts] == [3]
    ready.remove_object(1)
    assert ready.object_ids == []
    ready.undo()
    np.testing.assert_array_equal(ready.mask(), before)
    ready.undo()
    assert ready.object_ids == []
    with pytest.raises(PromptError, match="nothing to undo"):
        ready.undo()


def test_reset_forgets_the_objects_but_not_the_slices(ready, encoded):
    ready.add_box(*BOX)
    ready.propagate()
    ready.reset()
    assert ready.object_ids == []
    with pytest.raises(PromptError, match="there are no prompts to propagate"):
        ready.propagate()
    ready.add_box(*BOX)
    ready.propagate()
    assert len(encoded) == 7


def test_a_drawn_mask_stands_and_an_empty_one_says_that_the_object_is_not_there(ready):
    mask = phantom()[3] > 700
    with pytest.raises(PromptError, match="is empty: say first, on another slice"):
        ready.add_mask(np.zeros_like(mask), 3)
    ready.add_mask(mask, 3)
    ready.propagate()
    ready.add_mask(np.zeros_like(mask), 5)
    assert not ready.predict_slice().mask.any()
    ready.propagate()
    np.testing.assert_array_equal(ready.mask()[3], mask)
    assert not ready.mask()[5].any()


def test_a_scribble_is_points_along_a_line(ready):
    ready.add_scribble([(3, 5, 4), (3, 5, 20), (3, 21, 20)])  # 32 voxels long: 8 points 4 apart, 2 from the ends
    (prompted,) = ready.prompts
    expected = [(5, 6), (5, 10), (5, 14), (5, 18), (7, 20), (11, 20), (15, 20), (19, 20)]
    np.testing.assert_allclose(prompted.prompt.points, expected)
    assert prompted.prompt.labels.tolist() == [1] * 8
    ready.add_scribble([(3, 30, 30)], label=0)
    assert ready.prompts[0].prompt.labels.tolist() == [1] * 8 + [0]


MISTAKES = {
    "point outside": (lambda s: s.add_points([(3, 40, 10)]), r"the point \(3, 40, 10\) lies outside"),
    "point before": (lambda s: s.add_points([(3, 10, -1)]), "lies outside"),
    "NaN": (lambda s: s.add_points([(3, 10, np.nan)]), "lies outside"),
    "two numbers": (lambda s: s.add_points([(10, 10)]), "three voxel coordinates"),
    "no points": (lambda s: s.add_points([]), "three voxel coordinates"),
    "two slices": (lambda s: s.add_points([(3, 1, 1), (4, 1, 1)]), "slices 3, 4 along axis 0"),
    "labels": (lambda s: s.add_points([(3, 1, 1)], [2]), "must be 1 .inside the object. or 0"),
    "too many labels": (lambda s: s.add_points([(3, 1, 1)], [1, 0]), "there are 1 points but 2 labels"),
    "axis": (lambda s: s.add_points([(3, 1, 1)], axis=3), "axis is 3"),
    "object": (lambda s: s.add_points([(3, 1, 1)], object_id=0), "the object is 0"),
    "empty box": (lambda s: s.add_box((3, 10, 10), (3, 10, 20)), "is empty"),
    "box outside": (lambda s: s.add_box((3, 10, 10), (3, 50, 20)), "corner of a box .3, 50, 20. lies outside"),
    "box through slices": (lambda s: s.add_box((2, 10, 10), (3, 20, 20)), "slices 2, 3"),
    "mask of another shape": (
        lambda s: s.add_mask(np.ones((40, 40)), 3),
        "is 40 x 40, but slice 3 along axis 0 is 40 x 48",
    ),
    "mask of labels": (lambda s: s.add_mask(np.full((40, 48), 2), 3), "other values than 0 and 1"),
    "mask nowhere": (lambda s: s.add_mask(np.ones((40, 48)), 7), "slice 7 along axis 0 does not exist"),
    "unknown object": (lambda s: s.mask(9), "there is no object 9"),
    "no mask there": (lambda s: s.predict_slice(1, 0, 0), "neither a prompt nor a mask on slice 0"),
    "nothing there": (lambda s: s.add_points([(6, 10, 10)]), "slice 6 along axis 0 shows nothing"),
    "4D": (lambda s: s.set_image(np.zeros((2, 3, 4, 5)), SPACING), "4 dimensions"),
    "NaN voxels": (lambda s: s.set_image(np.full((3, 4, 5), np.nan), SPACING), "60 voxels that are NaN"),
    "no spacing": (lambda s: s.set_image(phantom()), "needs its spacing"),
    "no file": (lambda s: s.set_image("nowhere.nii.gz"), "no file or folder nowhere.nii.gz"),
    "window": (lambda s: s.set_image(phantom(), SPACING, window="liver"), "window is 'liver'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_and_changes_nothing(session, name):
    array = phantom()
    array[6] = 500
    session.set_image(array, SPACING)
    session.add_box(*BOX)
    session.predict_slice()
    tracks, history, image = dict(session._objects.tracks), len(session._objects._past), session.image
    mistake, said = MISTAKES[name]
    with pytest.raises(UserError, match=said) as raised:
        mistake(session)
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, ValueError) or name in ("4D", "NaN voxels", "no file", "window")
    assert session._objects.tracks == tracks and len(session._objects._past) == history and session.image is image
    assert session.propagate()


def test_prompts_where_sam2_sees_nothing_are_taken_back(weights):
    blind = {name: value.clone() for name, value in weights.items()}
    blind["sam_mask_decoder.pred_obj_score_head.layers.2.bias"] -= 100
    session = InteractiveSession(build(blind), device="cpu", precision="float32")
    session.set_image(phantom(), SPACING)
    session.add_mask(phantom()[3] > 700, 3, object_id=2)
    session.add_points([(2, 20, 20)])
    with pytest.raises(PromptError, match="SAM 2 sees no object at the prompts of object 1 on slice 2 along axis 0"):
        session.predict_slice()
    assert session.object_ids == [2]
    session.add_points([(2, 20, 20)])
    with pytest.raises(PromptError, match="SAM 2 sees no object"):
        session.propagate()
    assert session.object_ids == [2]
    session.propagate()
    np.testing.assert_array_equal(session.mask(2)[3], phantom()[3] > 700)
    session.undo()
    assert session.object_ids == []


def test_calls_before_there_is_anything(session):
    for call in (lambda: session.add_points([(0, 0, 0)]), lambda: session.window, lambda: session.labels()):
        with pytest.raises(PromptError, match="there is no image yet: call set_image first"):
            call()
    session.set_image(phantom(), SPACING)
    with pytest.raises(PromptError, match="there is no prompt yet"):
        session.predict_slice()
    assert not session.labels().any()


def test_another_image_forgets_the_objects_and_the_slices(ready, encoded):
    ready.add_box(*BOX)
    ready.predict_slice()
    ready.set_image(phantom()[:, ::-1], SPACING)
    assert ready.object_ids == [] and len(ready._features) == 0


def test_an_itk_image_keeps_its_geometry(session, tmp_path):
    image = sitk.GetImageFromArray(phantom())
    image.SetSpacing((0.5, 0.6, 4.0))
    image.SetOrigin((1.0, 2.0, 3.0))
    image.SetDirection((0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    session.set_image(image)
    session.add_box(*BOX)
    session.propagate()
    written = sitk.ReadImage(str(session.save(tmp_path / "mask.nii.gz")))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), session.labels())
    assert written.GetSpacing() == pytest.approx(image.GetSpacing())
    assert written.GetOrigin() == pytest.approx(image.GetOrigin())
    assert written.GetDirection() == pytest.approx(image.GetDirection())


def test_monochrome1_is_shown_with_low_values_bright(session):
    volume = volume_from_array(phantom(), SPACING)
    session.set_image(volume, window=(40, 400))
    usual = session.slice_as_seen(0, 3)
    session.set_image(replace(volume, inverted=True), window=(40, 400))
    np.testing.assert_array_equal(session.slice_as_seen(0, 3), 255 - usual)
    np.testing.assert_array_equal(session.image.array, phantom())


def test_a_model_that_has_learned_values_is_shown_them_as_it_learned_them(session, monkeypatch):
    learned = SimpleNamespace(window=lambda array: Window(-160, 240), outside=lambda array: None, pictures=False)
    monkeypatch.setattr(session._network.model, "shown_as", learned, raising=False)
    volume = volume_from_array(phantom(), SPACING)
    session.set_image(volume)
    usual = session.slice_as_seen(0, 3)
    session.set_image(replace(volume, inverted=True))
    np.testing.assert_array_equal(session.slice_as_seen(0, 3), usual)
    session.set_image(replace(volume, inverted=True), window=(40, 400))  # the user says what is shown
    np.testing.assert_array_equal(session.slice_as_seen(0, 3), 255 - usual)


def test_a_mask_that_no_dicom_seg_can_hold_is_saved_beside_it(ready, tmp_path):
    ready.add_box(*BOX)
    ready.propagate()
    with pytest.raises(
        UserError, match=r"mask.dcm could not be written .*is no DICOM series.*: the mask is in .*nii.gz"
    ):
        ready.save(tmp_path / "mask.dcm")
    assert [file.name for file in tmp_path.iterdir()] == ["mask.nii.gz"]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "mask.nii.gz"))), ready.labels())


def test_bfloat16_gives_nearly_the_same(ready, model):
    ready.add_box(*BOX)
    exact = ready.predict_slice().logits
    half = InteractiveSession(model, device="cpu", precision="bfloat16")
    half.set_image(phantom(), SPACING)
    half.add_box(*BOX)
    half.propagate()
    found = half.predict_slice(1, 0, 3).logits
    assert ((found > 0) == (exact > 0)).mean() > 0.97
    assert half.predict_slice(1, 0, 6).logits.dtype == np.float32


def test_nothing_of_a_session_needs_gradients(ready):
    ready.add_box(*BOX)
    ready.propagate()
    output = next(iter(ready._objects.tracks.values())).output(6)
    assert output is not None and not output.logits.requires_grad
    assert torch.is_grad_enabled()
