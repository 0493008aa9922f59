"""Frames of multi-frame DICOM files whose frames follow each other in time: ultrasound, endoscopy, angiography."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import parse_basic_offsets, parse_fragments
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, get_decoder, iter_pixels

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.dicom_headers import (
    items,
    number,
    numbers,
    pixel_data_place,
    printable,
    read_dataset,
    storage_class,
    text,
)
from nnunetv2_sam2_3dmed.images.quiet import without_warnings
from nnunetv2_sam2_3dmed.images.windows import Window
from nnunetv2_sam2_3dmed.video.video import FrameGrid, Video, as_colour

# storage classes whose frames follow each other in time
_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.3.1",  # ultrasound, multi-frame
    "1.2.840.10008.5.1.4.1.1.3",  # the same, retired
    "1.2.840.10008.5.1.4.1.1.12.1",  # X-ray angiography
    "1.2.840.10008.5.1.4.1.1.12.2",  # X-ray radiofluoroscopy
    "1.2.840.10008.5.1.4.1.1.77.1.1.1",  # endoscopic video
    "1.2.840.10008.5.1.4.1.1.77.1.2.1",  # microscopic video
    "1.2.840.10008.5.1.4.1.1.77.1.4.1",  # photographic video
    "1.2.840.10008.5.1.4.1.1.7.2",  # secondary capture, multi-frame, grey
    "1.2.840.10008.5.1.4.1.1.7.4",  # the same, in colour
)
_AT_ONCE = 8  # frames that are decoded together, since the file is opened and its header read for them
_TISSUE, _PLANE, _CENTIMETRES = 1, 1, 3  # of ultrasound regions: data type, spatial format, unit
# transfer syntaxes by their UID -> the extra or package that decodes them
_EXTRA = "pip install 'nnunetv2-sam2-3dmed[video]'"
_DECODERS = {
    "1.2.840.10008.1.2.4.80": _EXTRA,  # JPEG-LS
    "1.2.840.10008.1.2.4.81": _EXTRA,
    "1.2.840.10008.1.2.4.90": _EXTRA,  # JPEG 2000
    "1.2.840.10008.1.2.4.91": _EXTRA,
    "1.2.840.10008.1.2.4.51": "pip install python-gdcm",  # JPEG of 12 bits
    "1.2.840.10008.1.2.4.57": "pip install python-gdcm",  # lossless JPEG
    "1.2.840.10008.1.2.4.70": "pip install python-gdcm",
}


def is_dicom_video(file: Path) -> bool:
    """True for a DICOM file of several frames, of a class whose frames follow each other in time.

    Args:
        file: a DICOM file.
    """
    try:
        header = read_dataset(file)
        return storage_class(header) in _CLASSES and (number(header, "NumberOfFrames", str(file)) or 1) > 1
    except UserError:  # damaged, which is told where it is opened
        return False


def read_dicom_video(file: Path) -> Video:
    """Open a multi-frame DICOM file.

    Raises:
        UserError: a frame is missing, nothing here decodes the file, or its header is malformed.
    """
    source = DicomFrames(file)
    header, count = source.header, source.count
    (_, first), *_ = source.decode(0)
    rows, columns = first.shape[:2]
    notes: list[str] = []
    times = _times(header, count, str(file), notes)
    grid = FrameGrid((1.0, *_pixel_lengths(header, rows, columns, notes)))
    return Video(file.name, file, (count, rows, columns), source, times, grid, is_dicom=True, notes=tuple(notes))


class DicomFrames:
    """Decoder of the frames of a DICOM file, of which no more are read than are asked for.

    Args:
        file: with several frames.

    Attributes:
        header: of the file.
        count: number of frames.

    Raises:
        UserError: see :func:`read_dicom_video`.
    """

    def __init__(self, file: Path):
        self.file = file
        self.header = read_dataset(file)
        self.count = int(number(self.header, "NumberOfFrames", str(file)) or 1)
        self._check_decoder()
        self._check_all_there()

    def _check_decoder(self) -> None:
        """Check that a decoder is installed.

        Raises:
            UserError: there is none, or pydicom knows none.
        """
        syntax = self.header.file_meta.TransferSyntaxUID
        if not syntax.is_encapsulated:
            return
        try:
            available = get_decoder(syntax).is_available
        except NotImplementedError:
            raise UserError(
                f"{self.file} is compressed as {printable(syntax.name)}, which pydicom does not decode: convert it to "
                "mp4 or to uncompressed DICOM."
            ) from None
        if not available:
            remedy = _DECODERS.get(str(syntax), "pip install python-gdcm")
            raise UserError(
                f"{self.file} is compressed as {printable(syntax.name)}, for which no decoder is installed: `{remedy}`."
            )

    def _check_all_there(self) -> None:
        """Count the frames in the file, without reading their pixels.

        Raises:
            UserError: there are fewer than the header states, or no pixels.
        """
        place = pixel_data_place(self.file)
        if place is None:
            raise UserError(
                f"{self.file} breaks off before its frames ({self.file.stat().st_size} bytes): copy it again."
            )
        start, length = place
        if not self.header.file_meta.TransferSyntaxUID.is_encapsulated:
            one = self.header.Rows * self.header.Columns * self.header.SamplesPerPixel * self.header.BitsAllocated // 8
            if text(self.header, "PhotometricInterpretation") == "YBR_FULL_422":
                one = one * 2 // 3
            there = min(length, self.file.stat().st_size - start) // one
        else:
            with self.file.open("rb") as stream:
                stream.seek(start)
                try:
                    offsets = parse_basic_offsets(stream)
                    fragments, _ = parse_fragments(stream)
                except Exception as error:  # pydicom raises anything on damaged data
                    raise UserError(f"{self.file} breaks off within its frames ({error}): copy it again.") from error
            there = min(fragments, len(offsets)) if offsets else fragments
        if there < self.count:
            raise UserError(
                f"{self.file} states {self.count} frames but has {there}: a frame is missing, copy the file again."
            )

    def decode(self, index: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the :data:`_AT_ONCE` frames among which ``index`` is.

        Raises:
            UserError: one cannot be decoded.
        """
        first = index - index % _AT_ONCE
        indices = range(first, min(first + _AT_ONCE, self.count))
        frames = iter_pixels(self.file, indices=list(indices))
        for place in indices:
            try:
                with without_warnings:
                    frame = next(frames)
                yield place, self._shown(frame)
            except Exception as error:  # decoders raise anything on damaged data
                reason = (str(error).splitlines() or [type(error).__name__])[-1].rstrip(".")[:200]
                raise UserError(
                    f"frame {place} of {self.file} cannot be decoded ({printable(reason)}): copy the file again."
                ) from error

    def _shown(self, frame: np.ndarray) -> np.ndarray:
        """Return decoded values as colours, uint8 (rows, columns, 3)."""
        kind = text(self.header, "PhotometricInterpretation")
        if kind == "PALETTE COLOR":
            colours = apply_color_lut(frame, self.header)
            return (colours >> 8 if colours.dtype.itemsize > 1 else colours).astype(np.uint8)
        if frame.ndim == 3:
            return frame if frame.dtype == np.uint8 else (frame >> (int(self.header.BitsStored) - 8)).astype(np.uint8)
        return as_colour(self._grey(frame, inverted=kind == "MONOCHROME1"))

    def _grey(self, frame: np.ndarray, inverted: bool) -> np.ndarray:
        """Return stored grey values as grey levels, through the header's lookup table or window where there is one."""
        center, width = _first(self.header, "WindowCenter"), _first(self.header, "WindowWidth")
        tables = items(self.header, "VOILUTSequence")
        if tables:
            bits = int(tables[0].LUTDescriptor[2])
            grey = Window(0, 2**bits - 1).grey(apply_voi_lut(frame, self.header, prefer_lut=True))
        elif center is not None and width is not None and width >= 1:
            grey = Window(center - width / 2, center + width / 2).grey(apply_modality_lut(frame, self.header))
        else:
            bits, signed = int(self.header.BitsStored), int(self.header.get("PixelRepresentation", 0))
            low = -(2 ** (bits - 1)) if signed else 0
            grey = Window(low, low + 2**bits - 1).grey(frame)
        return 255 - grey if inverted else grey


