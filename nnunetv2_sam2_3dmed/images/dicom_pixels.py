"""Voxels of DICOM files: stored values decoded and rescaled to those of the modality without loss."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_modality_lut, get_decoder, pixel_array
from pydicom.uid import ExplicitVRBigEndian, MultiFrameGrayscaleWordSecondaryCaptureImageStorage, generate_uid

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.dicom_headers import PIXEL_DATA, printable, read_dataset, text
from nnunetv2_sam2_3dmed.images.dicom_slices import DicomSlice
from nnunetv2_sam2_3dmed.images.quiet import without_warnings

_GREY = ("MONOCHROME1", "MONOCHROME2")
_INTEGERS = (np.int16, np.uint16, np.int32, np.uint32, np.int64)


def check_grey(file: Path, header: Dataset) -> str:
    """Refuse images in colour.

    Returns:
        The photometric interpretation: MONOCHROME2, or MONOCHROME1 if low values are bright.

    Raises:
        UserError: the image is in colour.
    """
    samples, kind = text(header, "SamplesPerPixel") or "1", text(header, "PhotometricInterpretation") or _GREY[1]
    if samples != "1" or kind not in _GREY:
        raise UserError(
            f"{file} is an image in colour ({kind}, {samples} samples per voxel), but one of grey values is needed: "
            "give the original series."
        )
    return kind


def voxels(slices: Sequence[DicomSlice]) -> np.ndarray:
    """The values of the modality, (z, y, x) in the order of ``slices``.

    Integers where all slopes and intercepts are whole numbers, in the smallest type that holds them (int16 at least);
    float32 otherwise.

    Raises:
        UserError: a file cannot be decoded, or breaks off.
    """
    stored = _stored_planes(slices)
    whole = all(
        one.lut is None and one.slope.is_integer() and one.intercept.is_integer() and plane.dtype.kind in "ui"
        for one, plane in zip(slices, stored)
    )
    kind: type = _integer_type(slices, stored) if whole else np.float32
    found: np.ndarray = np.empty((len(slices), *slices[0].place.shape), dtype=kind)
    for z, one in enumerate(slices):
        plane = stored[z]
        stored[z] = np.empty(0)  # free it
        if one.lut is not None:
            found[z] = apply_modality_lut(plane, one.lut)
        elif whole:
            found[z] = plane.astype(np.int64) * int(one.slope) + int(one.intercept)
        else:
            found[z] = plane * one.slope + one.intercept  # in float64
    return found


def _integer_type(slices: Sequence[DicomSlice], stored: Sequence[np.ndarray]) -> type:
    ends = [
        int(end) * int(one.slope) + int(one.intercept)
        for one, plane in zip(slices, stored)
        for end in (plane.min(), plane.max())
    ]
    for kind in _INTEGERS:
        if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max:
            return kind
    return np.float64


def _stored_planes(slices: Sequence[DicomSlice]) -> list[np.ndarray]:
    """The stored values (rows, columns) of each slice; each file is decoded once."""
    of_file: dict[Path, list[int]] = {}
    for z, one in enumerate(slices):
        of_file.setdefault(one.file, []).append(z)
    planes: list[np.ndarray] = [np.empty(0)] * len(slices)
    for file, members in of_file.items():
        frames = stored_frames(file)
        for z in members:
            planes[z] = frames[slices[z].frame]
    return planes


def stored_frames(file: Path) -> np.ndarray:
    """The stored values of a file, (frames, rows, columns).

    Decoded by pydicom and its plugins; transfer syntaxes without a plugin, such as lossless JPEG, by SimpleITK's GDCM.

    Raises:
        UserError: neither can decode them.
    """
    dataset = read_dataset(file, pixels=True)
    if not any(keyword in dataset for keyword in PIXEL_DATA):
        raise UserError(f"{file} breaks off before its voxels ({file.stat().st_size} bytes): copy it again.")
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        with without_warnings:  # of padding behind the voxels
            decoded = pixel_array(dataset, raw=True)
    except Exception as error:  # decoders raise anything on damaged data
        try:
            available = get_decoder(syntax).is_available
        except NotImplementedError:
            available = False
        if available and not syntax.is_encapsulated:
            raise _unreadable(file, dataset, error) from error
        try:
            decoded = _decoded_by_gdcm(dataset)
        except Exception as other:  # as above
            raise _unreadable(file, dataset, error if available else other) from other
    if not syntax.is_encapsulated:
        decoded = _aligned(dataset, decoded)
    return decoded if decoded.ndim == 3 else decoded[None]


def _aligned(dataset: Dataset, decoded: np.ndarray) -> np.ndarray:
    """Stored values of old files whose lowest bit is not bit 0; pydicom assumes High Bit = Bits Stored - 1."""
    if decoded.dtype.kind not in "ui" or not all(text(dataset, keyword) for keyword in ("HighBit", "BitsStored")):
        return decoded
    bits, lowest = int(dataset.BitsStored), int(dataset.HighBit) + 1 - int(dataset.BitsStored)
    if lowest <= 0:
        return decoded
    kind = decoded.dtype.newbyteorder(">" if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<")
    raw = np.frombuffer(dataset.PixelData, kind, decoded.size).reshape(decoded.shape).astype(kind.newbyteorder("="))
    above = 8 * decoded.dtype.itemsize - bits - lowest
    return (raw << above) >> (above + lowest)  # with the sign


def _unreadable(file: Path, dataset: Dataset, error: Exception) -> UserError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = (lines[-1] if lines else type(error).__name__).rstrip(".")[:200]
    what = printable(f"{dataset.file_meta.TransferSyntaxUID.name}; {reason}")
    return UserError(
        f"the voxels of {file} cannot be decoded ({what}): copy it "
        "again, or decompress the series first, for example with gdcmconv --raw."
    )


def _decoded_by_gdcm(dataset: Dataset) -> np.ndarray:
    """Stored values (frames, rows, columns), each frame decoded from a file of its own.

    GDCM rescales by rules of its own for each storage class and inverts MONOCHROME1, so its copy declares
    neither.
    """
    count = int(dataset.get("NumberOfFrames") or 1)
    frames = []
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "frame.dcm")
        for frame in generate_frames(dataset.PixelData, number_of_frames=count):
            neutral = Dataset()
            neutral.file_meta = FileMetaDataset()
            neutral.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
            neutral.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
            neutral.SOPInstanceUID = generate_uid()
            for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
                setattr(neutral, keyword, dataset[keyword].value)
            neutral.SamplesPerPixel, neutral.PhotometricInterpretation = 1, "MONOCHROME2"
            neutral.PixelData = encapsulate([frame])
            neutral["PixelData"].is_undefined_length = True
            neutral.save_as(path, enforce_file_format=True)
            image = sitk.ReadImage(path, imageIO="GDCMImageIO")
            frames.append(sitk.GetArrayFromImage(image).reshape(dataset.Rows, dataset.Columns))
    if len(frames) != count:
        raise ValueError(f"{len(frames)} of {count} frames are there")
    return np.stack(frames)
