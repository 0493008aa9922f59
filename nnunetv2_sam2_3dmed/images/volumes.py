"""Volumes read from files or DICOM series, and written on the same grid."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import written_beside
from nnunetv2_sam2_3dmed.images import dicom_headers
from nnunetv2_sam2_3dmed.images.exact_paths import exactly
from nnunetv2_sam2_3dmed.images.integrity import check_content, stated_bytes
from nnunetv2_sam2_3dmed.images.nifti import check_itk_reads, is_nifti
from nnunetv2_sam2_3dmed.images.stated_geometry import check_stated_geometry, nifti_choice
from nnunetv2_sam2_3dmed.images.text_headers import METAIMAGE
from nnunetv2_sam2_3dmed.images.volume import Volume, by, volume_from_array

READABLE = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")  # one file each, which can be renamed
DICOM_ENDINGS = dicom_headers.ENDINGS


def volume_from_sitk(image: sitk.Image, name: str) -> Volume:
    """Check a SimpleITK image, of which trailing dimensions of length 1 are dropped.

    Raises:
        UserError: see :func:`volume_from_array`; or the image has several channels.
    """
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise UserError(
            f"{name} has {image.GetNumberOfComponentsPerPixel()} channels, but an image of one is needed: take one."
        )
    while image.GetDimension() > 3 and image.GetSize()[-1] == 1:
        first = (slice(None),) * (image.GetDimension() - 1) + (0,)
        image = image[first]
    if image.GetDimension() != 3:
        raise UserError(
            f"{name} has {image.GetDimension()} dimensions ({by(image.GetSize())} voxels), but an image of three is "
            "needed: take one channel or one time point."
        )
    array, spacing = sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]
    return volume_from_array(array, spacing, image.GetOrigin(), image.GetDirection(), name=name)


def read_volume(path: str | Path, check_bytes: Callable[[int], None] | None = None) -> Volume:
    """Read a NIfTI, NRRD or MetaImage file, or a DICOM series (its folder, or one of its files).

    Args:
        path: of the file or folder.
        check_bytes: called with the memory of the voxels that the headers state, before they are read; raises an error
            to refuse the image.

    Raises:
        UserError: there is no such file, it cannot be read, is incomplete or damaged, or does not hold one image of
            three dimensions; or with ``check_bytes``, its header does not state its size in a common way.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"there is no file or folder {path}: give an image ({', '.join(READABLE)}) or a DICOM folder.")
    _check_no_unpacked(path)
    if is_dicom_series(path):
        from nnunetv2_sam2_3dmed.images.dicom_series import read_series

        return read_series(path, check_bytes)
    if not path.name.lower().endswith(READABLE):
        raise UserError(f"{path} is no kind of image that can be read: give {', '.join(READABLE)} or a DICOM folder.")
    if check_bytes is not None:
        check_bytes(stated_bytes(path))
    check_content(path)
    check_itk_reads(path)
    notes = check_stated_geometry(path)
    try:
        with exactly(path) as exact:
            # ITK does not recognise a MetaImage whose ending has capitals
            image = sitk.ReadImage(str(exact), imageIO="MetaImageIO" if path.name.lower().endswith(METAIMAGE) else "")
    except RuntimeError as error:
        raise UserError(f"{path} cannot be read as an image: {_reason(error)}") from error
    volume = volume_from_sitk(image, path.name)
    if is_nifti(path):
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = volume.direction @ np.diag(volume.spacing[::-1]), volume.origin
        notes += nifti_choice(path, volume.shape[::-1], affine)
    return replace(volume, notes=notes)


def _check_no_unpacked(path: Path) -> None:
    """Refuse a folder X.nii with the file X.nii in it, to which some archives are unpacked.

    Raises:
        UserError: it is such a folder.
    """
    if path.is_dir() and path.name.lower().endswith(READABLE):
        inside = sorted(file for file in path.glob("[!.]*") if file.name.lower().endswith(READABLE))
        if inside:
            raise UserError(f"{path} is a folder, not a file: give the file that is in it, {inside[0].name}.")


def is_dicom_series(path: Path) -> bool:
    """True for a folder, and for a DICOM file of any name, which is read with its series."""
    name = path.name.lower()
    return (
        path.is_dir() or name.endswith(DICOM_ENDINGS) or (not name.endswith(READABLE) and dicom_headers.is_dicom(path))
    )


def stem(path: Path) -> str:
    """The name of an image or a result without its ending; names of DICOM folders may have dots."""
    for ending in sorted({*READABLE, *WRITABLE, *DICOM_ENDINGS}, key=len, reverse=True):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.name


def check_same_grid(other: Volume, volume: Volume) -> None:
    """Check that a segmentation lies on the grid of an image.

    Raises:
        UserError: its size or its place differ.
    """
    if other.shape != volume.shape:
        raise UserError(f"{other.name} has {by(other.shape)} voxels, but {volume.name} has {by(volume.shape)}.")
    # four that span the volume: three on the diagonal of the slices would stay where x and y are swapped
    last = np.array(volume.shape) - 1
    ends = np.stack([np.zeros(3, dtype=int), last, last * (1, 0, 0), last * (0, 1, 0)])
    apart = np.linalg.norm(other.to_physical(ends) - volume.to_physical(ends), axis=1).max()
    if apart > 0.5 * min(volume.spacing):
        raise UserError(
            f"{other.name} and {volume.name} have the same size but lie {apart:.2f} mm apart: resample one of them."
        )


def write_segmentation(path: Path, labels: np.ndarray, volume: Volume) -> None:
    """Write ``labels`` (z, y, x) on the grid of ``volume``: beside, read back, and renamed.

    Raises:
        UserError: the file's ending is not one that can be written, or the disk does not take the file.
    """
    write_volume(path, replace(volume, array=labels))


def write_volume(path: Path, volume: Volume) -> None:
    """Write an image: beside, read back, and renamed.

    Raises:
        UserError: the file's ending is not one that can be written, or the disk does not take the file.
    """
    ending = next((e for e in WRITABLE if path.name.endswith(e)), None)
    if ending is None:
        raise UserError(f"{path} cannot be written: its name must end in {', '.join(WRITABLE)}.")
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(volume.spacing[::-1])
    image.SetOrigin(volume.origin)
    image.SetDirection(volume.direction.reshape(-1).tolist())

    def check(beside: Path) -> None:
        # ITK does not notice an incompletely written NIfTI file
        if not np.array_equal(read_volume(beside).array, volume.array):
            raise UserError("other voxels were read back than were written.")

    with written_beside(path, ending, check, failures=(RuntimeError,)) as beside:
        sitk.WriteImage(image, str(beside), useCompression=ending != ".nii")


def _reason(error: Exception) -> str:
    """The last line of ITK's message that states a cause.

    ITK's "Reason:" is the system's last error, often an older one; "Refusing" and the rows of a matrix are no cause.
    """
    lines = [re.sub(r"\w+\(0x[0-9a-f]+\): ", "", line).strip() for line in str(error).splitlines()]
    causes = [line for line in lines if re.search("[A-Za-z]{3}", line) and not line.startswith(("Reason:", "Refusing"))]
    return (causes[-1] if causes else type(error).__name__).rstrip(".") + "."