def _first(header: Dataset, keyword: str) -> float | None:
    value = header.get(keyword)
    if value is None:
        return None
    return float(value[0] if isinstance(value, MultiValue) else value)


def _times(header: Dataset, count: int, where: str, notes: list[str]) -> np.ndarray | None:
    """Return the frames' times in seconds, from 0; None where the header states neither times nor a rate."""
    steps = numbers(header, "FrameTimeVector", where)  # milliseconds from the frame before; 0 for the first
    if steps is not None and len(steps) == count and (steps[1:] > 0).all():
        return np.concatenate([[0.0], np.cumsum(steps[1:])]) / 1000
    if steps is not None:
        notes.append(f"its Frame Time Vector has {len(steps)} values, which do not fit its {count} frames: not used.")
    step = number(header, "FrameTime", where)
    if step and step > 0:
        return np.arange(count) * step / 1000
    for keyword in ("CineRate", "RecommendedDisplayFrameRate"):
        rate = number(header, keyword, where)
        if rate and rate > 0:
            return np.arange(count) / rate
    notes.append("its header states no times of its frames: 25 per second are assumed for a video of the result.")
    return None


def _pixel_lengths(header: Dataset, rows: int, columns: int, notes: list[str]) -> tuple[float, float]:
    """Return millimetres between rows and between columns; 1 where the header does not state them for this image.

    Files that were made smaller often still have the ultrasound regions of the original: regions that do not lie within
    the image are not used.
    """
    regions = items(header, "SequenceOfUltrasoundRegions")
    lengths = set()
    for region in regions:
        x0, y0, x1, y1 = (_whole(region, f"RegionLocation{end}") for end in ("MinX0", "MinY0", "MaxX1", "MaxY1"))
        if not (0 <= x0 < x1 < columns and 0 <= y0 < y1 < rows):
            notes.append(
                f"its ultrasound region ({x0} to {x1}, {y0} to {y1}) does not fit its {columns} x {rows} pixels: the "
                "region and its scale are not used."
            )
            return 1.0, 1.0
        kind = [_whole(region, keyword) for keyword in ("RegionDataType", "RegionSpatialFormat")]
        units = [_whole(region, f"PhysicalUnits{axis}Direction") for axis in "XY"]
        if kind == [_TISSUE, _PLANE] and units == [_CENTIMETRES] * 2:
            lengths.add((abs(float(region.PhysicalDeltaY)) * 10, abs(float(region.PhysicalDeltaX)) * 10))
    if len(lengths) == 1 and min(found := lengths.pop()) > 0:
        return found
    if lengths:
        notes.append("its ultrasound regions have several scales: none is used.")
    spacing = None if regions else numbers(header, "PixelSpacing", str(header.get("SOPInstanceUID", "")), 2)
    return (1.0, 1.0) if spacing is None or min(spacing) <= 0 else (float(spacing[0]), float(spacing[1]))


def _whole(region: Dataset, keyword: str) -> int:
    value = region.get(keyword)
    return -1 if value is None else int(value)
