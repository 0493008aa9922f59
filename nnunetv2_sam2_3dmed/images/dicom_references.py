"""Attributes that a derived DICOM object copies from its source images, corrected where invalid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, generate_uid
from pydicom.valuerep import validate_value

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.dicom_headers import lacking, read_dataset, storage_class, tag_name, text
from nnunetv2_sam2_3dmed.images.volume import Volume

# of patient and study; the standard allows all of these to be empty (type 2)
_MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PositionReferenceIndicator",
)
# the standard allows these to be missing (type 3 and 1C)
_MAY_BE_MISSING = (
    "StudyDescription",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "IssuerOfPatientID",
    "PatientAge",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
# mandatory, and can be generated without misleading anybody
_MADE_ANEW = {"StudyInstanceUID": "a study", "FrameOfReferenceUID": "a frame of reference"}
_SEXES = ("", "M", "F", "O")
_LONGEST = {"SH": 16, "LO": 64, "PN": 64}


class SourceImages(NamedTuple):
    """The images that a derived object refers to.

    Attributes:
        datasets: one per slice, or one of all frames in the order of the file, with the attributes that are copied.
        storage: the SOP class of the images themselves.
        series_number: that of their series; 0 if it has none.
    """

    datasets: list[Dataset]
    storage: UID
    series_number: int

    def name_classes(self, derived: Dataset) -> None:
        """Set the SOP class of references in ``derived`` to that of the images, which may be a private one."""
        for element in derived.iterall():
            if element.keyword == "ReferencedSOPClassUID":
                element.value = self.storage


def check_referable(name: str, header: Dataset, instances: Sequence[tuple[str, str]]) -> None:
    """Refuse images without the identifiers that references need.

    Args:
        name: of the image.
        header: of one of its files.
        instances: name and SOP Instance UID of each file.

    Raises:
        UserError: a file lacks its identifier, or that of the series.
    """
    first = instances[0][0]
    for file, keyword, uid in (
        (first, "SeriesInstanceUID", text(header, "SeriesInstanceUID")),
        *((file, "SOPInstanceUID", uid) for file, uid in instances),
    ):
        if not uid or not UID(uid).is_valid:
            raise UserError(
                f"{file} of {name} has no valid {tag_name(keyword)}, so that a DICOM SEG could not refer to it: write "
                ".nii.gz instead."
            )
    named: dict[str, str] = {}
    for file, uid in instances:
        if named.setdefault(uid, file) != file:
            raise UserError(
                f"{named[uid]} and {file} of {name} have the same {tag_name('SOPInstanceUID')}, so that a DICOM SEG "
                "could not refer to them: write .nii.gz instead."
            )


def instances_of(volume: Volume) -> list[tuple[str, str]]:
    """Name and SOP Instance UID of each file of a volume."""
    return list(dict.fromkeys((file.name, uid) for file, uid in zip(volume.dicom_files, volume.dicom_uids)))


def described(header: Dataset) -> tuple[Dataset, list[str]]:
    """Patient, study and frame of reference for a derived object.

    Returns:
        The attributes, all valid, and a sentence for each that was changed.
    """
    found, changed = Dataset(), []
    for keyword in (*_MAY_BE_EMPTY, *_MAY_BE_MISSING):
        value, problem = _valid(header, keyword)
        if problem:
            changed.append(problem)
        if value or keyword in _MAY_BE_EMPTY:
            setattr(found, keyword, value)
    for keyword, what in _MADE_ANEW.items():
        uid = UID(text(header, keyword))
        if not uid or not uid.is_valid:
            # of the series alone, so that all objects made from it agree
            uid = generate_uid(entropy_srcs=[keyword, text(header, "SeriesInstanceUID")])
            changed.append(
                f"the series {lacking(header, keyword) if not text(header, keyword) else 'has an invalid one'}: the "
                f"DICOM SEG gets {what} of its own ({uid}), and viewers may not show both together."
            )
        setattr(found, keyword, uid)
    return found, changed


def source_images(volume: Volume) -> SourceImages:
    """Stand-ins for the images that ``volume`` was read from, on the volume's own grid.

    They are CT images with just the attributes that derived objects copy, so that missing attributes, private classes
    and multi-frame files without functional groups cause no errors in highdicom.

    Raises:
        UserError: see :func:`check_referable`.
    """
    first = read_dataset(volume.dicom_files[0])
    check_referable(volume.name, first, instances_of(volume))
    common, _ = described(first)
    common.SeriesInstanceUID, common.Modality = text(first, "SeriesInstanceUID"), "CT"
    common.Rows, common.Columns = volume.shape[1:]
    orientation = [_decimal(value) for value in volume.direction[:, :2].T.reshape(-1)]
    measures = Dataset()
    measures.PixelSpacing = [_decimal(value) for value in volume.spacing[1:]]
    measures.SliceThickness = _decimal(_thickness(first) or volume.spacing[0])
    corners = np.zeros((volume.shape[0], 3))
    corners[:, 0] = np.arange(volume.shape[0])
    positions = [[_decimal(value) for value in position] for position in volume.to_physical(corners)]
    if len(set(volume.dicom_files)) == len(positions):
        datasets = []
        for uid, position in zip(volume.dicom_uids, positions):
            one = _copy(common)
            one.update(measures)
            one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, uid
            one.ImagePositionPatient, one.ImageOrientationPatient = position, orientation
            datasets.append(one)
    else:
        datasets = [
            _multi_frame(common, measures, orientation, [positions[z] for z in np.argsort(volume.dicom_frames)])
        ]
        datasets[0].SOPInstanceUID = volume.dicom_uids[0]
    return SourceImages(datasets, UID(storage_class(first)), _series_number(first))


def _multi_frame(common: Dataset, measures: Dataset, orientation: Sequence[Any], positions: Sequence[Any]) -> Dataset:
    """A stand-in for a multi-frame file; ``positions`` in the order of its frames."""
    plane = Dataset()
    plane.ImageOrientationPatient = list(orientation)
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    frames = []
    for position in positions:
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = position
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    dataset = _copy(common)
    dataset.SOPClassUID, dataset.NumberOfFrames = EnhancedCTImageStorage, len(frames)
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], frames
    return dataset


def _valid(header: Dataset, keyword: str) -> tuple[str | list[str], str | None]:
    """The values as the standard allows them, and a sentence if they were changed."""
    vr = dictionary_VR(keyword)
    values = _text_in_any_character_set(header, keyword).split("\\")
    if len(values) > 1 and dictionary_VM(keyword) == "1":
        values = [" ".join(values)]
    try:
        if keyword == "PatientSex" and values[0] not in _SEXES:
            raise ValueError
        for value in values:
            validate_value(vr, value, pydicom.config.RAISE)
    except ValueError:
        longest = _LONGEST.get(vr, 0)
        shortened = [value[:longest].strip() for value in values]
        shown = " ".join(values)[:64]
        if not any(shortened):
            return "", f"{tag_name(keyword)} is {shown!r} in the series, which the standard forbids: it is left out."
        return shortened, (
            f"{tag_name(keyword)} of the series has more than the {longest} characters that the standard allows: "
            f"{shown!r} is shortened."
        )
    return (values if len(values) > 1 else values[0]), None


def _text_in_any_character_set(header: Dataset, keyword: str) -> str:
    """A text attribute; without a stated character set, UTF-8 if it is valid, else Latin 1."""
    value = text(header, keyword)
    if "SpecificCharacterSet" not in header and not value.isascii():
        try:
            return value.encode("latin-1").decode("utf-8")
        except UnicodeError:
            return value
    return value


def _thickness(header: Dataset) -> float | None:
    try:
        value = float(text(header, "SliceThickness"))
    except ValueError:
        return None
    return value if np.isfinite(value) and value > 0 else None


def _series_number(header: Dataset) -> int:
    try:
        number = int(text(header, "SeriesNumber"))
    except ValueError:
        return 0
    return number if 0 <= number < 2**31 - 1000 else 0


def _copy(common: Dataset) -> Dataset:
    dataset = Dataset()
    dataset.update(common)
    return dataset


def _decimal(value: float) -> pydicom.valuerep.DSfloat:
    return pydicom.valuerep.DSfloat(float(value), auto_format=True)
