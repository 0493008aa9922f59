"""Slices of DICOM files with their geometry: one per file, or the frames of a multi-frame file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.dicom_grid import SlicePlace
from nnunetv2_sam2_3dmed.images.dicom_headers import (
    items,
    lacking,
    number,
    numbers,
    storage_class,
    tag_name,
    text,
)

_RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
_NUCLEAR_MEDICINE = "1.2.840.10008.5.1.4.1.1.20"
_CONVERT = "convert it to NIfTI with the true spacing"
# attributes with one value per image; a file or series with several values holds several images
_APART = {
    "stacks": ("StackID",),
    "time points": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    "echoes": ("EffectiveEchoTime", "EchoNumbers"),
    "b-values": ("DiffusionBValue",),
    "complex components": ("ComplexImageComponent",),
}
# the third value of an MR's Image Type: magnitude, phase, real and imaginary part
_COMPONENTS = ("M", "P", "R", "I")
# functional groups that are read
_MACROS = (
    "PlanePosition",
    "PlaneOrientation",
    "PlanePositionVolume",  # of ultrasound
    "PlaneOrientationVolume",
    "PixelMeasures",
    "PixelValueTransformation",
    "FrameContent",
    "MREcho",
    "MRDiffusion",
    "MRImageFrameType",
)
# vectors of a nuclear medicine file by which its frames differ, apart from slices
_NM_VECTORS = ("EnergyWindowVector", "DetectorVector", "RRIntervalVector", "TimeSlotVector", "PhaseVector")


@dataclass(frozen=True)
class DicomSlice:
    """A slice: its file, its geometry, and its rescaling to values of the modality.

    Attributes:
        file: that holds it.
        frame: its index in the file, from 0.
        place: its geometry.
        slope: modality values are ``stored * slope + intercept``.
        intercept: see ``slope``.
        scaled: the header gives slope and intercept, or a scale for doses, or a lookup table.
        lut: the header or functional group with a modality lookup table, instead of slope and intercept; or None.
        notes: assumptions on its geometry.
        apart: values by which phases, echoes and stacks differ, by their kind.
    """

    file: Path
    frame: int
    place: SlicePlace
    slope: float = 1.0
    intercept: float = 0.0
    scaled: bool = False
    lut: Dataset | None = None
    notes: tuple[str, ...] = ()
    apart: dict[str, str] = field(default_factory=dict)


def slices_of(file: Path, header: Dataset) -> list[DicomSlice]:
    """The slices in a file.

    Raises:
        UserError: the header does not say where they lie, or is malformed.
    """
    count = int(number(header, "NumberOfFrames", str(file)) or 1)
    if "MOSAIC" in text(header, "ImageType"):
        raise UserError(
            f"{file} holds the slices of a volume as tiles of one picture (mosaic): convert the series with dcm2niix."
        )
    frames = items(header, "PerFrameFunctionalGroupsSequence")
    if frames or items(header, "SharedFunctionalGroupsSequence"):
        return _from_functional_groups(file, header, frames, count)
    if count == 1:
        detector = items(header, "DetectorInformationSequence")[:1]
        return [_slice(file, 0, 1, [header, *detector], None)]
    return _from_first_frame(file, header, count)


def check_one_image(title: str, slices: Sequence[DicomSlice]) -> None:
    """Refuse slices of several phases, echoes or stacks, and mixtures of rescaled and raw values.

    Raises:
        UserError: the slices are of several images.
    """
    for one in slices:
        if one.scaled != slices[0].scaled:
            with_scale, without = (slices[0], one) if slices[0].scaled else (one, slices[0])
            raise UserError(
                f"{title} has slices with a rescaling of their values ({with_scale.place.name}) and without "
                f"({without.place.name}): fetch it again."
            )
    for kind in _APART:
        values = sorted({one.apart[kind] for one in slices if kind in one.apart})
        if len(values) > 1:
            raise UserError(
                f"{title} holds {len(values)} {kind} ({', '.join(values[:4])}{', ...' if len(values) > 4 else ''}): "
                "separate them first."
            )


def _from_functional_groups(file: Path, header: Dataset, frames: Sequence[Dataset], count: int) -> list[DicomSlice]:
    """Frames of an enhanced object; common attributes are in the shared groups or the header (PS3.3, C.7.6.16)."""
    if len(frames) != count:
        raise UserError(
            f"{file} has {count} frames, but {len(frames)} items in {tag_name('PerFrameFunctionalGroupsSequence')}: "
            "fetch it again."
        )
    shared = items(header, "SharedFunctionalGroupsSequence")[:1]
    found = []
    for index, frame in enumerate(frames):
        sources = []
        for macro in _MACROS:
            of_frame = items(frame, f"{macro}Sequence") or [
                item for group in shared for item in items(group, f"{macro}Sequence")
            ]
            sources += of_frame[:1]
        found.append(_slice(file, index, count, [*sources, header], None))
    return found


def _from_first_frame(file: Path, header: Dataset, count: int) -> list[DicomSlice]:
    """Frames of a file with the position of the first one and the distances of the others from it.

    Raises:
        UserError: the class of the file has no such attributes.
    """
    detector = items(header, "DetectorInformationSequence")[:1]
    sources = [header, *detector]
    kind = storage_class(header)
    if kind == _RT_DOSE:
        offsets = _dose_offsets(file, header, count)
    elif kind == _NUCLEAR_MEDICINE:
        offsets = _nuclear_offsets(file, header, count)
    else:
        raise UserError(
            f"{file} holds {count} frames, and its header does not say where each lies (it "
            f"{lacking(header, 'PerFrameFunctionalGroupsSequence')}): {_CONVERT}."
        )
    return [_slice(file, index, count, sources, float(offset)) for index, offset in enumerate(offsets)]


def _dose_offsets(file: Path, header: Dataset, count: int) -> np.ndarray:
    """Distances of the planes of an RT Dose from the first one along the normal, in mm (PS3.3, C.8.8.3.2)."""
    keyword = "GridFrameOffsetVector"
    offsets = numbers(header, keyword, str(file))
    if offsets is None:
        raise UserError(
            f"{file} {lacking(header, keyword)}, without which its {count} frames have no place: {_CONVERT}."
        )
    if len(offsets) != count:
        raise UserError(f"{file} has {count} frames, but {len(offsets)} values in {tag_name(keyword)}: fetch it again.")
    if offsets[0] != 0:  # z coordinates of the patient; of transversal planes only, whose normal is +z or -z
        orientation = numbers(header, "ImageOrientationPatient", str(file), 6)
        normal_z = 1.0 if orientation is None else float(np.cross(orientation[:3], orientation[3:])[2])
        if abs(abs(normal_z) - 1) > 1e-3:
            raise UserError(
                f"{file} gives z coordinates in {tag_name(keyword)}, but its frames are not transversal: {_CONVERT}."
            )
        offsets = (offsets - offsets[0]) * np.sign(normal_z)
    return offsets


def _nuclear_offsets(file: Path, header: Dataset, count: int) -> np.ndarray:
    """Distances of reconstructed slices from the first one along the normal, in mm (PS3.3, C.8.4.15).

    A negative Spacing Between Slices points against the normal.
    """
    for keyword in _NM_VECTORS:
        several = numbers(header, keyword, str(file))
        if several is not None and len(np.unique(several)) > 1:
            raise UserError(
                f"{file} holds frames that differ in {tag_name(keyword)}, several images in one: separate them first."
            )
    numbered = numbers(header, "SliceVector", str(file))
    spacing = number(header, "SpacingBetweenSlices", str(file))
    if numbered is None or not spacing:
        keyword = "SliceVector" if numbered is None else "SpacingBetweenSlices"
        raise UserError(
            f"{file} {lacking(header, keyword)}, without which its {count} frames have no place: {_CONVERT}."
        )
    if len(numbered) != count:
        raise UserError(
            f"{file} has {count} frames, but {len(numbered)} values in {tag_name('SliceVector')}: fetch it again."
        )
    return (numbered - 1) * spacing


def _slice(file: Path, index: int, count: int, sources: Sequence[Dataset], offset: float | None) -> DicomSlice:
    """A slice; each attribute is taken from the first of ``sources`` that has it.

    Args:
        file: of the slice.
        index: of the frame.
        count: frames of the file.
        sources: functional groups, and the header.
        offset: along the normal from the stated position, in mm; None where the position is the slice's own.
    """
    name = file.name if count == 1 else f"frame {index + 1} of {file.name}"
    where = str(file) if count == 1 else f"frame {index + 1} of {file}"

    def values(keyword: str, length: int) -> np.ndarray | None:
        given = (numbers(source, keyword, where, length) for source in sources)
        return next((value for value in given if value is not None), None)

    def single(keyword: str) -> float | None:
        value = values(keyword, 1)
        return None if value is None else float(value[0])

    def needed(keyword: str, length: int) -> np.ndarray:
        value = values(keyword, length)
        if value is None:
            empty = next((source for source in sources if keyword in source), sources[-1])
            raise UserError(f"{where} {lacking(empty, keyword)}, so that its geometry is unknown: {_CONVERT}.")
        return value

    spacing, notes = _pixel_spacing(values)
    orientation, position = values("ImageOrientationVolume", 6), values("ImagePositionVolume", 3)
    if orientation is not None and position is not None:
        notes += ("positions are those within the ultrasound volume, not in the patient",)
    else:
        orientation, position = needed("ImageOrientationPatient", 6), needed("ImagePositionPatient", 3)
    if offset is not None:
        position = position + offset * np.cross(orientation[:3], orientation[3:])
    if spacing is None:
        raise UserError(f"{where} {lacking(sources[-1], 'PixelSpacing')}, so that its geometry is unknown: {_CONVERT}.")
    if not (spacing > 0).all():
        raise UserError(f"{where} has a pixel spacing of {spacing[0]:g} x {spacing[1]:g} mm: {_CONVERT}.")
    stated = (single(keyword) for keyword in ("SpacingBetweenSlices", "SliceThickness"))
    rows, columns = int(needed("Rows", 1)[0]), int(needed("Columns", 1)[0])
    place = SlicePlace(
        name,
        position,
        orientation,
        (float(spacing[0]), float(spacing[1])),
        (rows, columns),
        next((abs(value) for value in stated if value), None),
    )
    slope, intercept = single("DoseGridScaling"), None  # doses have no offset
    if slope is None:
        slope, intercept = single("RescaleSlope"), single("RescaleIntercept")
        if (slope is None) != (intercept is None):
            given, missing = ("RescaleSlope", "RescaleIntercept")[:: 1 if intercept is None else -1]
            raise UserError(f"{where} has a {tag_name(given)}, but no {tag_name(missing)}: fetch the series again.")
    if slope == 0:
        raise UserError(f"{where} has 0 for {tag_name('RescaleSlope')}, so that its values are lost: fetch it again.")
    apart = {
        kind: found
        for kind, keywords in _APART.items()
        if (found := next((known for source in sources for key in keywords if (known := text(source, key))), ""))
    }
    component = text(sources[-1], "ImageType").split("\\")[2:3]
    if component and component[0].partition("_")[0] in _COMPONENTS:
        apart.setdefault("complex components", component[0].partition("_")[0])
    lut = next((source for source in sources if items(source, "ModalityLUTSequence")), None)
    return DicomSlice(
        file,
        index,
        place,
        1.0 if slope is None else slope,
        0.0 if intercept is None else intercept,
        slope is not None or lut is not None,
        lut,
        notes,
        apart,
    )


def _pixel_spacing(
    values: Callable[[str, int], np.ndarray | None],
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Distances between rows and between columns in mm, and assumptions on them.

    Pixel Spacing is measured in the patient, Imager Pixel Spacing at the detector, where the patient is magnified, and
    Nominal Scanned Pixel Spacing on the digitised film.
    """
    spacing = values("PixelSpacing", 2)
    if spacing is not None:
        return spacing, ()
    spacing = values("ImagerPixelSpacing", 2)
    if spacing is not None:
        factor = values("EstimatedRadiographicMagnificationFactor", 1)
        if factor is not None and factor[0] > 0:
            return spacing / factor[0], ()
        return spacing, ("the pixel spacing is that at the detector, where the patient is seen magnified",)
    spacing = values("NominalScannedPixelSpacing", 2)
    return spacing, () if spacing is None else ("the pixel spacing is that on the film that was scanned",)
