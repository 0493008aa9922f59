"""Videos from strangers are refused by what their headers state, before a frame is decoded."""

import numpy as np
import pydicom
import pytest
from PIL import Image

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.video import containers, open_video, untrusted
from nnunetv2_sam2_3dmed.video.untrusted import check_untrusted_video, is_untrusted_video
from tests.video.files import COUNT, write_video


@pytest.fixture
def video(tmp_path):
    write_video(tmp_path / "a.mp4")
    return tmp_path / "a.mp4"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(np.full((20, 30, 3), index, np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def echo(echo_file, tmp_path):
    data = pydicom.dcmread(echo_file)
    data.save_as(tmp_path / "echo.dcm")
    return tmp_path / "echo.dcm"


def refused(path, root) -> str:
    with pytest.raises(UserError) as found:
        check_untrusted_video(path, root)
    return str(found.value)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi"])
def test_each_kind_of_file_is_taken(tmp_path, name):
    write_video(tmp_path / name)
    check_untrusted_video(tmp_path / name, tmp_path)


def test_bounds_of_all_kinds(video, folder, echo, tmp_path, monkeypatch):
    for path in (video, folder, echo):
        check_untrusted_video(path, tmp_path)
    with monkeypatch.context() as few:
        few.setattr(untrusted, "MOST_FRAMES", 2)
        for path in (video, folder, echo):
            assert "more than 2 frames" in refused(path, tmp_path)
    monkeypatch.setattr(containers, "MOST_PIXELS", 20 * 30 - 1)
    for path in (video, folder, echo):
        assert "pixels, but up to" in refused(path, tmp_path)


def test_frames_are_counted_where_no_header_states_them(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mkv")
    monkeypatch.setattr(untrusted, "MOST_FRAMES", COUNT - 2)
    assert "more than 38 frames" in refused(tmp_path / "a.mkv", tmp_path)


def test_no_larger_frame_is_decoded_than_the_header_states(video, monkeypatch):
    monkeypatch.setattr(containers, "MOST_PIXELS", 48 * 64 - 1)
    with pytest.raises(UserError, match="cannot be decoded"):
        open_video(video)


def test_pictures_of_other_formats_and_places(folder, tmp_path):
    outside = tmp_path / "secret.png"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(outside)
    (folder / "3.png").symlink_to(outside)
    assert "leads elsewhere" in refused(folder, folder)
    (folder / "3.png").unlink()
    (folder / "3.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 20\n%%EndComments\n")
    assert "3.png cannot be read as a picture" in refused(folder, folder)


def test_a_frame_that_no_jpeg_can_hold(folder, tmp_path):
    Image.new("L", (2, 65_500)).save(folder / "0.png")
    check_untrusted_video(folder, tmp_path)
    Image.new("L", (2, 65_501)).save(folder / "0.png")
    assert "65501 x 2 pixels, but up to 65500 a side" in refused(folder, tmp_path)


@pytest.mark.parametrize("kind", ["video", "folder", "echo"])
def test_links_that_lead_out_of_the_folder(kind, request, tmp_path):
    path = request.getfixturevalue(kind)
    root = tmp_path / "root"
    root.mkdir()
    link = root / path.name
    link.symlink_to(path)
    assert is_untrusted_video(link) and "leads elsewhere" in refused(link, root)
    link.unlink()
    path.rename(root / f"own_{path.name}")
    link.symlink_to(root / f"own_{path.name}")
    check_untrusted_video(link, root)


def test_the_first_bytes_say_how_a_file_is_read(tmp_path, monkeypatch):
    av = containers.pyav()
    asked = []
    opened = av.open

    def noted(*given, **options):
        asked.append(options["format"])
        return opened(*given, **options)

    for name, expected in (("a.mp4", "mp4"), ("a.mov", "mp4"), ("a.mkv", "matroska"), ("a.avi", "avi")):
        monkeypatch.setattr(av, "open", opened)
        write_video(tmp_path / name)
        (tmp_path / name).rename(tmp_path / "b.mp4")  # whatever its name
        asked.clear()
        monkeypatch.setattr(av, "open", noted)
        check_untrusted_video(tmp_path / "b.mp4", tmp_path)
        assert open_video(tmp_path / "b.mp4").shape[0] == COUNT and len(asked) > 1 and set(asked) == {expected}


def test_a_deflated_dicom_file_is_not_unpacked(echo, tmp_path, monkeypatch):
    data = pydicom.dcmread(echo)
    data.decompress()
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    assert is_untrusted_video(echo)
    data.save_as(echo)
    unpacked = []
    monkeypatch.setattr(pydicom.filereader.zlib, "decompress", lambda *given: unpacked.append(given) or b"")
    assert not is_untrusted_video(echo) and not unpacked


def test_a_deflated_dicom_file(echo, tmp_path):
    data = pydicom.dcmread(echo)
    data.decompress()
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.save_as(echo)
    assert "compressed as a whole" in refused(echo, tmp_path)
