"""DICOM headers: the files of one series in a folder, and attributes with a sentence for each defect."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.quiet import without_warnings

ENDINGS = (".dcm", ".dicom", ".ima")
_DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR
SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
# have rows and columns, but are no images: segmentations and presentation states
_NO_IMAGES = (*SEGMENTATION, "1.2.840.10008.5.1.4.1.1.11.")
_MAGIC = b"DICM"
# Files of old devices lack preamble and magic: they begin with an element up to SOP Instance UID (0008,0018), or of the
# file's meta information, in little endian.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
_LAST_FIRST_ELEMENT = 0x18
PIXEL_DATA = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_FOR_DECODING = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    *PIXEL_DATA,
)
_DEFERRED = 65536  # bytes; private elements beyond are left in the file


class SeveralSeries(UserError):
    """Several series of images in a folder, of which one is to be chosen.

    Attributes:
        series: files with their headers, by series.
    """

    def __init__(self, folder: Path, series: list[list[tuple[Path, Dataset]]]):
        first = [members[0][0].name for members in series]
        super().__init__(
            f"{folder} holds {len(series)} DICOM series: give one file of the series you mean, such as "
            f"{', '.join(first[:4])}."
        )
        self.series = series


def is_dicom(path: Path) -> bool:
    """True for a DICOM file, by its content: many have no ending."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    if start[128:] == _MAGIC:
        return True
    if len(start) < 132 or start[:2] not in _FIRST_GROUPS:
        return False
    element, length = int.from_bytes(start[2:4], "little"), int.from_bytes(start[4:8], "little")
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return element <= _LAST_FIRST_ELEMENT and (explicit or length <= 64)


def is_deflated(file: Path) -> bool:
    """True for a DICOM file that is compressed as a whole, so that already its header may unpack to any size.

    Also for one with meta information but no preamble, where it is not looked for.
    """
    with file.open("rb") as stream:
        start = stream.read(132)
    if start[128:] != _MAGIC:
        return start[:2] == _FIRST_GROUPS[0]
    try:
        with without_warnings:
            return read_file_meta_info(file).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    except Exception:  # pydicom raises anything on damaged files, as it will when the file is read
        return False


def read_dataset(file: Path, pixels: bool = False) -> Dataset:
    """The attributes of a DICOM file.

    Args:
        file: to read.
        pixels: read the pixel data and the attributes needed to decode them, instead of all that precede them.

    Raises:
        UserError: it cannot be read, or breaks off.
    """
    try:
        with without_warnings:
            if pixels:
                dataset = pydicom.dcmread(file, force=True, specific_tags=list(_FOR_DECODING))
            else:
                dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True, defer_size=_DEFERRED)
            meta = dataset.file_meta
            if "TransferSyntaxUID" not in meta:
                meta.TransferSyntaxUID = (
                    ImplicitVRLittleEndian if dataset.original_encoding[0] else ExplicitVRLittleEndian
                )
    except Exception as error:  # pydicom raises anything on damaged files
        raise UserError(f"{file} cannot be read as a DICOM file ({_first_line(error)}): copy it again.") from error
    return dataset


def pixel_data_place(file: Path) -> tuple[int, int] | None:
    """Return where a file's pixel data begin, and their length, without reading them; None if it has none.

    Raises:
        UserError: the file cannot be read, breaks off, or has no bytes as pixel data.
    """
    try:
        with without_warnings:
            dataset = pydicom.dcmread(file, defer_size=1024, force=True)
    except Exception as error:  # pydicom raises anything on damaged files
        raise UserError(f"{file} cannot be read as a DICOM file ({_first_line(error)}): copy it again.") from error
    if "PixelData" not in dataset:
        return None
    element = dataset.get_item("PixelData", keep_deferred=True)
    if not isinstance(element, RawDataElement):
        raise UserError(f"{file} has something else than bytes as pixel data: copy it again.")
    return element.value_tell, element.length


def series_headers(path: Path) -> list[tuple[Path, Dataset]]:
    """The headers of the one series of images in a folder, or of the one that a file belongs to.

    Files of one series have the same SeriesInstanceUID, whatever their names. Files that are no DICOM images (DICOMDIR,
    reports, segmentations, macOS's hidden files) are skipped.

    Raises:
        SeveralSeries: there are several in the folder.
        UserError: there is none, or a file of it is broken.
    """
    folder = path if path.is_dir() else path.parent
    wanted: str | None = None
    if path.is_file():
        if not is_dicom(path):
            raise UserError(f"{path} is no DICOM file ({path.stat().st_size} bytes): copy it again.")
        header = read_dataset(path)
        if not _is_image(header):
            if "Image" in _kind(header) or not storage_class(header):
                raise _breaks_off(path)
            raise UserError(f"{path} is no DICOM image, but {_kind(header)}: give an image of the series.")
        wanted = text(header, "SeriesInstanceUID")
    series: dict[str, list[tuple[Path, Dataset]]] = {}
    others, broken = [], []
    for file in sorted(folder.iterdir()):
        if (file.name.startswith(".") and file != path) or (file.exists() and not file.is_file()):
            continue
        if not os.access(file, os.R_OK):  # forbidden, or a link to what is not there
            broken.append(file)
            continue
        if not is_dicom(file):
            if file.name.lower().endswith(ENDINGS) or not file.stat().st_size:
                broken.append(file)
            continue
        header = read_dataset(file)
        if _is_image(header):
            series.setdefault(text(header, "SeriesInstanceUID"), []).append((file, header))
        else:
            others.append((file, header))
    if not series:
        also = f" ({len(others)} DICOM files in it are no images)" if others else ""
        raise UserError(f"there is no DICOM series in {path}{also}: give the folder of one, or one of its files.")
    if wanted is None:
        if len(series) > 1:
            raise SeveralSeries(path, list(series.values()))
        (wanted,) = series
    found = series[wanted]
    _check_whole(found, others, broken)
    return found


