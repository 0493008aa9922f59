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
from nnunetv2_sam2_3dmed.images.codestreams import check_codestreams, stated_size
from nnunetv2_sam2_3dmed.images.untrusted import read_untrusted
from tests.images.dicom_files import write_series

ROWS, COLUMNS = 40, 72


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


def test_a_file_without_pixels_or_compression_is_not_looked_at(tmp_path):
    write_series(tmp_path, np.zeros((2, 4, 4), np.int16))
    first, second = sorted(tmp_path.iterdir())
    check_codestreams(first)
    data = pydicom.dcmread(second)
    del data.PixelData
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.save_as(second)
    check_codestreams(second)
