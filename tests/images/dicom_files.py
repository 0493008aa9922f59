"""DICOM series for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_series(
    folder: Path,
    volume: np.ndarray,
    spacing: tuple[float, float, float] = (3.0, 0.8, 0.7),
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    origin: tuple[float, float, float] = (-10.0, -20.0, 30.0),
    skip: tuple[int, ...] = (),
    places: list[float] | None = None,
) -> str:
    """A CT series of ``volume`` (z, y, x) in HU; file names do not follow the order of the slices.

    Args:
        folder: where to write; made if it is not there.
        volume: int16, in HU.
        spacing: (z, y, x) in mm.
        orientation: DICOM's ImageOrientationPatient.
        origin: of the first slice.
        skip: slices that are left out.
        places: of the slices along their normal, in mm from the origin; default: by ``spacing``.

    Returns:
        The UID of the series.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    normal = np.cross(orientation[:3], orientation[3:])
    for z, plane in enumerate(volume):
        if z in skip:
            continue
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        name = folder / f"IM{(z * 7) % 100:04d}.dcm"
        data = FileDataset(str(name), {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = "Phantom", "1", "", "O"
        data.StudyDate, data.StudyTime, data.StudyID = "20260101", "120000", "1"
        data.AccessionNumber, data.ReferringPhysicianName = "", ""
        data.PositionReferenceIndicator, data.Manufacturer = "", "tests"
        data.Modality, data.SeriesNumber, data.InstanceNumber = "CT", 2, len(volume) - z
        place = spacing[0] * z if places is None else places[z]
        data.ImagePositionPatient = [float(value) for value in np.array(origin) + place * normal]
        data.ImageOrientationPatient = [float(value) for value in orientation]
        data.PixelSpacing, data.SliceThickness = [spacing[1], spacing[2]], spacing[0]
        data.Rows, data.Columns = plane.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, -1024, "HU"
        data.PixelData = (plane.astype(np.int32) + 1024).astype(np.uint16).tobytes()
        data.save_as(name, enforce_file_format=True)
    return series


def read_seg(path: Path) -> pydicom.Dataset:
    return pydicom.dcmread(path)
