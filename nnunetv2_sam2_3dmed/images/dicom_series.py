"""DICOM series: found in a folder, checked for missing slices, and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import Volume, volume_from_sitk

_MODALITY = "0008|0060"
_SERIES = "0020|000e"
_POSITION = "0020|0032"
_ORIENTATION = "0020|0037"
# by which the distance between two slices may differ from that between the others
_TOLERANCE = 0.05


def read_series(path: Path) -> Volume:
    """Reads the DICOM series in a folder, or the one that a file belongs to.

    Raises:
        UserError: there is none, or there are several in the folder; or slices are missing, doubled or unlike.
    """
    files = _files_of(path)
    headers = [_header(file) for file in files]
    if len(files) > 1:
        files, headers = _sorted_and_complete(path, files, headers)
    try:
        image = sitk.ReadImage([str(file) for file in files]) if len(files) > 1 else sitk.ReadImage(str(files[0]))
    except RuntimeError as error:
        raise UserError(f"the DICOM series in {path} cannot be read: {str(error).splitlines()[-1].strip()}") from error
    modality = headers[0].get(_MODALITY, "").strip() or None
    volume = volume_from_sitk(image, path.name, modality)
    # a file of many frames is not one file per slice
    return replace(volume, dicom_files=tuple(files)) if len(files) == volume.shape[0] else volume


def _files_of(path: Path) -> list[Path]:
    """The files of the one series."""
    folder = path if path.is_dir() else path.parent
    series = list(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))
    wanted = series
    if path.is_file():
        named = _header(path).get(_SERIES, "").strip()
        # GDCM adds to a series' name where it tells parts of it apart
        wanted = [name for name in series if name.startswith(named)] if named else []
    if not wanted:
        raise UserError(f"there is no DICOM series in {path}: give the folder of one, or one of its files.")
    if len(wanted) > 1:
        first = [sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name)[0] for name in wanted]
        raise UserError(
            f"{path} holds {len(wanted)} DICOM series: give one file of the series you mean, such as "
            f"{', '.join(Path(file).name for file in first[:4])}."
        )
    return [Path(file) for file in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), wanted[0])]


def _header(file: Path) -> dict[str, str]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise UserError(f"{file} cannot be read as a DICOM file: copy it again.") from error
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def _numbers(header: dict[str, str], tag: str) -> np.ndarray:
    return np.array([float(value) for value in header[tag].split("\\")])


def _sorted_and_complete(
    path: Path, files: Sequence[Path], headers: Sequence[dict[str, str]]
) -> tuple[list[Path], list[dict[str, str]]]:
    """The files in the order of their places along the normal of the slices.

    ITK reads a series with a missing slice as if the others were closer: everything behind it would be misplaced.
    """
    lacking = [file.name for file, header in zip(files, headers) if not {_POSITION, _ORIENTATION} <= set(header)]
    if lacking:
        raise UserError(f"{path} has slices without a position, such as {lacking[0]}: it is no series of slices.")
    orientations = np.array([_numbers(header, _ORIENTATION) for header in headers])
    if np.abs(orientations - orientations[0]).max() > 1e-3:
        raise UserError(f"{path} has slices of several orientations, such as a localiser has: give a series of one.")
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    positions = np.array([_numbers(header, _POSITION) for header in headers])
    order = np.argsort(positions @ normal)
    positions = positions[order]
    places = positions @ normal
    names = [files[i].name for i in order]
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    if gaps.min() < 1e-3:
        i = int(gaps.argmin())
        raise UserError(
            f"{path} has two slices at the same place ({names[i]} and {names[i + 1]}, {places[i]:.2f} mm): it holds "
            "several phases or time points, separate them first."
        )
    wide = np.flatnonzero(np.abs(gaps - usual) > _TOLERANCE * usual)
    if len(wide):
        i = int(wide[0])
        raise UserError(
            f"{path} lacks a slice: between {names[i]} ({places[i]:.2f} mm) and {names[i + 1]} "
            f"({places[i + 1]:.2f} mm) lie {gaps[i]:.2f} mm, between the others {usual:.2f} mm; fetch the series again."
        )
    sideways = positions - positions[0] - np.outer(places - places[0], normal)
    if np.linalg.norm(sideways, axis=1).max() > _TOLERANCE * max(usual, 1.0):
        raise UserError(f"{path} was taken with a tilted gantry: its slices do not make a grid, resample it first.")
    return [files[i] for i in order], [headers[i] for i in order]
