"""Detection of incomplete image files: ITK silently fills missing voxels of a NIfTI file with zeros."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.nifti import is_nifti, nifti_voxels, scaling
from nnunetv2_sam2_3dmed.images.stored_voxels import StoredVoxels
from nnunetv2_sam2_3dmed.images.text_headers import METAIMAGE, NRRD, metaimage_voxels, nrrd_voxels

_SCALED_ITEM = np.dtype(np.float32).itemsize  # ITK computes scaled integers in this type, or float64 for large ones


def check_length(file: Path) -> None:
    """Compare the length of an image file with its header, mostly within milliseconds.

    For formats other than NIfTI, MetaImage and NRRD, only check that the file exists and is not empty.

    Raises:
        UserError: the file is missing or incomplete.
    """
    voxels = _voxels(file)
    if voxels is not None:
        voxels.check_length()


def count_not_finite(file: Path) -> int:
    """Read all voxels of an image file, and verify the checksums of compressed ones.

    Returns:
        The number of NaN and infinite voxels, which ITK sets to 0 when it reads NIfTI; 0 for formats other than NIfTI,
        MetaImage and NRRD, for which it is unknown.

    Raises:
        UserError: the file is missing, incomplete or damaged.
    """
    voxels = _voxels(file)
    return 0 if voxels is None else voxels.count_not_finite()


def holds_floats(file: Path) -> bool:
    """True if the header allows NaN or infinite voxels, or if that is unknown.

    Raises:
        UserError: the file is missing, or no image.
    """
    voxels = _voxels(file)
    return voxels is None or voxels.dtype is None or bool(np.issubdtype(voxels.dtype, np.inexact))


def stated_bytes(file: Path) -> int:
    """The memory that an image's voxels take when they are read, by its header alone.

    Raises:
        UserError: the file is missing or no image, or its header does not state this in a common way.
    """
    voxels = _voxels(file)
    if voxels is None:
        raise UserError(
            f"{file} does not state in a common way how large it is, or where its voxels are: save it as .nrrd, .mha "
            "or .nii.gz."
        )
    if is_nifti(file) and voxels.dtype is not None and scaling(file) != (1.0, 0.0):
        item = voxels.dtype.itemsize
        return voxels.length // item * max(item, _SCALED_ITEM)
    return voxels.length


def check_content(file: Path) -> None:
    """Read all voxels of an image file.

    Raises:
        UserError: the file is missing, incomplete or damaged, or has voxels that are NaN or infinite.
    """
    wrong = count_not_finite(file)
    if wrong:
        raise UserError(
            f"{file} holds {wrong} values that are not finite (NaN or infinite): replace them, in an image for example "
            "with the intensity of air."
        )


def check_lengths(files: Iterable[Path]) -> None:
    """Apply :func:`check_length` to many files.

    Raises:
        UserError: names the first incomplete one and counts the others.
    """
    problems = []
    for file in files:
        try:
            check_length(file)
        except UserError as error:
            problems.append(str(error))
    if problems:
        more = f" (and {len(problems) - 1} more files are not whole)" if len(problems) > 1 else ""
        raise UserError(f"{problems[0].removesuffix('.')}{more}.")


def _voxels(file: Path) -> StoredVoxels | None:
    if file.is_dir():
        raise UserError(f"{file} is a folder, but a file was expected: give the file that is in it.")
    if not file.is_file():
        raise UserError(f"there is no file {file}.")
    if is_nifti(file):
        return nifti_voxels(file)
    name = file.name.lower()
    if name.endswith(METAIMAGE):
        return metaimage_voxels(file)
    if name.endswith(NRRD):
        return nrrd_voxels(file)
    if not file.stat().st_size:
        raise UserError(f"{file} is empty: copy or download it again.")
    return None
