"""Frames of another size than a DICOM file's header states are found without decoding them."""

from __future__ import annotations

import io
import struct

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images import codestreams
from nnunetv2_sam2_3dmed.images.codestreams import stated_size
from nnunetv2_sam2_3dmed.images.dicom_headers import read_dataset
from nnunetv2_sam2_3dmed.images.untrusted import read_untrusted
from tests.images.dicom_files import write_series

ROWS, COLUMNS = 40, 72


def check_codestreams(file) -> None:
    codestreams.check_codestreams(file, read_dataset(file))


def jpeg(rows=ROWS, columns=COLUMNS, mode="L", **options) -> bytes:
    content = io.BytesIO()
    Image.new(mode, (columns, rows)).save(content, "JPEG", **options)
    return content.getvalue()


def boxed(codestream: bytes, *before: bytes) -> bytes:
    boxes = [b"jP  \r\n\x87\n", *before, b"jp2c" + codestream]
    return b"".join(struct.pack(">I", len(box) + 4) + box for box in boxes)


@pytest.fixture
def j2k() -> bytes:
    """Codestream of an image whose reference grid begins at (3, 5), with two samples."""
    size = struct.pack(">HH8IH", 41, 0, COLUMNS + 5, ROWS + 3, 5, 3, 64, 64, 0, 0, 2)
    return b"\xff\x4f\xff\x51" + size


@pytest.mark.parametrize(
    ("options", "samples"),
    [
        ({}, 1),
        ({"mode": "RGB"}, 3),
        ({"progressive": True}, 1),
        ({"comment": b"\xff\xc0" * 9}, 1),
    ],
)
def test_the_size_of_a_jpeg(options, samples):
    assert stated_size(jpeg(**options)) == (ROWS, COLUMNS, samples)


def test_the_size_of_jpeg_2000_in_a_file_and_without(j2k):
    assert stated_size(j2k) == stated_size(boxed(j2k)) == (ROWS, COLUMNS, 2)
    # a codestream in another box is not the one that is decoded
    decoy = b"uuid" + j2k.replace(struct.pack(">I", COLUMNS + 5), struct.pack(">I", 9))
    assert stated_size(boxed(j2k, decoy)) == (ROWS, COLUMNS, 2)


def test_what_breaks_off_or_is_something_else_has_no_size(j2k):
    content = jpeg()
    at = content.index(b"\xff\xc0")
    for end in (2, 3, at + 1, at + 8):
        assert stated_size(content[:end]) is None
    without = content[:at] + content[at + 2 + struct.unpack_from(">H", content, at + 2)[0] :]
    no_box = b"\0\0\0\x0cjP  " + bytes(40)
    for other in (b"", b"GIF89a", j2k[:30], boxed(b"")[:20], no_box, without, content[:2] + b"x"):
        assert stated_size(other) is None


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_series_that_state_their_size_are_read(tmp_path, syntax):
    pytest.importorskip({JPEGLSLossless: "jpeg_ls", JPEG2000Lossless: "openjpeg"}.get(syntax, "pydicom"))
    values = np.random.default_rng(0).integers(-900, 900, (2, ROWS, COLUMNS)).astype(np.int16)
    write_series(tmp_path, values)
    for file in tmp_path.iterdir():
        data = pydicom.dcmread(file)
        data.compress(syntax, generate_instance_uid=False)
        data.save_as(file)
        check_codestreams(file)
    np.testing.assert_array_equal(read_untrusted(tmp_path, tmp_path, lambda size: None).array, values)


@pytest.mark.parametrize("frame", [jpeg(ROWS + 1), jpeg(2000, 3000), jpeg(mode="RGB"), b"\xff\xd8\xff", b"none"])
def test_other_sizes_are_refused_before_anything_is_decoded(tmp_path, frame, monkeypatch):
    monkeypatch.setattr("nnunetv2_sam2_3dmed.images.untrusted.read_volume", None)
    write_series(tmp_path, np.zeros((2, ROWS, COLUMNS), np.int16))
    for file in tmp_path.iterdir():
        data = pydicom.dcmread(file)
        data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        data.NumberOfFrames, data.PixelData = 2, encapsulate([jpeg(), frame])
        data["PixelData"].is_undefined_length = True
        data.save_as(file)
    with pytest.raises(UserError, match=f"frame 1 of .* is not of {ROWS} x {COLUMNS} pixels with 1 samples"):
        read_untrusted(tmp_path, tmp_path, lambda size: None)


