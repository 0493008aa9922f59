"""Frames of video files against PyAV's own decoding from beginning to end."""

from __future__ import annotations

import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.video import is_video, open_video
from tests.video.files import COLUMNS, COUNT, ROWS, number_of, numbered_frame, set_rotation, write_video

KINDS = [
    ("a.mp4", "libx264", "yuv420p"),
    ("a.mov", "mpeg4", "yuv420p"),
    ("a.mkv", "ffv1", "bgr0"),
    ("grey.mkv", "ffv1", "gray"),
    ("a.avi", "mjpeg", "yuvj420p"),
    ("b_frames.avi", "libx264", "yuv420p"),  # whose times are wrong
    ("A.MP4", "libx264", "yuv444p"),
]


@pytest.mark.parametrize(("name", "codec", "pixels"), KINDS, ids=[kind[0] for kind in KINDS])
def test_frames_in_any_order_are_those_of_a_decoding_from_the_beginning(tmp_path, name, codec, pixels):
    path = tmp_path / name
    write_video(path, codec, pixels, options={"g": "12"} if codec == "libx264" else None)
    with av.open(str(path)) as file:
        expected = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    video = open_video(path)
    assert is_video(path) and video.shape == (COUNT, ROWS, COLUMNS) and not video.notes
    assert video.rate == pytest.approx(25)
    np.testing.assert_allclose(video.times, np.arange(COUNT) / 25, atol=1e-3)
    order = [*range(COUNT), *reversed(range(COUNT)), 30, 2, 39, 0, 38, 17]
    video._most = 5  # so that frames have to be decoded again
    for index in order:
        np.testing.assert_array_equal(video.frame(index), expected[index])
    assert [number_of(video.frame(index)) for index in (0, 7, 39)] == [0, 7, 39]


def test_times_of_a_variable_rate_are_kept(tmp_path):
    times = [Fraction(k, 25) for k in range(10)] + [Fraction(10, 25) + Fraction(k, 10) for k in range(10)]
    path = tmp_path / "variable.mp4"
    write_video(path, frames=[numbered_frame(k) for k in range(20)], times=times)
    video = open_video(path)
    np.testing.assert_allclose(video.times, [float(time) for time in times], atol=1e-3)
    assert video.rate == pytest.approx(19 / float(times[-1]))
    assert [number_of(video.frame(index)) for index in (15, 3)] == [15, 3]


@pytest.mark.parametrize(
    ("matrix", "turns", "red"),
    [((0, 1, -1, 0), -1, (0, -1)), ((0, -1, 1, 0), 1, (-1, 0)), ((-1, 0, 0, -1), 2, (-1, -1))],
    ids=["clockwise", "counterclockwise", "upside down"],
)
def test_frames_are_turned_as_the_file_says(tmp_path, matrix, turns, red):
    """The red corner at the top left goes to the top right by a quarter turn clockwise."""
    path = tmp_path / "turned.mp4"
    write_video(path)
    stored = open_video(path).frame(3)
    set_rotation(path, matrix)
    video = open_video(path)
    np.testing.assert_array_equal(video.frame(3), np.rot90(stored, turns))
    row, column = red
    assert video.frame(3)[row, column, 0] > 150 > 60 > video.frame(3)[row, column, 1]


def test_odd_sizes(tmp_path):
    path = tmp_path / "odd.mkv"
    write_video(path, "ffv1", "bgr0", [numbered_frame(k, 47, 63) for k in range(4)])
    video = open_video(path)
    assert video.shape == (4, 47, 63)
    np.testing.assert_array_equal(video.frame(2), numbered_frame(2, 47, 63))


def test_decoded_frames_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("nnunetv2_sam2_3dmed.video.video.MOST_BYTES", 6 * ROWS * COLUMNS * 3)
    path = tmp_path / "a.mp4"
    write_video(path)
    video = open_video(path)
    for index in range(COUNT):
        video.frame(index)
        assert len(video._frames) <= 6
    decoded = video._source.decode

    def never(index):
        raise AssertionError(index)

    video._source.decode = never
    for index in range(COUNT - 6, COUNT):
        video.frame(index)  # the latest are there
    video._source.decode = decoded
    with pytest.raises(IndexError):
        video.frame(COUNT)


def half(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def noisy() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8) for _ in range(COUNT)]


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "container", "message"),
    [
        ("index_last.mp4", "libx264", "yuv420p", {}, "cannot be opened as a video"),
        ("index_first.mp4", "libx264", "yuv420p", {"movflags": "faststart"}, r"is torn after \d\d frames .* states 40"),
        ("a.mkv", "ffv1", "bgr0", {}, r"is torn after \d\d frames .* states 1\.6 s, of which 0\.\d s are there"),
    ],
)
def test_torn_files(tmp_path, name, codec, pixels, container, message):
    path = tmp_path / name
    write_video(path, codec, pixels, noisy(), container=container)
    half(path)
    with pytest.raises(UserError, match=message) as raised:
        open_video(path)
    assert str(path) in str(raised.value) and "copy it again" in str(raised.value)


def test_damage_within_a_file_names_the_frame(tmp_path):
    path = tmp_path / "damaged.mp4"
    write_video(path, frames=noisy())
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 9000] = bytes(9000)
    path.write_bytes(content)
    video = open_video(path)
    video.frame(0)
    with pytest.raises(UserError, match=r"frame \d+ of .*damaged\.mp4 cannot be decoded"):
        for index in range(len(video)):
            video.frame(index)


@pytest.mark.parametrize("content", [b"", b"no video at all"])
def test_no_video(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be opened as a video"):
        open_video(path)


def test_sound_alone(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        silence.sample_rate = 44100
        file.mux(stream.encode(silence))
        file.mux(stream.encode(None))
    with pytest.raises(UserError, match="holds no video"):
        open_video(path)


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    write_video(path)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'nnunetv2-sam2-3dmed\[video\]'"):
        open_video(path)
