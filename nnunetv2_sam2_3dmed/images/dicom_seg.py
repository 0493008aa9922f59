"""Segmentations as DICOM SEG objects that refer to their source series."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import written_beside
from nnunetv2_sam2_3dmed.images.dicom_headers import (
    SEGMENTATION,
    is_dicom,
    read_dataset,
    series_headers,
    storage_class,
    text,
)
from nnunetv2_sam2_3dmed.images.dicom_references import check_referable, described, instances_of, source_images
from nnunetv2_sam2_3dmed.images.quiet import without_warnings
from nnunetv2_sam2_3dmed.images.volumes import Volume, is_dicom_series, write_segmentation

PACKAGE = "nnunetv2-sam2-3dmed"


def check_dicom_seg(image: Path | Volume) -> list[str]:
    """Check before long work that a DICOM SEG can be written for an image.

    Args:
        image: a volume, or the path of a DICOM series, of which only headers are read.

    Returns:
        Warnings on attributes that are missing or invalid and were replaced.

    Raises:
        UserError: ``highdicom`` is not installed, the image is no DICOM series, or has no identifiers to refer to.
    """
    check_highdicom()
    if isinstance(image, Volume):
        _check_source(image)
        first, instances = read_dataset(image.dicom_files[0]), instances_of(image)
    else:
        if not is_dicom_series(image):
            raise _no_series(image.name)
        headers = series_headers(image)
        first, instances = headers[0][1], [(file.name, text(header, "SOPInstanceUID")) for file, header in headers]
    check_referable(image.name, first, instances)
    return described(first)[1]


def check_replaceable(path: Path) -> None:
    """Refuse to replace a DICOM file that is no segmentation, such as a slice of the image.

    Raises:
        UserError: it is.
    """
    if path.is_file() and is_dicom(path):
        header = read_dataset(path)
        if not storage_class(header).startswith(SEGMENTATION):
            raise UserError(f"{path} is a DICOM file that the segmentation would replace: give another name.")


def write_dicom_seg(path: Path, labels: np.ndarray, volume: Volume, names: Mapping[int, str] | None = None) -> None:
    """Write ``labels`` as a binary DICOM SEG with one segment per object, beside and renamed.

    Args:
        path: of the file.
        labels: (z, y, x), object numbers and 0.
        volume: the DICOM series or multi-frame file that ``labels`` belong to.
        names: of objects by number, for the labels of their segments.

    Raises:
        UserError: see :func:`check_dicom_seg`; or no voxel belongs to an object, or ``path`` is another DICOM file.
    """
    hd = check_highdicom()
    _check_source(volume)
    check_replaceable(path)
    numbers = [int(number) for number in np.unique(labels) if number]
    if not numbers:
        raise UserError(f"no voxel of {volume.name} belongs to an object, and a DICOM SEG cannot be empty.")
    numbered = np.searchsorted(numbers, labels) + 1  # DICOM counts segments from 1 without gaps
    pixels = np.where(labels > 0, numbered, 0).astype(np.uint8 if len(numbers) < 256 else np.uint16)
    sources = source_images(volume)
    if len(sources.datasets) == 1:  # planes in the order of the frames of the file
        pixels = pixels[np.argsort(volume.dicom_frames)]
    with without_warnings:  # of names of one part
        segmentation = hd.seg.Segmentation(
            source_images=sources.datasets,
            pixel_array=pixels,
            **attributes(hd, numbers, sources.series_number + 1000, names),
        )
    sources.name_classes(segmentation)
    with written_beside(path, ".dcm") as beside:
        segmentation.save_as(os.fspath(beside))


def attributes(
    hd: ModuleType, numbers: Sequence[int], series_number: int, names: Mapping[int, str] | None = None
) -> dict[str, Any]:
    """Return the arguments of ``highdicom.seg.Segmentation`` that are alike for all sources.

    Args:
        hd: the module ``highdicom``.
        numbers: of the objects, which become labels.
        series_number: of the segmentation.
        names: see :func:`write_dicom_seg`.
    """
    return {
        "segmentation_type": hd.seg.SegmentationTypeValues.BINARY,
        "segment_descriptions": segment_descriptions(hd, numbers, names),
        "series_instance_uid": hd.UID(),
        "series_number": series_number,
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
        "manufacturer": PACKAGE,
        "manufacturer_model_name": "SAM 2",
        "software_versions": version(PACKAGE),
        "device_serial_number": "0",
        "series_description": "prompted segmentation",
        "content_label": "SEGMENTATION",
        "specific_character_set": "ISO_IR 192",  # UTF-8
    }


def segment_descriptions(hd: ModuleType, numbers: Sequence[int], names: Mapping[int, str] | None = None) -> list[Any]:
    """Describe objects as segments, which DICOM counts from 1 without gaps.

    Args:
        hd: the module ``highdicom``.
        numbers: of the objects, which become labels.
        names: see :func:`write_dicom_seg`.
    """
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(
        name="SAM 2", version=version(PACKAGE), family=codes.DCM.ArtificialIntelligence
    )
    # the objects' kind is unknown: an anatomical structure is the most general of the standard's categories
    structure = codes.SCT.AnatomicalStructure
    return [
        hd.seg.SegmentDescription(
            segment_number=k,
            segment_label=_segment_label((names or {}).get(number, "")) or f"object {number}",
            segmented_property_category=structure,
            segmented_property_type=structure,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
            algorithm_identification=algorithm,
        )
        for k, number in enumerate(numbers, start=1)
    ]


def _segment_label(name: str) -> str:
    """A name as DICOM's long strings allow it: no backslash and no control character, at most 64 characters."""
    return "".join(letter for letter in name if letter.isprintable() and letter != "\\").strip()[:64].strip()