def _check_whole(
    found: Sequence[tuple[Path, Dataset]], others: Sequence[tuple[Path, Dataset]], broken: Sequence[Path]
) -> None:
    """Refuse a series with a broken file: nobody would notice a missing last slice."""
    endings = {file.suffix.lower() for file, _ in found}
    for file in broken:
        if file.suffix.lower() in endings:
            what = f"is no DICOM file ({file.stat().st_size} bytes)" if os.access(file, os.R_OK) else "cannot be read"
            raise UserError(f"{file} {what}: copy it again, or remove it.")
    classes = {storage_class(header) for _, header in found}
    series = text(found[0][1], "SeriesInstanceUID")
    for file, header in others:
        if storage_class(header) == _DIRECTORY:
            continue
        own, stated = text(header, "SOPClassUID"), text(header.file_meta, "MediaStorageSOPClassUID")
        damaged = not own or not UID(own).is_valid
        if damaged or {own, stated} & classes or series == text(header, "SeriesInstanceUID"):
            raise _breaks_off(file)


def _breaks_off(file: Path) -> UserError:
    return UserError(f"{file} breaks off before its image ({file.stat().st_size} bytes): copy it again.")


def storage_class(header: Dataset) -> str:
    """The SOP class UID; that of the file meta information if the header breaks off before its own."""
    return text(header, "SOPClassUID") or text(header.file_meta, "MediaStorageSOPClassUID")


def _is_image(header: Dataset) -> bool:
    return "Rows" in header and "Columns" in header and not storage_class(header).startswith(_NO_IMAGES)


def _kind(header: Dataset) -> str:
    uid = storage_class(header)
    return "a DICOMDIR" if uid == _DIRECTORY else f"an object of the class {UID(uid).name or 'unknown'}"


def text(header: Dataset, keyword: str) -> str:
    """An attribute as text, several values joined by backslashes as in the file; empty if missing or unreadable."""
    try:
        with without_warnings:
            value = header.get(keyword)
    except Exception:  # pydicom raises anything on malformed elements
        return ""
    if isinstance(value, MultiValue):
        value = "\\".join(str(one) for one in value)
    return "" if value is None else printable(str(value).strip().strip("\0"))


def numbers(header: Dataset, keyword: str, where: str, count: int | None = None) -> np.ndarray | None:
    """The numbers of an attribute, float64.

    Args:
        header: or an item of a sequence.
        keyword: DICOM's.
        where: the file or its frame, for messages.
        count: the number of values required.

    Returns:
        None where the attribute is missing or empty.

    Raises:
        UserError: it holds another number of values, or other things than numbers.
    """
    if keyword not in header:
        return None
    try:
        with without_warnings:
            value = header[keyword].value
            if value is None or (hasattr(value, "__len__") and not len(value)):
                return None
            many = [value] if isinstance(value, str) or not hasattr(value, "__len__") else value
            found = np.array([float(one) for one in many])
    except Exception as error:  # pydicom raises anything on malformed elements
        raise UserError(_malformed(header, keyword, where, count)) from error
    if (count is not None and len(found) != count) or not np.isfinite(found).all():
        raise UserError(_malformed(header, keyword, where, count))
    return found


def number(header: Dataset, keyword: str, where: str) -> float | None:
    """The one number of an attribute; see :func:`numbers`."""
    found = numbers(header, keyword, where, 1)
    return None if found is None else float(found[0])


def items(header: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; an empty list if it is missing."""
    try:
        with without_warnings:
            return list(header.get(keyword) or [])
    except Exception:  # pydicom raises anything on malformed elements
        return []


def lacking(header: Dataset, keyword: str) -> str:
    """A clause on a missing or empty attribute, such as "has no Rows (0028,0010)"."""
    return f"has {'an empty' if keyword in header else 'no'} {tag_name(keyword)}"


def tag_name(keyword: str) -> str:
    """Name and tag of an attribute, as the standard prints them."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return f"{dictionary_description(tag)} {Tag(tag)}".replace(", ", ",")


def printable(value: str) -> str:
    """A value of a damaged file without control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in value)


def _malformed(header: Dataset, keyword: str, where: str, count: int | None) -> str:
    raw = header.get_item(keyword)
    value = raw.value if raw is not None else ""
    shown = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    if not isinstance(shown, str):
        shown = "\\".join(str(one) for one in shown) if hasattr(shown, "__len__") else str(shown)
    shown = printable(shown.strip()[:60])
    needed = {None: "numbers are", 1: "one number is"}.get(count, f"{count} numbers are")
    return (
        f"{where} has '{shown}' for {tag_name(keyword)}, but {needed} needed: fetch the series again, or "
        "convert it to NIfTI with the true geometry."
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return printable(lines[0].rstrip(".")[:200]) if lines else type(error).__name__
