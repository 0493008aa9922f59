"""Masks of a DICOM video as DICOM SEG, whose frames refer to those of the source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import pack_bits
from pydicom.uid import UID, UltrasoundImageStorage

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import written_beside
from nnunetv2_sam2_3dmed.images.dicom_headers import read_dataset, storage_class, text
from nnunetv2_sam2_3dmed.images.dicom_references import check_referable, described
from nnunetv2_sam2_3dmed.images.dicom_seg import attributes, check_highdicom, check_replaceable, segment_descriptions
from nnunetv2_sam2_3dmed.images.quiet import without_warnings
from nnunetv2_sam2_3dmed.video.video import Video

# by what frames differ: Referenced Segment Number and Temporal Position Index, and the sequences that these are in
_DIMENSIONS = ((0x0062000B, 0x0062000A), (0x00209128, 0x00209111))


def check_dicom_seg(path: Path) -> list[str]:
    """Check before long work that a DICOM SEG can be written for a DICOM video.

    Args:
        path: of the video.

    Returns:
        Warnings on attributes that are missing or invalid and were replaced.

    Raises:
        UserError: ``highdicom`` is not installed, or the file has no identifiers to refer to.
    """
    check_highdicom()
    header = read_dataset(path)
    check_referable(path.name, header, [(path.name, text(header, "SOPInstanceUID"))])
    return [line for line in described(header)[1] if "frame of reference" not in line]  # which a video has none of


def write_dicom_seg(
    path: Path, video: Video, labels: Iterable[np.ndarray], names: Mapping[int, str] | None = None
) -> None:
    """Write masks as a binary DICOM SEG with one segment per object, beside and renamed.

    Frames of a video have no place in the patient, so that the object has no frame of reference, and each of its frames
    refers to the source's frame by number. Frames without an object are left out. highdicom writes such objects for one
    frame: the others are added to what it makes of the first.

    Args:
        path: of the file.
        video: a DICOM file.
        labels: (rows, columns) for each frame in order, object numbers and 0.
        names: of objects by number, for the labels of their segments.

    Raises:
        UserError: see :func:`check_dicom_seg`; or no pixel belongs to an object, or ``path`` is another DICOM file.
    """
    hd = check_highdicom()
    check_dicom_seg(video.path)
    check_replaceable(path)
    masks = [
        (int(number), index, np.packbits(mask == number, axis=None))
        for index, mask in enumerate(labels)
        for number in np.unique(mask)
        if number
    ]
    if not masks:
        raise UserError(f"no pixel of {video.name} belongs to an object, and a DICOM SEG cannot be empty.")
    masks.sort(key=lambda one: one[:2])
    numbers = sorted({number for number, _, _ in masks})
    source = _source(video)
    pixels = np.unpackbits(masks[0][2], count=video.shape[1] * video.shape[2]).reshape(1, *video.shape[1:])
    with without_warnings:  # of names of one part
        made = hd.seg.Segmentation(
            source_images=[source],
            pixel_array=pixels,
            **attributes(hd, [numbers[0]], 1000),
        )
    made.SegmentSequence = segment_descriptions(hd, numbers, names)
    _add_frames(made, masks, numbers, video.shape[1] * video.shape[2], storage_class(read_dataset(video.path)))
    with written_beside(path, ".dcm") as beside:
        made.save_as(os.fspath(beside))


def _source(video: Video) -> Dataset:
    """A stand-in for one frame of the source, with just the attributes that a derived object copies."""
    header = read_dataset(video.path)
    common, _ = described(header)
    if "FrameOfReferenceUID" in common:
        del common.FrameOfReferenceUID
    common.SOPClassUID, common.SOPInstanceUID = UltrasoundImageStorage, UID(text(header, "SOPInstanceUID"))
    common.SeriesInstanceUID, common.Modality = text(header, "SeriesInstanceUID"), text(header, "Modality") or "US"
    common.Rows, common.Columns = video.shape[1:]
    return common


def _add_frames(
    made: Dataset, masks: list[tuple[int, int, np.ndarray]], numbers: list[int], pixels: int, storage: str
) -> None:
    """Replace the frame of an object by all frames, and state by which they differ: segment and time."""
    (template,) = made.PerFrameFunctionalGroupsSequence
    reference = template.DerivationImageSequence[0].SourceImageSequence[0]
    uid = reference.ReferencedSOPInstanceUID
    organization = made.DimensionOrganizationSequence[0].DimensionOrganizationUID
    made.DimensionIndexSequence = [_dimension(organization, *pair) for pair in _DIMENSIONS]
    purpose = reference.PurposeOfReferenceCodeSequence
    derivation = template.DerivationImageSequence[0].DerivationCodeSequence
    frames = []
    for number, index, _ in masks:
        image, derived, content, segment, frame = (Dataset() for _ in range(5))
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = storage, uid
        image.SpatialLocationsPreserved = "YES"
        image.ReferencedFrameNumber, image.PurposeOfReferenceCodeSequence = index + 1, purpose
        derived.SourceImageSequence, derived.DerivationCodeSequence = [image], derivation
        content.TemporalPositionIndex = index + 1
        content.DimensionIndexValues = [numbers.index(number) + 1, index + 1]
        segment.ReferencedSegmentNumber = numbers.index(number) + 1
        frame.DerivationImageSequence, frame.FrameContentSequence = [derived], [content]
        frame.SegmentIdentificationSequence = [segment]
        frames.append(frame)
    made.PerFrameFunctionalGroupsSequence, made.NumberOfFrames = frames, len(frames)
    for shared in made.SharedFunctionalGroupsSequence:  # highdicom puts there what one frame has
        for element in frames[0]:
            if element.tag in shared:
                del shared[element.tag]
    for item in made.get("ReferencedSeriesSequence", []):
        for one in item.ReferencedInstanceSequence:
            one.ReferencedSOPClassUID = storage
    bits = np.concatenate([np.unpackbits(mask, count=pixels) for _, _, mask in masks])
    made.PixelData = pack_bits(bits)


def _dimension(organization: str, pointer: int, group: int) -> Dataset:
    dimension = Dataset()
    dimension.DimensionOrganizationUID = organization
    dimension.DimensionIndexPointer, dimension.FunctionalGroupPointer = pointer, group
    return dimension
