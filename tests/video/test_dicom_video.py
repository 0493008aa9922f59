"""Multi-frame DICOM: pydicom's own decoding of all frames, times, scales and defects."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.video import dicom_video, is_video, open_video


@pytest.fixture
def echo(echo_file) -> pydicom.Dataset:
    return pydicom.dcmread(echo_file)


def saved(dataset: pydicom.Dataset, folder: Path) -> Path:
    path = folder / "video.dcm"
    dataset.save_as(path)
    return path


def uncompressed(echo: pydicom.Dataset, frames: np.ndarray, photometric: str) -> pydicom.Dataset:
    """The header of the echocardiogram with other frames."""
    echo.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    echo.PhotometricInterpretation = photometric
    echo.NumberOfFrames, echo.Rows, echo.Columns = frames.shape[:3]
    echo.SamplesPerPixel = 3 if frames.ndim == 4 else 1
    echo.BitsAllocated = 8 * frames.dtype.itemsize
    echo.BitsStored, echo.HighBit = echo.BitsAllocated, echo.BitsAllocated - 1
    del echo.PixelData
    echo.add_new("PixelData", "OB" if frames.dtype.itemsize == 1 else "OW", frames.tobytes())
    return echo


def test_the_echocardiogram(echo_file):
    video = open_video(echo_file)
    assert is_video(echo_file) and video.shape == (30, 240, 320)
    expected = pydicom.pixels.pixel_array(echo_file)
    for index in (29, 0, 13, 7, 8):
        np.testing.assert_array_equal(video.frame(index), expected[index])
    np.testing.assert_allclose(video.times, np.arange(30) * 0.033333)
    (note,) = video.notes
    assert "(84 to 595, 31 to 414) does not fit its 320 x 240 pixels" in note
    assert video.spacing == (1, 1, 1), "the scale of the larger original is not that of this image"


def test_frames_of_which_fewer_are_kept_than_are_decoded_together(echo_file, monkeypatch):
    monkeypatch.setattr("nnunetv2_sam2_3dmed.video.video.MOST_BYTES", 2 * 240 * 320 * 3)
    video = open_video(echo_file)
    expected = pydicom.pixels.pixel_array(echo_file)
    for index in (0, 1, 2, 9, 4):
        np.testing.assert_array_equal(video.frame(index), expected[index])


def test_regions_that_fit_give_the_scale(echo, tmp_path):
    region = echo.SequenceOfUltrasoundRegions[0]
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 300, 230
    region.PhysicalDeltaY = 0.04
    video = open_video(saved(echo, tmp_path))
    assert not video.notes
    assert video.spacing == pytest.approx((1, 0.4, 10 * region.PhysicalDeltaX))


def test_regions_in_other_units_give_no_scale(echo, tmp_path):
    region = echo.SequenceOfUltrasoundRegions[0]
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 300, 230
    region.PhysicalUnitsXDirection = 4  # seconds, of an M-mode trace
    assert open_video(saved(echo, tmp_path)).spacing == (1, 1, 1)


def test_times(echo, tmp_path):
    steps = [0.0] + [20.0] * 10 + [50.0] * 19
    echo.FrameTimeVector = steps
    np.testing.assert_allclose(open_video(saved(echo, tmp_path)).times, np.cumsum(steps) / 1000)
    echo.FrameTimeVector = steps[:-1]
    video = open_video(saved(echo, tmp_path))
    np.testing.assert_allclose(video.times, np.arange(30) * 0.033333)
    assert any("29 values, which do not fit its 30 frames" in note for note in video.notes)
    del echo.FrameTimeVector
    del echo.FrameTime
    echo.CineRate = 50
    np.testing.assert_allclose(open_video(saved(echo, tmp_path)).times, np.arange(30) / 50)
    del echo.CineRate
    echo.RecommendedDisplayFrameRate = 20
    np.testing.assert_allclose(open_video(saved(echo, tmp_path)).times, np.arange(30) / 20)
    del echo.RecommendedDisplayFrameRate
    video = open_video(saved(echo, tmp_path))
    assert video.times is None and any("no times" in note for note in video.notes)
    np.testing.assert_allclose(video.presentation_times(), np.arange(30) / 25)


def test_grey_frames(echo, tmp_path):
    frames = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    video = open_video(saved(uncompressed(echo, frames, "MONOCHROME2"), tmp_path))
    assert video.shape == (3, 4, 5)
    np.testing.assert_array_equal(video.frame(2), np.repeat(frames[2][..., None], 3, axis=-1))
    video = open_video(saved(uncompressed(echo, frames, "MONOCHROME1"), tmp_path))
    np.testing.assert_array_equal(video.frame(2)[..., 1], 255 - frames[2])


def test_more_than_8_bits_are_shown_through_the_window_of_the_header(echo, tmp_path):
    frames = np.array([[[0, 100, 600, 1100, 4000]]] * 2, dtype=np.uint16)
    dataset = uncompressed(echo, frames, "MONOCHROME2")
    dataset.BitsStored, dataset.HighBit = 12, 11
    video = open_video(saved(dataset, tmp_path))
    np.testing.assert_array_equal(video.frame(1)[0, :, 0], np.rint(frames[1, 0].astype(float) * 255 / 4095))
    dataset.WindowCenter, dataset.WindowWidth = 600, 1000
    video = open_video(saved(dataset, tmp_path))
    assert video.frame(1)[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_a_missing_frame(echo, tmp_path):
    frames = list(generate_frames(echo.PixelData, number_of_frames=30))
    for with_offsets in (True, False):
        echo.PixelData = encapsulate(frames[:-1], has_bot=with_offsets)
        with pytest.raises(UserError, match=r"video\.dcm states 30 frames but has 29: a frame is missing"):
            open_video(saved(echo, tmp_path))
    dataset = uncompressed(echo, np.zeros((3, 4, 5), dtype=np.uint8), "MONOCHROME2")
    dataset.NumberOfFrames = 4
    with pytest.raises(UserError, match="states 4 frames but has 3"):
        open_video(saved(dataset, tmp_path))


def test_a_file_that_breaks_off(echo_file, tmp_path):
    content = echo_file.read_bytes()
    path = tmp_path / "torn.dcm"
    for kept in (len(content) // 2, 3000):
        path.write_bytes(content[:kept])
        with pytest.raises(UserError, match=r"torn\.dcm .*copy (it|the file) again"):
            open_video(path)


def test_a_damaged_frame_is_named(echo, tmp_path):
    frames = list(generate_frames(echo.PixelData, number_of_frames=30))
    frames[20] = frames[20][:40] + bytes(len(frames[20]) - 40)
    echo.PixelData = encapsulate(frames)
    video = open_video(saved(echo, tmp_path))
    video.frame(3)
    with pytest.raises(UserError, match=r"frame 20 of .*video\.dcm cannot be decoded"):
        video.frame(20)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_compressed_without_loss(echo, tmp_path, syntax):
    pytest.importorskip("jpeg_ls" if syntax == JPEGLSLossless else "openjpeg")
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 50), dtype=np.uint8)
    dataset = uncompressed(echo, frames, "MONOCHROME2")
    dataset.compress(syntax, generate_instance_uid=False)
    video = open_video(saved(dataset, tmp_path))
    for index in (2, 0, 1):
        np.testing.assert_array_equal(video.frame(index)[..., 0], frames[index])


@pytest.mark.parametrize(
    ("syntax", "remedy"),
    [
        (JPEGLSLossless, r"pip install 'nnunetv2-sam2-3dmed\[video\]'"),
        (JPEG2000Lossless, r"pip install 'nnunetv2-sam2-3dmed\[video\]'"),
        (JPEGLosslessSV1, "pip install python-gdcm"),
    ],
)
def test_a_codec_that_is_not_there(echo, tmp_path, monkeypatch, syntax, remedy):
    class Missing:
        is_available = False

    monkeypatch.setattr(dicom_video, "get_decoder", lambda uid: Missing())
    echo.file_meta.TransferSyntaxUID = syntax
    with pytest.raises(UserError, match=f"no decoder is installed: `{remedy}`"):
        open_video(saved(echo, tmp_path))


def test_a_codec_that_pydicom_does_not_know(echo, tmp_path):
    echo.file_meta.TransferSyntaxUID = pydicom.uid.MPEG4HP41
    with pytest.raises(UserError, match="which pydicom does not decode: convert it to mp4"):
        open_video(saved(echo, tmp_path))


def test_what_is_a_video(echo, tmp_path):
    path = saved(echo, tmp_path)
    assert is_video(path)
    without_ending = path.rename(tmp_path / "IM0001")
    assert is_video(without_ending)
    echo.SOPClassUID = echo.file_meta.MediaStorageSOPClassUID = CTImageStorage
    assert not is_video(saved(echo, tmp_path))


def test_reading_needs_no_pyav(echo_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert open_video(echo_file).frame(0).shape == (240, 320, 3)
