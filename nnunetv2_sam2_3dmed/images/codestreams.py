"""Compressed frames of DICOM files from strangers: decoders allocate what a frame itself states, not the header.

Not bounded here: JPEG 2000 of many layers or precincts, for which decoders take more memory than for the pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames, get_frame, parse_basic_offsets
from pydicom.uid import MPEGTransferSyntaxes, RLETransferSyntaxes

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.dicom_headers import number, pixel_data_place

# of run lengths there is no more than 64 times the file, and decoders go by its header; of MPEG there is no decoder
_UNCHECKED = (*RLETransferSyntaxes, *MPEGTransferSyntaxes)
_PIXEL_DATA = b"\xe0\x7f\x10\x00"  # the tag of integers, which alone are compressed
_JP2 = b"\x00\x00\x00\x0cjP  "  # a file of JPEG 2000, which DICOM forbids and decoders accept
_CODESTREAM_BOX = b"jp2c"
_J2K = b"\xff\x4f\xff\x51"  # start of codestream, and image and tile size
_MOST_TILES = 1024
_JPEG = b"\xff\xd8"
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_SCAN = 0xDA
# start of frame: JPEG but for tables and extensions in between, and JPEG-LS
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_EXTENSIONS = {0xC8, *range(0xF0, 0xFE)} - {0xF7, 0xF8}  # in which decoders may look for another frame

Size = tuple[int, int, int]
Offsets = tuple[bytes, bytes] | None


def check_codestreams(file: Path, header: Dataset) -> None:
    """Check that frames of a DICOM file that are compressed as JPEG of any kind have the size that its header states.

    Args:
        file: to check.
        header: of the file, as ``read_dataset`` returns it.

    Raises:
        UserError: a frame states another size than the header, or none that is known; or the file cannot be read,
            breaks off, or has its frames in an unusual place.
    """
    syntax = header.file_meta.TransferSyntaxUID
    try:
        if not syntax.is_encapsulated or syntax in _UNCHECKED:
            return
    except ValueError:  # no transfer syntax that is known, so that nothing decodes it
        return
    keywords = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")
    rows, columns, samples, count = (int(number(header, keyword, str(file)) or 1) for keyword in keywords)
    with file.open("rb") as stream:
        start = _start(file, stream)
        if start is None:
            return
        offsets = None
        if "ExtendedOffsetTable" in header and "ExtendedOffsetTableLengths" in header:
            offsets = header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths
        for index, frame in _frames(file, stream, start, count, offsets):
            if stated_size(frame) != (rows, columns, samples):
                raise UserError(
                    f"frame {index} of {file} is not of {rows} x {columns} pixels with {samples} samples, as the "
                    "file's header states: decompress the file first, for example with gdcmconv --raw."
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
            return _size_of_jpeg_2000(codestream)
        return _size_of_jpeg(codestream) if codestream.startswith(_JPEG) else None
    except (struct.error, IndexError, ZeroDivisionError):  # it breaks off, or has tiles of no size
        return None


def _size_of_jpeg_2000(codestream: bytes) -> Size | None:
    right, bottom, left, top, *tile = struct.unpack_from(">8I", codestream, 8)
    (samples,) = struct.unpack_from(">H", codestream, 40)
    wide, high, first_left, first_top = tile
    tiles = -(-(right - first_left) // wide) * -(-(bottom - first_top) // high)
    return (bottom - top, right - left, samples) if tiles <= _MOST_TILES else None


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
    place, size = 2, None
    while True:
        if codestream[place] != 0xFF:
            return None
        marker = codestream[place + 1]
        if marker == 0xFF:  # fill bytes may precede a marker
            place += 1
            continue
        if marker in _EXTENSIONS or (marker in _FRAMES and size is not None):
            return None
        if marker == _SCAN:
            return size
        if marker in _FRAMES:
            size = struct.unpack_from(">HHB", codestream, place + 5)
        place += 2 if marker in _ALONE else 2 + struct.unpack_from(">H", codestream, place + 2)[0]


def _start(file: Path, stream: BinaryIO) -> int | None:
    """Return where the frames begin, for all who read the file; None if there are none.

    Raises:
        UserError: some would take another element of the file than others.
    """
    pydicom.dcmread(stream, stop_before_pixels=True, force=True)
    element = stream.read(12)  # tag, representation, and a length that is not stated
    if not element:
        return None
    place = pixel_data_place(file)
    if element[:4] != _PIXEL_DATA or place is None or place[0] != stream.tell():
        raise UserError(
            f"{file} has its frames in an unusual place: decompress it first, for example with gdcmconv --raw."
        )
    return place[0]


def _frames(file: Path, stream: BinaryIO, start: int, count: int, offsets: Offsets) -> Iterator[tuple[int, bytes]]:
    """Yield each frame with its index, as it is read in turn and as it is found by its offset.

    Raises:
        UserError: one is missing, or the file breaks off.
    """
    try:
        stream.seek(start)
        found = 0
        for index, frame in enumerate(generate_frames(stream, number_of_frames=count, extended_offsets=offsets)):
            found += 1
            if frame or index < count:  # an empty fragment may follow the last one
                yield index, frame
        if found < count:
            raise UserError(f"{file} states {count} frames but has {found}: a frame is missing, copy the file again.")
        stream.seek(start)
        if parse_basic_offsets(stream) or offsets is not None:
            for index in range(count):
                stream.seek(start)
                yield index, get_frame(stream, index, number_of_frames=count, extended_offsets=offsets)
    except UserError:
        raise
    except Exception as error:  # pydicom raises anything on damaged data
        raise UserError(f"{file} breaks off within its frames ({error}): copy it again.") from error
