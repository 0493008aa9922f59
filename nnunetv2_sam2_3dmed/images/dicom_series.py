"""Volumes from DICOM series with one file per slice or multi-frame files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pydicom.dataset import Dataset

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.dicom_grid import grid_of
from nnunetv2_sam2_3dmed.images.dicom_headers import number, series_headers, tag_name, text
from nnunetv2_sam2_3dmed.images.dicom_pixels import check_grey, voxels
from nnunetv2_sam2_3dmed.images.dicom_slices import DicomSlice, check_one_image, slices_of
from nnunetv2_sam2_3dmed.images.volume import Volume, volume_from_array

# equal in all files of a series
_SAME = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality")


def read_series(path: Path, check_bytes: Callable[[int], None] | None = None) -> Volume:
    """Read the DICOM series in a folder, or the one that a file belongs to.

    The grid is computed from position, orientation and pixel spacing of each slice or frame, for any storage class.

    Args:
        path: of the folder or the file.
        check_bytes: called with the memory of the voxels that the headers state, before they are decoded.

    Raises:
        UserError: there is none, or there are several in the folder; the headers do not say where the slices lie;
            slices are missing, doubled or unlike; the image is in colour, or cannot be decoded.
    """
    title = str(path)
    found = series_headers(path)
    if check_bytes is not None:
        check_bytes(sum(_stated_bytes(file, header) for file, header in found))
    _check_one_source(title, found)
    kinds = {check_grey(file, header): file for file, header in found}
    if len(kinds) > 1:
        names = " and ".join(file.name for file in kinds.values())
        raise UserError(f"{title} mixes {' and '.join(kinds)} ({names}): give a series of one.")
    slices = [one for file, header in found for one in slices_of(file, header)]
    check_one_image(title, slices)
    uids = {file: text(header, "SOPInstanceUID") for file, header in found}
    _check_no_copies(title, slices, uids)
    grid = grid_of(title, [one.place for one in slices])
    slices = [slices[i] for i in grid.order]
    volume = volume_from_array(
        voxels(slices),
        grid.spacing,
        grid.origin,
        grid.direction,
        text(found[0][1], "Modality") or None,
        path.name or path.resolve().name,
    )
    return replace(
        volume,
        dicom_files=tuple(one.file for one in slices),
        dicom_frames=tuple(one.frame for one in slices),
        dicom_uids=tuple(uids[one.file] for one in slices),
        inverted="MONOCHROME1" in kinds,
        notes=tuple(dict.fromkeys(note for one in slices for note in one.notes)),
    )


def _stated_bytes(file: Path, header: Dataset) -> int:
    """The memory that the frames of a file take when they are decoded, in two bytes a voxel at least."""
    rows, columns, bits = (number(header, key, str(file)) or 0 for key in ("Rows", "Columns", "BitsAllocated"))
    frames = number(header, "NumberOfFrames", str(file)) or 1
    return int(frames * rows * columns * max(2, bits / 8))


def _check_one_source(title: str, found: Sequence[tuple[Path, Dataset]]) -> None:
    """Refuse files of several patients or frames of reference under one series (anonymisation can cause this).

    Raises:
        UserError: there are several, or a part of a split file is missing.
    """
    for keyword in _SAME:
        values: dict[str, Path] = {}
        for file, header in found:
            values.setdefault(text(header, keyword), file)
        values.pop("", None)
        if len(values) > 1:
            some = ", ".join(f"{file.name} {value}" for value, file in list(values.items())[:2])
            raise UserError(
                f"{title} has files of one series with several values of {tag_name(keyword)} ({some}): separate them "
                "first."
            )
    parts: dict[str, set[int]] = {}
    stated: dict[str, int] = {}
    for file, header in found:
        uid = text(header, "ConcatenationUID")
        if uid:
            parts.setdefault(uid, set()).add(int(number(header, "InConcatenationNumber", str(file)) or 0))
            stated[uid] = max(stated.get(uid, 0), int(number(header, "InConcatenationTotalNumber", str(file)) or 0))
    for uid, there in parts.items():
        if len(there) < max(stated[uid], *there):
            raise UserError(
                f"{title} has {len(there)} of {max(stated[uid], *there)} files into which an image was split: fetch it "
                "again."
            )


def _check_no_copies(title: str, slices: Sequence[DicomSlice], uids: dict[Path, str]) -> None:
    """Refuse copies of one image with a message of their own; several phases lie at the same place too."""
    first: dict[tuple[str, int, bytes], DicomSlice] = {}
    for one in slices:
        same = first.setdefault((uids[one.file], one.frame, one.place.position.tobytes()), one)
        if same is not one:
            raise UserError(f"{title} has one image twice ({same.file.name} and {one.file.name}): remove one of them.")