def test_a_jpeg_with_two_frames_has_no_size():
    """Decoders differ in which one they take."""
    content = jpeg()
    at = content.index(b"\xff\xc0")
    frame = content[at : at + 2 + struct.unpack_from(">H", content, at + 2)[0]]
    assert stated_size(content[:at] + frame + content[at:]) is None
    assert stated_size(content[:at] + b"\xff\xf7" + frame[2:] + content[at:]) is None
    assert stated_size(content[:at] + b"\xff\xf0" + frame[2:] + content[at:]) is None


def test_many_tiles_are_refused(j2k):
    tiles = struct.pack(">2I", 64, 64)
    assert stated_size(j2k.replace(tiles, struct.pack(">2I", 2, 2))) == (
        ROWS,
        COLUMNS,
        2,
    )  # (40 + 3) / 2 x (72 + 5) / 2
    for small in ((1, 1), (0, 64)):
        assert stated_size(j2k.replace(tiles, struct.pack(">2I", *small))) is None


@pytest.fixture
def compressed(tmp_path):
    """A file with two frames, and what makes another one of it."""
    write_series(tmp_path, np.zeros((1, ROWS, COLUMNS), np.int16))
    (file,) = tmp_path.iterdir()

    def write(frames=(jpeg(), jpeg()), change=lambda data: None, **options):
        data = pydicom.dcmread(file)
        data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        data.NumberOfFrames, data.PixelData = 2, encapsulate(list(frames), **options)
        data["PixelData"].is_undefined_length = True
        change(data)
        data.save_as(file)
        return file

    return write


@pytest.mark.parametrize("has_bot", [True, False])
def test_frames_are_found_with_and_without_offsets(compressed, has_bot):
    check_codestreams(compressed(has_bot=has_bot))
    with pytest.raises(UserError, match="frame 1 of"):
        check_codestreams(compressed((jpeg(), jpeg(9, 9)), has_bot=has_bot))
    with pytest.raises(UserError, match="a frame is missing|breaks off"):
        check_codestreams(compressed((jpeg(),), has_bot=has_bot))


def test_offsets_into_a_frame_lead_to_no_other_one(compressed):
    """The second frame is announced within a comment of the first one, where a larger one lies."""
    larger = jpeg(600, 800)
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(larger)) + larger
    first = jpeg(comment=item)
    there = 8 + first.index(item)  # after tag and length of the first item

    def basic(data):
        data.PixelData = data.PixelData[:12] + struct.pack("<I", there) + data.PixelData[16:]

    with pytest.raises(UserError, match="frame 0 of"):  # which ends within its comment by these offsets
        check_codestreams(compressed((first, jpeg()), basic))

    def extended(data):
        data.ExtendedOffsetTable = struct.pack("<2Q", 0, there)
        data.ExtendedOffsetTableLengths = struct.pack("<2Q", len(first), len(larger))

    with pytest.raises(UserError, match="frame 1 of"):
        check_codestreams(compressed((first, jpeg()), extended, has_bot=False))


@pytest.mark.parametrize("tag", [b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00"])
def test_compressed_fractions_are_refused(compressed, tag):
    file = compressed((jpeg(), jpeg(2000, 3000)))
    content = file.read_bytes()
    file.write_bytes(content.replace(b"\xe0\x7f\x10\x00", tag))
    with pytest.raises(UserError, match="in an unusual place"):
        check_codestreams(file)
    # in front of others
    at = content.index(b"\xe0\x7f\x10\x00")
    file.write_bytes(content[:at] + content[at:].replace(b"\xe0\x7f\x10\x00", tag) + content[at:])
    with pytest.raises(UserError, match="in an unusual place"):
        check_codestreams(file)


def test_of_two_kinds_of_pixel_data_none_is_taken(compressed):
    content = compressed((jpeg(2000, 3000), jpeg())).read_bytes()
    at = content.index(b"\xe0\x7f\x10\x00")
    file = compressed()
    file.write_bytes(content + file.read_bytes()[at:])
    with pytest.raises(UserError, match="in an unusual place"):
        check_codestreams(file)


def test_a_file_without_pixels_or_compression_is_not_looked_at(tmp_path):
    write_series(tmp_path, np.zeros((2, 4, 4), np.int16))
    first, second = sorted(tmp_path.iterdir())
    check_codestreams(first)
    data = pydicom.dcmread(second)
    del data.PixelData
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.save_as(second)
    check_codestreams(second)
