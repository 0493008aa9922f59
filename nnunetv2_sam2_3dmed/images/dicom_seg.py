"""Segmentations as DICOM SEG objects that refer to the series they were made on."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import written_beside
from nnunetv2_sam2_3dmed.images.volumes import Volume

PACKAGE = "nnunetv2-sam2-3dmed"


def write_dicom_seg(path: Path, labels: np.ndarray, volume: Volume) -> None:
    """Writes ``labels`` as a binary DICOM SEG with a segment for each object, beside and renamed.

    Args:
        path: of the file.
        labels: (z, y, x), object numbers and 0.
        volume: the DICOM series that ``labels`` belong to.

    Raises:
        UserError: ``highdicom`` is not installed, the image is no DICOM series, or no voxel belongs to an object.
    """
    try:
        import highdicom as hd
        import pydicom
        from pydicom.sr.codedict import codes
    except ImportError as error:
        raise UserError(f"DICOM SEG needs highdicom: install it with `pip install '{PACKAGE}[dicom]'`.") from error
    if not volume.dicom_files:
        raise UserError(
            f"{volume.name} is no DICOM series of one file per slice, to which a DICOM SEG could refer: write "
            ".nii.gz instead."
        )
    numbers = [int(number) for number in np.unique(labels) if number]
    if not numbers:
        raise UserError(f"no voxel of {volume.name} belongs to an object, and a DICOM SEG cannot be empty.")
    algorithm = hd.AlgorithmIdentificationSequence(
        name="SAM 2", version=version(PACKAGE), family=codes.DCM.ArtificialIntelligence
    )
    # what the objects are nobody said: an anatomical structure is the most general of the standard's categories
    structure = codes.SCT.AnatomicalStructure
    segments = [
        hd.seg.SegmentDescription(
            segment_number=k,
            segment_label=f"object {number}",
            segmented_property_category=structure,
            segmented_property_type=structure,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
            algorithm_identification=algorithm,
        )
        for k, number in enumerate(numbers, start=1)
    ]
    source = [pydicom.dcmread(file) for file in volume.dicom_files]
    numbered = np.searchsorted(numbers, labels) + 1  # DICOM counts segments from 1 without gaps
    segmentation = hd.seg.Segmentation(
        source_images=source,
        pixel_array=np.where(labels > 0, numbered, 0).astype(np.uint8 if len(numbers) < 256 else np.uint16),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=int(source[0].get("SeriesNumber") or 0) + 1000,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=PACKAGE,
        manufacturer_model_name="SAM 2",
        software_versions=version(PACKAGE),
        device_serial_number="0",
        series_description="prompted segmentation",
    )
    with written_beside(path, ".dcm") as beside:
        segmentation.save_as(os.fspath(beside))
