"""Headers of MetaImage and NRRD files, and the place of their voxels."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.stored_voxels import BZIP2, GZIP, RAW, ZLIB, StoredVoxels, first_bytes

METAIMAGE, NRRD = (".mha", ".mhd"), (".nrrd", ".nhdr")
LONGEST = 1 << 20  # of a header
_META_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_NRRD_ENCODINGS = {"raw": RAW, "gzip": GZIP, "gz": GZIP, "bzip2": BZIP2, "bz2": BZIP2}


def metaimage_voxels(file: Path) -> StoredVoxels | None:
    """The place of the voxels of a MetaImage file; None for headers that are left to ITK.

    Raises:
        UserError: the file is empty or no MetaImage file.
    """
    fields, end = metaimage_fields(file)
    named = fields["ElementDataFile"]
    if not named:
        raise UserError(f"{file} does not say where its voxels are (ElementDataFile is empty): copy it again.")
    local = named.upper() == "LOCAL"
    try:
        dtype = np.dtype(_META_TYPES[fields["ElementType"].removesuffix("_ARRAY")])
        sizes = [int(n) for n in fields["DimSize"].split()]
        channels = int(fields.get("ElementNumberOfChannels", 1))
        header_size = int(fields.get("HeaderSize", 0))
        compressed_length = int(fields.get("CompressedDataSize", 0))
    except (KeyError, ValueError):
        return None
    if not sizes or min(sizes) < 1:
        raise UserError(f"{file} has no voxels ({' x '.join(map(str, sizes)) or 0}): give an image that is not empty.")
    length = math.prod(sizes) * channels * dtype.itemsize
    if not local and named.split()[0].upper() == "LIST":
        _check_list(file, named, fields, end, length)
        return None
    if (not local and "%" in named) or not _true(fields, "BinaryData", True):
        return None
    if local and header_size:
        raise UserError(
            f"{file} has a HeaderSize of {header_size} although its voxels are in the same file, which readers take in "
            "several ways: save it again."
        )
    if header_size == -1:
        return None
    big = _true(fields, "BinaryDataByteOrderMSB", _true(fields, "ElementByteOrderMSB", False))
    dtype = dtype.newbyteorder(">" if big else "<")
    start = end if local else max(0, header_size)
    place = file if local else file.parent / file_name(named)
    if not _true(fields, "CompressedData", False):
        return StoredVoxels(file, place, start, 0, length, RAW, dtype)
    if compressed_length <= 0:  # ITK would return uninitialised memory
        raise UserError(
            f"{file} is compressed, but lacks a CompressedDataSize, so that ITK cannot read it: save it again."
        )
    return StoredVoxels(file, place, start, 0, length, ZLIB, dtype, compressed_length)


def metaimage_fields(file: Path) -> tuple[dict[str, str], int]:
    """The header of a MetaImage file up to ElementDataFile, and its length in bytes.

    Raises:
        UserError: the file is empty or no MetaImage file.
    """
    head = first_bytes(file, LONGEST)
    fields: dict[str, str] = {}
    end = 0
    while "ElementDataFile" not in fields:
        line, newline, _ = head[end:].partition(b"\n")
        key, equals, value = line.decode("latin-1").partition("=")
        if not equals or not newline and key.strip() != "ElementDataFile":
            raise UserError(
                f"{file} cannot be read as an image: it has no MetaImage header; copy or download it again."
            )
        fields[key.strip()] = value.strip()
        end += len(line) + 1
    return fields, end


def _check_list(file: Path, named: str, fields: Mapping[str, str], end: int, length: int) -> None:
    """Compare the files that a MetaImage header lists with its sizes.

    For missing ones, ITK returns uninitialised memory.

    Raises:
        UserError: there are too few, or one is too short.
    """
    # ITK passes over a last name that no line break follows
    lines = first_bytes(file, LONGEST)[end:].decode("utf-8", "replace").split("\n")[:-1]
    names = [line.strip() for line in lines if line.strip()]
    words = named.split()
    sizes = fields["DimSize"].split()
    axes = int(words[1]) if len(words) > 1 and words[1].isdigit() else len(sizes) - 1  # of each file
    expected = math.prod(int(n) for n in sizes[axes:])
    if len(names) < expected:
        raise UserError(
            f"{file} lists {len(names)} of {expected} files of voxels, each with a line break behind it: save it again."
        )
    if _true(fields, "CompressedData", False) or not _true(fields, "BinaryData", True):
        return
    for name in names[:expected]:
        StoredVoxels(file, file.parent / name, 0, 0, length // expected, RAW).check_length()


def nrrd_voxels(file: Path) -> StoredVoxels | None:
    """The place of the voxels of an NRRD file; None for headers that are left to ITK.

    Raises:
        UserError: the file is empty or no NRRD file.
    """
    fields, start = nrrd_fields(file)
    named = fields.get("data file", fields.get("datafile"))
    if named == "":
        raise UserError(f"{file} does not say where its voxels are (`data file` is empty): copy it again.")
    skips = [fields.get(key, "0") for key in ("line skip", "lineskip", "byte skip", "byteskip")]
    if (named is not None and (named.split()[0] == "LIST" or "%" in named)) or any(skip != "0" for skip in skips):
        return None
    try:
        dtype = np.dtype(_NRRD_TYPES[fields["type"]])
        encoding = _NRRD_ENCODINGS[fields["encoding"].lower()]
        length = math.prod(int(n) for n in fields["sizes"].split()) * dtype.itemsize
    except (KeyError, ValueError):
        return None
    dtype = dtype.newbyteorder(">" if fields.get("endian") == "big" else "<")
    if named is None:
        return StoredVoxels(file, file, start, 0, length, encoding, dtype)
    return StoredVoxels(file, file.parent / file_name(named), 0, 0, length, encoding, dtype)


def nrrd_fields(file: Path) -> tuple[dict[str, str], int]:
    """The header of an NRRD file, keys in lower case, and its length in bytes.

    Raises:
        UserError: the file is empty or no NRRD file.
    """
    head = first_bytes(file, LONGEST)
    if not head.startswith(b"NRRD000"):
        raise UserError(f"{file} cannot be read as an image: it does not begin with NRRD; copy or download it again.")
    ends = [(head.find(blank), len(blank)) for blank in (b"\n\n", b"\r\n\r\n") if blank in head]
    end, blank = min(ends) if ends else (len(head), 0)
    fields: dict[str, str] = {}
    for line in head[:end].decode("latin-1").split("\n")[1:]:
        key, colon, value = line.partition(":")
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[key.strip().lower()] = value.strip()
    if not ends and "data file" not in fields and "datafile" not in fields:
        raise UserError(f"{file} breaks off within its header: copy or download it again.")
    return fields, end + blank


def file_name(named: str) -> str:
    """A name from a header, whose bytes were read as Latin-1, as the file system has it."""
    return os.fsdecode(named.encode("latin-1"))


def _true(fields: Mapping[str, str], key: str, default: bool) -> bool:
    return fields[key].lower() in ("true", "t", "1", "yes") if key in fields else default