def write_dicom_seg_or_nifti(path: Path, labels: np.ndarray, volume: Volume) -> None:
    """Write a DICOM SEG, or if that fails for any reason a NIfTI beside it: ``labels`` may have taken long.

    Args:
        path: of the DICOM SEG.
        labels: see :func:`write_dicom_seg`.
        volume: see :func:`write_dicom_seg`.

    Raises:
        UserError: no DICOM SEG could be written; the message names the file that has the mask.
    """
    try:
        write_dicom_seg(path, labels, volume)
    except Exception as error:  # highdicom and pydicom raise anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        instead = _free_name(path)
        try:
            write_segmentation(instead, labels, volume)
        except (UserError, OSError) as other:
            raise UserError(f"neither {path} ({lines[0]}) nor {instead} ({other}) could be written.") from error
        raise UserError(f"{path} could not be written ({lines[0].rstrip('.')}): the mask is in {instead}.") from error


def _free_name(path: Path) -> Path:
    """The first unused name of a NIfTI beside ``path``."""
    names = (f"{path.stem}{'' if k == 1 else f'_{k}'}.nii.gz" for k in itertools.count(1))
    return next(path.with_name(name) for name in names if not path.with_name(name).exists())


def check_highdicom() -> ModuleType:
    """The module ``highdicom``.

    Raises:
        UserError: it is not installed.
    """
    try:
        import highdicom
    except ImportError as error:
        raise UserError(f"DICOM SEG needs highdicom: install it with `pip install '{PACKAGE}[dicom]'`.") from error
    return highdicom


def _check_source(volume: Volume) -> None:
    if not volume.dicom_files:
        raise _no_series(volume.name)
    files = set(volume.dicom_files)
    if 1 < len(files) < len(volume.dicom_files):
        raise UserError(
            f"{volume.name} is spread over {len(files)} multi-frame files, to which a DICOM SEG cannot refer at once: "
            "write .nii.gz instead."
        )


def _no_series(name: str) -> UserError:
    return UserError(f"{name} is no DICOM series, to which a DICOM SEG could refer: write .nii.gz instead.")
