"""Folders of pictures, sequences in NIfTI and MetaImage, and paths that are no video."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.video import is_video, open_video
from nnunetv2_sam2_3dmed.video.opening import name_of
from tests.video.files import numbered_frame


def write_pictures(folder, names, size=(20, 30)):
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(numbered_frame(number, *size)).save(folder / name)
    return folder


def test_a_folder_in_the_order_of_numbers_not_of_names(tmp_path):
    folder = write_pictures(tmp_path / "frames", [f"frame_{k}.png" for k in range(12)])
    (folder / "readme.txt").write_text("no frame")
    (folder / "._frame_3.png").write_bytes(b"left by another system")
    assert is_video(folder)
    video = open_video(folder)
    assert video.shape == (12, 20, 30) and video.times is None and video.rate == 25 and not video.notes
    for index in (11, 2, 0, 10):
        np.testing.assert_array_equal(video.frame(index), numbered_frame(index, 20, 30))


def test_gaps_in_the_numbers_are_said_and_steps_are_none(tmp_path):
    every_fifth = write_pictures(tmp_path / "a", [f"{k:05d}.png" for k in (0, 5, 10)])
    assert not open_video(every_fifth).notes
    gap = write_pictures(tmp_path / "b", [f"{k:05d}.png" for k in (0, 1, 2, 5, 6)])
    (note,) = open_video(gap).notes
    assert "gaps, the first one before 5" in note
    every_second = write_pictures(tmp_path / "c", [f"{k:05d}.png" for k in (0, 2, 4, 8)])
    (note,) = open_video(every_second).notes
    assert "gaps, the first one before 8" in note


def test_grey_and_palette_pictures(tmp_path):
    grey = np.arange(600, dtype=np.uint16).astype(np.uint8).reshape(20, 30)
    Image.fromarray(grey).save(tmp_path / "0.png")
    palette = Image.fromarray(grey % 2, mode="P")
    palette.putpalette([0, 0, 0, 9, 8, 7])
    palette.save(tmp_path / "1.png")
    video = open_video(tmp_path)
    np.testing.assert_array_equal(video.frame(0), np.repeat(grey[..., None], 3, axis=-1))
    np.testing.assert_array_equal(video.frame(1), (grey % 2)[..., None] * np.array([9, 8, 7]))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["first.png"], r"first\.png has no number in its name"),
        (["1.png", "01.png"], "have the same number"),
    ],
)
def test_names_that_are_no_order(tmp_path, names, message):
    with pytest.raises(UserError, match=message):
        open_video(write_pictures(tmp_path / "frames", names))


def test_defects_of_pictures_name_the_file(tmp_path):
    folder = write_pictures(tmp_path / "frames", ["0.png", "1.png", "2.png", "3.png"])
    write_pictures(folder, ["1.png"], size=(20, 31))
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:60])
    Image.fromarray(np.zeros((20, 30), dtype=np.uint16)).save(folder / "3.png")
    video = open_video(folder)
    with pytest.raises(UserError, match="frame 1 of .* has 20 x 31 pixels, but the first one has 20 x 30"):
        video.frame(1)
    with pytest.raises(UserError, match=r"2\.png cannot be read as a picture"):
        video.frame(2)
    with pytest.raises(UserError, match=r"3\.png has more than 8 bits"):
        video.frame(3)


def test_paths_that_are_no_video(tmp_path):
    with pytest.raises(UserError, match="there is no file or folder"):
        open_video(tmp_path / "nothing.mp4")
    with pytest.raises(UserError, match="has no frames"):
        open_video(tmp_path)
    assert not is_video(tmp_path)
    text = tmp_path / "notes.txt"
    text.write_text("a" * 200)
    assert not is_video(text)
    with pytest.raises(UserError, match="no kind of video"):
        open_video(text)


def test_a_dicom_series_with_a_picture_beside_it_is_a_volume(tmp_path, echo_file):
    write_pictures(tmp_path, ["thumbnail1.jpg"])
    assert is_video(tmp_path)
    (tmp_path / "IM1").write_bytes(echo_file.read_bytes())
    assert not is_video(tmp_path)


def test_names_without_endings(tmp_path):
    (tmp_path / "case.1.mp4").mkdir()
    names = ["a.b.mp4", "a.b.MOV", "a.b.nii.gz", "a.b.dcm", "case.1.mp4", "IM1"]
    assert [name_of(tmp_path / name) for name in names] == ["a.b", "a.b", "a.b", "a.b", "case.1.mp4", "IM1"]


# ---------------------------------------------------------------- sequences


def sequence(kind=np.uint8) -> np.ndarray:
    """(frames, rows, columns) from 0 to 255."""
    return np.random.default_rng(0).integers(0, 256, (5, 6, 7)).astype(kind)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mhd", ".mha", ".nrrd"])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.int16])
def test_the_third_axis_is_time(tmp_path, ending, kind):
    frames = sequence(kind)
    image = sitk.GetImageFromArray(frames)
    image.SetSpacing((0.3, 0.2, 1.5))
    path = tmp_path / f"patient0001_4CH_half_sequence{ending}"
    sitk.WriteImage(image, str(path))
    video = open_video(path)
    assert not is_video(path), "a volume as far as the file tells"
    assert video.shape == (5, 6, 7) and video.times is None
    assert video.spacing == pytest.approx((1.5, 0.2, 0.3))
    for index in (4, 0):
        np.testing.assert_array_equal(video.frame(index), np.repeat(sequence()[index][..., None], 3, axis=-1))


@pytest.mark.parametrize(
    ("low", "high", "kind"), [(-500, 3000, np.float32), (0, 1, np.float32), (0, 100, np.uint16), (200, 4000, np.uint16)]
)
def test_other_values_are_shown_between_their_percentiles(tmp_path, low, high, kind):
    frames = np.linspace(low, high, 5 * 40 * 50).reshape(5, 40, 50).astype(kind)
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(frames), str(path))
    video = open_video(path)
    inside = frames[frames > 0]
    low, high = np.percentile(inside, (0.5, 99.5))
    expected = np.rint(np.clip((frames[3] - low) / (high - low), 0, 1) * 255)
    np.testing.assert_allclose(video.frame(3)[..., 2].astype(float), expected, atol=1)
    assert video.frame(4).max() == 255


def test_four_dimensions_with_one_plane_have_times(tmp_path):
    frames = sequence()
    image = nibabel.Nifti1Image(frames.transpose(2, 1, 0)[:, :, None], np.eye(4))
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 40
    path = tmp_path / "a.nii.gz"
    nibabel.save(image, path)
    video = open_video(path)
    assert video.shape == (5, 6, 7)
    np.testing.assert_allclose(video.times, np.arange(5) * 0.04)
    np.testing.assert_array_equal(video.frame(3)[..., 0], frames[3])


def test_four_dimensions_that_are_no_video(tmp_path):
    path = tmp_path / "fmri.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((7, 6, 4, 5), dtype=np.uint8), np.eye(4)), path)
    with pytest.raises(UserError, match=r"fmri\.nii\.gz has 4 dimensions \(7 x 6 x 4 x 5 voxels\)"):
        open_video(path)


def test_a_torn_sequence(tmp_path):
    path = tmp_path / "a.nii"
    sitk.WriteImage(sitk.GetImageFromArray(sequence()), str(path))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"a\.nii"):
        open_video(path)
