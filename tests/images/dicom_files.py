"""DICOM series and multi-frame files for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_series(
    folder: Path,
    volume: np.ndarray,
    spacing: tuple[float, float, float] = (3.0, 0.8, 0.7),
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    origin: tuple[float, float, float] = (-10.0, -20.0, 30.0),
    skip: tuple[int, ...] = (),
    places: list[float] | None = None,
    change: Callable[[Dataset, int], None] = lambda data, z: None,
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
        change: alters the dataset of slice z before it is written.

    Returns:
        The UID of the series.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    normal = np.cross(orientation[:3], orientation[3:])
    for z, plane in enumerate(volume):
        if z in skip:
            continue
        name = folder / f"IM{(z * 7) % 100:04d}.dcm"
        data = image_dataset(name, CTImageStorage, plane)
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        data.InstanceNumber = len(volume) - z
        place = spacing[0] * z if places is None else places[z]
        data.ImagePositionPatient = [float(value) for value in np.array(origin) + place * normal]
        data.ImageOrientationPatient = [float(value) for value in orientation]
        data.PixelSpacing, data.SliceThickness = [spacing[1], spacing[2]], spacing[0]
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, -1024, "HU"
        change(data, z)
        data.save_as(name, enforce_file_format=True)
    return series


def write_multi_frame(
    path: Path,
    volume: np.ndarray,
    spacing: tuple[float, float, float] = (3.0, 0.8, 0.7),
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    origin: tuple[float, float, float] = (-10.0, -20.0, 30.0),
    order: Sequence[int] | None = None,
    places: Sequence[float] | None = None,
    change: Callable[[Dataset], None] = lambda data: None,
) -> None:
    """An enhanced CT of ``volume`` (z, y, x) in HU in one file, with the geometry in functional groups.

    Args:
        path: of the file; its folder is made.
        volume: int16, in HU.
        spacing: (z, y, x) in mm.
        orientation: DICOM's ImageOrientationPatient.
        origin: of slice 0.
        order: the slices of the frames, from the first frame on; default: all, in their order.
        places: of the slices along their normal, in mm from the origin; default: by ``spacing``.
        change: alters the dataset before it is written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = list(range(len(volume)) if order is None else order)
    data = image_dataset(path, EnhancedCTImageStorage, volume[frames])
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = [generate_uid() for _ in range(3)]
    data.InstanceNumber, data.NumberOfFrames = 1, len(frames)
    normal = np.cross(orientation[:3], orientation[3:])
    along = spacing[0] * np.arange(len(volume)) if places is None else np.array(places)
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=[float(value) for value in orientation])]
    shared.PixelMeasuresSequence = [_item(PixelSpacing=list(spacing[1:]), SliceThickness=spacing[0])]
    shared.PixelValueTransformationSequence = [_item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")]
    data.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for z in frames:
        position = [float(value) for value in np.array(origin) + along[z] * normal]
        groups.append(_item(PlanePositionSequence=[_item(ImagePositionPatient=position)]))
        groups[-1].FrameContentSequence = [_item(StackID="1", InStackPositionNumber=z + 1, TemporalPositionIndex=1)]
    data.PerFrameFunctionalGroupsSequence = groups
    change(data)
    data.save_as(path, enforce_file_format=True)


def join_series(data: Dataset, series: str) -> None:
    """Give a file the identifiers that all files of a series have in common."""
    data.SeriesInstanceUID = series
    data.StudyInstanceUID, data.FrameOfReferenceUID = f"{series[:60]}.1", f"{series[:60]}.2"


def image_dataset(name: Path, storage: str, pixels: np.ndarray) -> FileDataset:
    """An image without geometry, its series still to be named.

    Args:
        name: of the file.
        storage: SOP class.
        pixels: (rows, columns) or (frames, rows, columns), int16, stored with 1024 added.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = storage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(name), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = storage, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = "Phantom", "1", "", "O"
    data.StudyDate, data.StudyTime, data.StudyID = "20260101", "120000", "1"
    data.AccessionNumber, data.ReferringPhysicianName = "", ""
    data.PositionReferenceIndicator, data.Manufacturer = "", "tests"
    data.Modality, data.SeriesNumber = "CT", 2
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelData = (pixels.astype(np.int32) + 1024).astype(np.uint16).tobytes()
    return data


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item
