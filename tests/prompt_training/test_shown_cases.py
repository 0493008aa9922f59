"""Preprocessed cases as nnU-Net's loader takes them: whole slices, and clips of videos at their rates."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunetv2_sam2_3dmed.prompt_training.framing import FramedAffineTransform
from nnunetv2_sam2_3dmed.prompt_training.shown_cases import STEPS, Rate, ShownCases
from nnunetv2_sam2_3dmed.prompt_training.whole_slices import WholeSlices

WHOLE = (20, 12, 10)  # frames, rows, columns
CORNER = (2, 3, 1)  # what nnU-Net cuts off: two black frames, three rows, one column
KEPT = (16, 8, 7)
BLACK = -3.0


def cropped() -> tuple[np.ndarray, np.ndarray]:
    """A video whose pixels are its frame's number, and labels with nnU-Net's -1 in a corner; as preprocessed."""
    data = np.zeros((1, *KEPT), dtype=np.float32)
    data[0] = np.arange(2, 18)[:, None, None]
    seg = np.zeros((1, *KEPT), dtype=np.int8)
    seg[0, :, :2, :2] = -1
    seg[0, 4, 5, 6] = 1  # frame 6, row 8, column 7
    return data, seg


def properties() -> dict:
    return {
        "shape_before_cropping": WHOLE,
        "bbox_used_for_cropping": [[start, start + length] for start, length in zip(CORNER, KEPT)],
        "class_locations": {1: np.array([[0, 4, 5, 6]]), 2: []},
    }


@pytest.mark.parametrize("rate", [Rate(1, 0), Rate(2, 0), Rate(2, 1), Rate(4, 3)])
def test_every_second_or_fourth_frame_of_the_whole_video(rate):
    data, seg = cropped()
    whole = np.zeros((1, *WHOLE), dtype=np.float32)
    whole[:, 2:18, 3:11, 1:8] = data
    clip = WholeSlices(data, CORNER, WHOLE, WHOLE[1:], rate.frames(WHOLE[0]), np.zeros_like(seg))
    expected = whole[:, rate.first :: rate.step]
    assert clip.shape == expected.shape
    everything = (slice(None), slice(0, 99), slice(0, 99), slice(0, 99))
    np.testing.assert_array_equal(clip[everything], expected)
    part = (slice(None), slice(1, 3), slice(2, 9), slice(4, 10))
    np.testing.assert_array_equal(clip[part], expected[part])
    labels = WholeSlices(seg, CORNER, WHOLE, WHOLE[1:], rate.frames(WHOLE[0]))[everything]
    assert labels.min() == 0  # the black edges are background, only what lies outside of the frame is padding


def test_larger_frames_are_made_smaller_as_a_whole():
    data = np.zeros((3, 4, 40, 20), dtype=np.float32)
    data[..., :20, :] = 1.0
    place = ((0, 0, 0), (4, 40, 20), (20, 10), range(4))
    clip = WholeSlices(data, *place, np.zeros((1, 4, 40, 20), dtype=np.int8))
    found = clip[(slice(None), slice(1, 2), slice(0, 20), slice(0, 10))]
    assert found.shape == (3, 1, 20, 10)
    np.testing.assert_allclose(found[0, 0, :9], 1, atol=1e-6)
    np.testing.assert_allclose(found[0, 0, 11:], 0, atol=1e-6)
    labels = WholeSlices(data[:1].astype(np.int8), *place)
    assert (labels[(slice(None), slice(0, 4), slice(0, 20), slice(0, 10))][0, :, :10] == 1).all()


def dataset(frames: int = WHOLE[0]) -> SimpleNamespace:
    data, seg = cropped()
    known = {**properties(), "shape_before_cropping": (frames, *WHOLE[1:])}
    return SimpleNamespace(identifiers=["ct", "video"], load_case=lambda name: (data, seg, None, known))


def test_places_of_a_class_are_those_of_the_frames_that_are_taken(monkeypatch):
    clips = ShownCases(dataset(), lambda case: case == "video", (4, 6, 10), BLACK)
    for rate, expected in ((Rate(1, 0), 6), (Rate(2, 0), 3), (Rate(4, 2), 1)):
        monkeypatch.setattr(clips, "_draw", lambda rates, count, rate=rate: rate)
        *_, known = clips.load_case("video")
        assert known["class_locations"][1].tolist() == [[0, expected, 0, 0]]
        assert len(known["class_locations"][2]) == 0
    # of the five frames of this rate four are a patch, whose middle is then at most the fourth
    monkeypatch.setattr(clips, "_draw", lambda rates, count: Rate(4, 2))
    clips.dataset.load_case("video")[3]["class_locations"][1] = np.array([[0, 16, 0, 0]])  # frame 18
    assert clips.load_case("video")[3]["class_locations"][1][:, 1].tolist() == [3]
    for rate in (Rate(2, 1), Rate(4, 0)):  # frame 6 is not taken
        monkeypatch.setattr(clips, "_draw", lambda rates, count, rate=rate: rate)
        assert len(clips.load_case("video")[3]["class_locations"][1]) == 0


@pytest.mark.parametrize("scale", [1, 2, 0.5])
def test_a_volume_is_shown_whole_with_black_around_the_body(scale):
    """nnU-Net cropped it before it resampled it; slices beyond the body stay away."""
    data, seg = (array.repeat(2, 2).repeat(2, 3) if scale == 2 else array for array in cropped())
    known = properties()
    if scale == 0.5:  # the image had twice as many voxels
        known["shape_before_cropping"] = (40, 24, 20)
        known["bbox_used_for_cropping"] = [[2 * first, 2 * end] for first, end in known["bbox_used_for_cropping"]]
    known["class_locations"] = {1: np.argwhere(seg == 1), 2: []}
    source = SimpleNamespace(identifiers=["ct"], load_case=lambda name: (data, seg, None, known))
    rows, columns = (int(side * max(scale, 1)) for side in WHOLE[1:])
    image, labels, _, shown = ShownCases(source, lambda case: False, (4, rows, columns), BLACK).load_case("ct")
    assert image.shape == labels.shape == (1, KEPT[0], rows, columns)
    everything = (slice(None), slice(0, 16), slice(0, rows), slice(0, columns))
    expected = np.full((1, KEPT[0], rows, columns), BLACK, dtype=np.float32)
    top, left = (int(edge * max(scale, 1)) for edge in CORNER[1:])
    inside = np.where(seg == -1, BLACK, data)
    expected[:, :, top : top + inside.shape[2], left : left + inside.shape[3]] = inside
    np.testing.assert_array_equal(image[everything], expected)
    found = labels[everything]
    assert found.min() == 0  # background, so that only the loader's padding is -1
    np.testing.assert_array_equal(np.argwhere(found == 1), np.argwhere(seg == 1) + (0, 0, top, left))
    assert (shown["class_locations"][1][:, 1] == 4).all() and not shown["class_locations"][1][:, 2:].any()


@pytest.mark.parametrize("first", [0, 1])
def test_every_second_slice_of_a_volume(first, monkeypatch):
    """nnU-Net has cut off two slices, which stay away: object and grey levels are of slices 2 to 17."""
    data, _ = cropped()
    shown = ShownCases(dataset(), lambda case: False, (4, 12, 10), BLACK, slice_steps=(2,))
    monkeypatch.setattr(np.random, "randint", lambda many: first)
    image, labels, _, known = shown.load_case("ct")
    assert image.shape == labels.shape == (1, 8, 12, 10)
    inside = image[:, slice(0, 8), slice(0, 12), slice(0, 10)][0, :, 5, 5]
    np.testing.assert_array_equal(inside, np.arange(2, 18)[first::2])
    marked = np.argwhere(labels[:, slice(0, 8), slice(0, 12), slice(0, 10)] == 1)
    places = known["class_locations"][1]
    if first == 0:  # slice 4 of those that are kept is the second one of every second
        assert marked.tolist() == [[0, 2, 8, 7]] and places[:, 1].tolist() == [2]
    else:
        assert not len(marked) and not len(places)


@pytest.mark.filterwarnings("ignore")
def test_the_frame_of_a_volume_in_training_is_that_in_use(tmp_path):
    """A masked body lies in the slice that the network sees as in the whole slice, not stretched to its box."""
    whole, body = (6, 40, 30), (slice(1, 5), slice(20, 32), slice(3, 12))
    data, seg = np.ones((1, 4, 12, 9), dtype=np.float32), np.zeros((1, 4, 12, 9), dtype=np.int8)
    seg[:, :, 4:8, 3:6] = 1
    known = {
        "shape_before_cropping": whole,
        "bbox_used_for_cropping": [[part.start, part.stop] for part in body],
        "class_locations": {1: np.argwhere(seg == 1)},
    }
    nnUNetDatasetBlosc2.save_case(data, seg, known, str(tmp_path / "mr"))
    # as planned from the box of the body: whole slices are made smaller
    shown = ShownCases(nnUNetDatasetBlosc2(str(tmp_path), ["mr"]), lambda case: False, (4, 16, 16), BLACK)
    labels = LabelManager({"background": 0, "organ": 1}, None)
    loader = nnUNetDataLoader(shown, 1, (4, 24, 24), (4, 16, 16), labels, oversample_foreground_percent=1.0)
    batch = loader.generate_train_batch()
    flat = {"image": batch["data"][0].flatten(0, 1), "segmentation": batch["target"][0].flatten(0, 1)}
    framed = FramedAffineTransform((40, 30), probability=0)(**flat)
    places = (framed["image"] > 0.5).any(dim=0).nonzero()
    for axis, part in enumerate(body[1:]):  # within the size of a voxel that was made smaller
        assert abs(places[:, axis].min() - part.start) <= 3 and abs(places[:, axis].max() + 1 - part.stop) <= 3


@pytest.mark.parametrize("count, steps", [(40, {1, 2, 4}), (29, {1, 2, 4}), (28, {1, 2}), (14, {1}), (5, {1})])
def test_rates_that_leave_eight_frames(count, steps):
    np.random.seed(0)
    clips = ShownCases(dataset(), lambda case: True, (8, 12, 10), BLACK)
    drawn = [clips._draw(STEPS, count) for _ in range(200)]
    assert {rate.step for rate in drawn} == steps
    assert all(len(rate.frames(count)) >= min(8, count) for rate in drawn)
    if count == 40:
        assert {rate.first for rate in drawn if rate.step == 4} == {0, 1, 2, 3}
        assert abs(sum(rate.step == 4 for rate in drawn) / 200 - 1 / 3) < 0.1


@pytest.mark.filterwarnings("ignore")
def test_nnunets_loader_takes_them(tmp_path):
    data, seg = cropped()
    nnUNetDatasetBlosc2.save_case(data, seg, properties(), str(tmp_path / "video"))
    np.random.seed(0)
    clips = ShownCases(nnUNetDatasetBlosc2(str(tmp_path), ["video"]), lambda case: True, (4, 12, 10), BLACK)
    labels = LabelManager({"background": 0, "organ": 1}, None)
    loader = nnUNetDataLoader(clips, 2, (4, 16, 14), (4, 12, 10), labels, oversample_foreground_percent=1.0)
    steps = set()
    for _ in range(30):
        batch = loader.generate_train_batch()
        for stack, target in zip(batch["data"].numpy()[:, 0], batch["target"].numpy()[:, 0]):
            numbers = stack.max(axis=(1, 2))  # the number of each frame; 0 before and after the video's picture
            taken = numbers[numbers > 0]
            steps |= set(np.diff(taken).astype(int).tolist())
            assert (target >= 0).any(axis=(1, 2)).all()  # four frames, none of them beyond the end
            assert (target == -1).any()  # the patch is larger than a frame
            assert (target[:, 2:14, 2:12] >= 0).all()  # which lies in its middle, whole
    assert steps == {1, 2, 4}
