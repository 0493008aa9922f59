"""Compressed frames of DICOM files from strangers: decoders allocate what a frame itself states, not the header."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from pydicom.encaps import generate_frames
from pydicom.uid import MPEGTransferSyntaxes, RLETransferSyntaxes

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.dicom_headers import number, pixel_data_place, read_dataset

# of run lengths there is no more than 64 times the file, and decoders go by its header; of MPEG there is no decoder
_UNCHECKED = (*RLETransferSyntaxes, *MPEGTransferSyntaxes)
_JP2 = b"\x00\x00\x00\x0cjP  "  # a file of JPEG 2000, which DICOM forbids and decoders accept
_CODESTREAM_BOX = b"jp2c"
_J2K = b"\xff\x4f\xff\x51"  # start of codestream, and image and tile size
_JPEG = b"\xff\xd8"
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_SCAN = 0xDA
# start of frame: JPEG but for tables and extensions in between, and JPEG-LS
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}

Size = tuple[int, int, int]


def check_codestreams(file: Path) -> None:
    """Check that frames of a DICOM file that are compressed as JPEG of any kind have the size that its header states.

    Raises:
        UserError: a frame states another size than the header, or none that is known; or the file cannot be read, or
            breaks off.
    """
    header = read_dataset(file)
    syntax = header.file_meta.TransferSyntaxUID
    place = pixel_data_place(file) if syntax.is_encapsulated and syntax not in _UNCHECKED else None
    if place is None:
        return
    keywords = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")
    rows, columns, samples, count = (int(number(header, keyword, str(file)) or 1) for keyword in keywords)
    for index, frame in enumerate(_frames(file, place[0], count)):
        if stated_size(frame) != (rows, columns, samples):
            raise UserError(
                f"frame {index} of {file} is not of {rows} x {columns} pixels with {samples} samples, as the file's "
                "header states: decompress the file first, for example with gdcmconv --raw."
            )


def stated_size(codestream: bytes) -> Size | None:
    """Return the rows, columns and samples that a JPEG, JPEG-LS or JPEG 2000 codestream states; None for anything else.

    Args:
        codestream: of one frame.
    """
    try:
        if codestream.startswith(_JP2):
            codestream = _in_box(codestream)
        if codestream.startswith(_J2K):
            columns, rows, left, top = struct.unpack_from(">4I", codestream, 8)
            (samples,) = struct.unpack_from(">H", codestream, 40)
            return rows - top, columns - left, samples
        return _size_of_jpeg(codestream) if codestream.startswith(_JPEG) else None
    except (struct.error, IndexError):  # it breaks off
        return None


def _in_box(content: bytes) -> bytes:
    """Return the codestream in the boxes of a JPEG 2000 file; nothing if there is none."""
    place = 0
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind == _CODESTREAM_BOX:
            return content[place + (16 if length == 1 else 8) :]  # 1: the length follows, in eight bytes
        if length < 8:
            break
        place += length
    return b""


def _size_of_jpeg(codestream: bytes) -> Size | None:
    place = 2
    while True:
        if codestream[place] != 0xFF:
            return None
        marker = codestream[place + 1]
        if marker == 0xFF:  # fill bytes may precede a marker
            place += 1
        elif marker in _FRAMES:
            rows, columns, samples = struct.unpack_from(">HHB", codestream, place + 5)
            return rows, columns, samples
        elif marker == _SCAN:
            return None
        elif marker in _ALONE:
            place += 2
        else:
            place += 2 + struct.unpack_from(">H", codestream, place + 2)[0]


def _frames(file: Path, start: int, count: int) -> Iterator[bytes]:
    with file.open("rb") as stream:
        stream.seek(start)
        frames = generate_frames(stream, number_of_frames=count)
        while True:
            try:
                frame = next(frames)
            except StopIteration:
                return
            except Exception as error:  # pydicom raises anything on damaged data
                raise UserError(f"{file} breaks off within its frames ({error}): copy it again.") from error
            yield frame
