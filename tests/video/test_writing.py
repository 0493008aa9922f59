"""Masks written in each kind of file, read back by other libraries."""

from __future__ import annotations

import json
import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.overlays import CLASS_COLOURS, FILL_OPACITY
from nnunetv2_sam2_3dmed.video import open_video
from nnunetv2_sam2_3dmed.video.cases import VideoCase
from nnunetv2_sam2_3dmed.video.overlay import colour_frame
from nnunetv2_sam2_3dmed.video.png_masks import davis_palette, read_png_mask
from nnunetv2_sam2_3dmed.video.writing import check_output, write_masks
from tests.video.files import number_of, numbered_frame, write_video

COUNT, ROWS, COLUMNS = 12, 47, 63
OBJECTS = [2, 5]


@pytest.fixture
def labels() -> np.ndarray:
    """Object 2 on all frames but the fourth, object 5 on the last three, in odd places."""
    found = np.zeros((COUNT, ROWS, COLUMNS), dtype=np.uint8)
    for index in range(COUNT):
        found[index, 10 + index : 30, 20:41] = 2
    found[3] = 0
    found[-3:, 1:8, 45:62] = 5
    return found


def frames_of(count: int = COUNT) -> list[np.ndarray]:
    return [numbered_frame(index, ROWS, COLUMNS) for index in range(count)]


@pytest.fixture
def video(tmp_path):
    write_video(tmp_path / "source.mkv", "ffv1", "bgr0", frames_of())
    return open_video(tmp_path / "source.mkv")


def test_colours_by_hand():
    frame = np.full((5, 6, 3), 100, dtype=np.uint8)
    labels = np.zeros((5, 6), dtype=np.uint8)
    labels[1:4, 1:4] = 7
    drawn = colour_frame(frame, labels, [3, 7])
    second = np.array([int(CLASS_COLOURS[1][k : k + 2], 16) for k in (1, 3, 5)])
    assert (drawn[1, 1] == second).all(), "outline"
    np.testing.assert_array_equal(drawn[2, 2], np.rint(100 * (1 - FILL_OPACITY) + FILL_OPACITY * second))
    assert (drawn[labels == 0] == 100).all()
    assert (frame == 100).all()


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov", ".avi"])
def test_overlay_has_the_frames_and_the_rate_of_the_source(tmp_path, video, labels, ending):
    path = write_masks(tmp_path / f"overlay{ending}", video, iter(labels), OBJECTS)
    with av.open(str(path)) as file:
        assert file.streams.video[0].average_rate == 25
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(frames) == COUNT and frames[0].shape == (ROWS + 1, COLUMNS + 1, 3)
    for index in range(COUNT):
        expected = colour_frame(video.frame(index), labels[index], OBJECTS).astype(float)
        # the codec halves the resolution of colours: brightness must agree, up to its losses
        weights = np.array([0.299, 0.587, 0.114])
        apart = np.abs((frames[index][:ROWS, :COLUMNS] - expected) @ weights)
        assert np.median(apart) < 4 and np.percentile(apart, 90) < 20
        assert number_of(frames[index][40:, :20]) == index


def test_overlay_keeps_variable_times(tmp_path, labels):
    times = [Fraction(k, 20) for k in range(6)] + [Fraction(6, 20) + Fraction(k, 5) for k in range(6)]
    write_video(tmp_path / "a.mp4", frames=[numbered_frame(k, 48, 64) for k in range(12)], times=times)
    video = open_video(tmp_path / "a.mp4")
    masks = np.zeros((12, 48, 64), dtype=np.uint8)
    written = open_video(write_masks(tmp_path / "overlay.mp4", video, iter(masks), [1]))
    np.testing.assert_allclose(written.times, [float(time) for time in times], atol=1e-3)


def test_png_masks_are_indexed_with_davis_palette(tmp_path, video, labels):
    folder = write_masks(tmp_path / "masks", video, iter(labels), OBJECTS)
    assert sorted(os.listdir(folder)) == [f"{index:05d}.png" for index in range(COUNT)]
    for index in range(COUNT):
        with Image.open(folder / f"{index:05d}.png") as picture:
            assert picture.mode == "P"
            assert picture.getpalette()[:18] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128]
            np.testing.assert_array_equal(np.array(picture), labels[index])
        np.testing.assert_array_equal(read_png_mask(folder / f"{index:05d}.png"), labels[index])
    assert davis_palette()[-3:] == [224, 224, 192]


