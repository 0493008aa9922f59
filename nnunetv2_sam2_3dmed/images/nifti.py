"""Headers of NIfTI files and the place of their voxels, compressed or not whatever the file's name."""

from __future__ import annotations

import io
import math
import zlib
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.stored_voxels import GZIP, GZIP_MAGIC, RAW, StoredVoxels, first_bytes, inflated

ENDINGS = (".nii", ".nii.gz")
_LARGEST_HEADER = 540  # of NIfTI-2; of NIfTI-1: 348
_MOST_DIMENSIONS = 7
_ZIP_MAGIC = b"PK\x03\x04"
_MAGIC = {348: (Nifti1Header, slice(344, 347)), 540: (Nifti2Header, slice(4, 7))}


def is_nifti(file: Path) -> bool:
    return file.name.lower().endswith(ENDINGS)


def is_gzip(file: Path) -> bool:
    """True for gzip files, by their content."""
    with file.open("rb") as stream:
        return stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def check_itk_reads(file: Path) -> None:
    """Refuse NIfTI-2 with a clear message; ITK only reports that it has no reader.

    Raises:
        UserError: the file is NIfTI-2.
    """
    if is_nifti(file) and isinstance(read_header(file), Nifti2Header):
        raise UserError(f"{file} is NIfTI-2, which cannot be read: save it as NIfTI-1, NRRD or MetaImage.")


def nifti_voxels(file: Path) -> StoredVoxels:
    """The place of the voxels in a NIfTI file.

    Raises:
        UserError: the file is no NIfTI file, or its header is damaged.
    """
    header = read_header(file)
    try:
        shape = [int(length) for length in header.get_data_shape()]
        dtype = header.get_data_dtype()
        offset = int(header["vox_offset"])
    except KeyError as error:
        raise UserError(
            f"{file} has a damaged NIfTI header, there is no type of voxels {error}: copy it again."
        ) from error
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise UserError(f"{file} has a damaged NIfTI header ({error}): copy or download it again.") from error
    if offset < int(header["sizeof_hdr"]):
        raise UserError(
            f"{file} has a damaged NIfTI header, its voxels are said to begin at byte {float(header['vox_offset']):g}, "
            "within the header: copy it again."
        )
    if dtype.itemsize < 1:
        raise UserError(f"{file} has voxels of a type that cannot be read ({header['datatype']}): save it as 8 bit.")
    if not shape or min(shape) < 1:
        raise UserError(f"{file} has no voxels ({' x '.join(map(str, shape)) or 0}): give an image that is not empty.")
    number = dtype if np.issubdtype(dtype, np.number) else None
    length = math.prod(shape) * dtype.itemsize
    return StoredVoxels(file, file, 0, offset, length, GZIP if is_gzip(file) else RAW, number)


def read_header(file: Path) -> Nifti1Header:
    """The header of a NIfTI file, compressed or not; a Nifti2Header for NIfTI-2.

    Raises:
        UserError: the file is no NIfTI file, or its header is damaged.
    """
    head = _head(file)
    sizes = {"<": int.from_bytes(head[:4], "little"), ">": int.from_bytes(head[:4], "big")}
    order, size = next(((order, size) for order, size in sizes.items() if size in _MAGIC), ("<", None))
    if size is None and head.startswith((GZIP_MAGIC, _ZIP_MAGIC)):
        raise UserError(f"{file} is an archive, or was compressed twice: give the file that is in it.")
    if size is None:
        begins = repr(bytes(head[:16]))[1:]
        raise UserError(
            f"{file} cannot be read as an image: it is no NIfTI file, it begins with {begins}; copy or download it "
            "again."
        )
    kind, magic = _MAGIC[size]
    if len(head) < size or head[magic][:2] == b"ni":
        reason = "breaks off within its header" if len(head) < size else "is the header of a pair of files"
        raise UserError(f"{file} {reason}: give an image that is one whole NIfTI file.")
    if head[magic][:2] != b"n+":
        raise UserError(f"{file} has no NIfTI header (but perhaps one of Analyze): convert it to NIfTI.")
    try:
        header = kind(head[:size], order, check=False)
    except WrapStructError as error:
        raise UserError(f"{file} has a damaged NIfTI header ({error}): copy or download it again.") from error
    if not 1 <= header["dim"][0] <= _MOST_DIMENSIONS:
        raise UserError(
            f"{file} has a damaged NIfTI header ({header['dim'][0]} dimensions): copy or download it again."
        )
    return header


def scaling(file: Path) -> tuple[float, float]:
    """Slope and intercept by which a reader changes the voxels of a NIfTI file; 1 and 0 where it leaves them.

    Raises:
        UserError: the file is no NIfTI file, or its header is damaged.
    """
    header = read_header(file)
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not (math.isfinite(slope) and math.isfinite(intercept)):
        return 1.0, 0.0
    return slope, intercept


def _head(file: Path) -> bytes:
    """The first bytes, decompressed."""
    head = first_bytes(file, 1 << 16)
    if not head.startswith(GZIP_MAGIC):
        return head[:_LARGEST_HEADER]
    found = b""
    try:
        for block in inflated(io.BytesIO(head), GZIP, _LARGEST_HEADER):
            found += block
            if len(found) >= _LARGEST_HEADER:
                break
    except EOFError:
        pass  # the caller sees that it is short
    except zlib.error as error:
        raise UserError(f"{file} is damaged ({error}): copy or download it again.") from error
    if not found:
        raise UserError(f"{file} breaks off within its header: copy or download it again.")
    return found[:_LARGEST_HEADER]