def test_a_mask_in_black_and_white_is_one_object(tmp_path):
    mask = np.zeros((4, 5), dtype=np.uint8)
    mask[1, 2] = 255
    Image.fromarray(mask).save(tmp_path / "a.png")
    assert read_png_mask(tmp_path / "a.png").sum() == 1
    Image.fromarray(np.zeros((4, 5, 3), dtype=np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match="mode RGB"):
        read_png_mask(tmp_path / "b.png")


def test_255_is_the_same_object_in_all_masks_of_a_video(tmp_path):
    """Grey levels 100 and 255, of which the first frame has only the second one."""
    (tmp_path / "masks").mkdir()
    write_video(tmp_path / "a.mkv", "ffv1", "bgr0", frames_of(2))
    for index, levels in enumerate(((0, 255), (100, 255))):
        mask = np.zeros((ROWS, COLUMNS), dtype=np.uint8)
        mask[:2] = np.array(levels)[:, None]
        Image.fromarray(mask).save(tmp_path / "masks" / f"{index}.png")
    case = VideoCase("a", tmp_path / "a.mkv", tmp_path / "masks")
    case.open()
    assert [set(np.unique(case.labels(frame, (ROWS, COLUMNS)))) for frame in (0, 1)] == [{0, 255}, {0, 100, 255}]
    (tmp_path / "masks" / "1.png").write_bytes((tmp_path / "masks" / "0.png").read_bytes())
    case.open()
    assert [set(np.unique(case.labels(frame, (ROWS, COLUMNS)))) for frame in (0, 1)] == [{0, 1}] * 2


def test_coco_is_loaded_by_pycocotools(tmp_path, video, labels):
    from pycocotools.coco import COCO

    path = write_masks(tmp_path / "masks.json", video, iter(labels), OBJECTS)
    coco = COCO(str(path))
    assert [image["frame"] for image in coco.loadImgs(coco.getImgIds())] == list(range(COUNT))
    assert coco.loadImgs([2])[0]["time"] == pytest.approx(1 / 25, abs=1e-3)
    found = np.zeros_like(labels)
    for annotation in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(annotation).astype(bool)
        found[coco.loadImgs([annotation["image_id"]])[0]["frame"]][mask] = annotation["category_id"]
        rows, columns = np.nonzero(mask)
        assert annotation["area"] == mask.sum()
        assert annotation["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    np.testing.assert_array_equal(found, labels)
    assert len(json.loads(path.read_text())["annotations"]) == COUNT - 1 + 3


def test_label_maps_lie_on_the_grid_of_a_sequence(tmp_path, labels):
    image = sitk.GetImageFromArray(np.arange(labels.size, dtype=np.uint8).reshape(labels.shape) + 1)
    image.SetSpacing((0.3, 0.2, 1.5))
    image.SetOrigin((5, 6, 7))
    image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / "source.nii.gz"))
    video = open_video(tmp_path / "source.nii.gz")
    for ending in (".nii.gz", ".mha", ".nrrd"):
        written = sitk.ReadImage(str(write_masks(tmp_path / f"masks{ending}", video, iter(labels), OBJECTS)))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(written), labels)
        for name in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(written, name)(), getattr(image, name)(), atol=1e-6)


def test_dicom_seg_refers_to_the_frames_of_the_source(tmp_path, echo_file):
    hd = pytest.importorskip("highdicom")
    video = open_video(echo_file)
    masks = np.zeros(video.shape, dtype=np.uint8)
    for index in range(30):
        masks[index, 50 + index : 90, 60:100] = 3
    masks[10] = 0
    masks[21:, 5:10, 5:20] = 7
    path = write_masks(tmp_path / "masks.dcm", video, iter(masks), [3, 7])
    seg = hd.seg.segread(path)
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["object 3", "object 7"]
    ((_, _, uid),) = seg.get_source_image_uids()
    found = seg.get_pixels_by_source_frame(uid, list(range(1, 31)), assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(found, np.stack([masks == 3, masks == 7], axis=-1))
    assert "FrameOfReferenceUID" not in seg, "frames have no place in the patient"
    first = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    assert first.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.3.1"
    with pytest.raises(UserError, match="no pixel .* belongs to an object"):
        write_masks(tmp_path / "empty.dcm", video, iter(np.zeros_like(masks)), [])
    assert sorted(os.listdir(tmp_path)) == ["empty.nii.gz", "masks.dcm"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("masks.gif", r"must end in \.mp4, .*\.dcm, or be a folder"),
        ("masks.dcm", r"source\.mkv is no DICOM file"),
        ("full", "is there already: give the name of a new or empty folder"),
    ],
)
def test_outputs_that_cannot_be(tmp_path, video, name, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "00000.png").write_bytes(b"an earlier result")
    with pytest.raises(UserError, match=message):
        check_output(tmp_path / name, video.path)
    assert (tmp_path / "full" / "00000.png").read_bytes() == b"an earlier result"


def test_the_source_is_not_replaced(tmp_path, video, labels, monkeypatch):
    before = video.path.read_bytes()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"source\.mkv is the video itself"):
        write_masks(Path("source.mkv"), video, iter(labels), OBJECTS)
    assert video.path.read_bytes() == before


@pytest.mark.parametrize(("name", "module"), [("a.mp4", "av"), ("a.json", "pycocotools")])
def test_a_missing_package_names_the_extra(tmp_path, video, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install 'nnunetv2-sam2-3dmed\[video\]'"):
        check_output(tmp_path / name, video.path)


@pytest.mark.parametrize("name", ["a.mp4", "masks", "a.json", "a.nii.gz"])
def test_what_fails_half_way_leaves_the_older_result(tmp_path, video, labels, name):
    out = tmp_path / "out"
    out.mkdir()
    if "." in name:
        (out / name).write_bytes(b"an earlier result")

    def breaking():
        yield from labels[:5]
        raise UserError("frame 5 cannot be decoded")

    with pytest.raises(UserError, match="frame 5"):
        write_masks(out / name, video, breaking(), OBJECTS)
    assert os.listdir(out) == ([name] if "." in name else [])
    if "." in name:
        assert (out / name).read_bytes() == b"an earlier result"


def test_objects_that_an_index_cannot_hold(tmp_path, video):
    labels = np.full((COUNT, ROWS, COLUMNS), 300, dtype=np.uint16)
    with pytest.raises(UserError, match="object 300 cannot be written as PNG"):
        write_masks(tmp_path / "masks", video, iter(labels), [300])
