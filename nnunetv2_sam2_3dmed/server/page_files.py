"""Images that the page opens: from the folder named at the start, or uploaded into a folder of the session."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from pydicom.dataset import Dataset

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images import dicom_headers
from nnunetv2_sam2_3dmed.images.volumes import READABLE
from nnunetv2_sam2_3dmed.video import containers
from nnunetv2_sam2_3dmed.video.numbered_frames import numbered, pictures_in
from nnunetv2_sam2_3dmed.video.untrusted import is_untrusted_video

_HEADERS = (".nhdr", ".mhd")  # their voxels lie in another file
_MOST_LISTED = 2000
_MOST_FOLDERS = 20_000
_LONGEST_NAME = 120  # bytes
_LOOKED_AT = 3  # files of a folder, by which it is taken for one of DICOM files


def list_images(folder: Path) -> tuple[list[dict[str, object]], bool]:
    """List the images in a folder and the folders below it, by name; what cannot be read is passed over.

    Returns:
        For each its ``path`` below the folder with slashes, ``kind`` ("file", "dicom": a folder of a series, or
        "video": a file or a folder of numbered frames) and ``bytes``, at most 2000; and True if these are all.
    """
    found: list[dict[str, object]] = []
    root = folder.resolve()
    for number, (name, below, names) in enumerate(os.walk(folder)):
        if number >= _MOST_FOLDERS:
            return found, False
        below[:] = sorted(one for one in below if not one.startswith("."))  # the order in which they are walked
        place = Path(name)
        with suppress(OSError, UserError):
            # others are not opened
            files = [file for one in sorted(names) if (file := place / one).is_file() and _is_of(file, root)]
            images = [file for file in files if file.name.lower().endswith(READABLE)]
            found += [_entry(folder, file, "file", file.stat().st_size) for file in images]
            videos = [file for file in files if file.name.lower().endswith(containers.ENDINGS)]
            videos += [file for file, _ in dicom_videos(files)]
            found += [_entry(folder, file, "video", file.stat().st_size) for file in videos]
            if place != folder and not images:
                left = sorted(set(files) - set(videos))
                size = sum(file.stat().st_size for file in left)
                if any(dicom_headers.is_dicom(file) for file in left[:_LOOKED_AT]):
                    found.append(_entry(folder, place, "dicom", size))
                elif not videos and _are_frames(place):
                    found.append(_entry(folder, place, "video", size))
        if len(found) > _MOST_LISTED:
            return found[:_MOST_LISTED], False
    return found, True


def _entry(folder: Path, path: Path, kind: str, size: int) -> dict[str, object]:
    return {"path": path.relative_to(folder).as_posix(), "kind": kind, "bytes": size}


def _is_of(file: Path, root: Path) -> bool:
    """True for a file that is not hidden, and no link that leads out of ``root``, a path without links."""
    return not file.name.startswith(".") and file.resolve().is_relative_to(root)


def dicom_videos(files: Sequence[Path]) -> list[tuple[Path, Dataset]]:
    """Return the multi-frame DICOM files of a folder whose frames follow in time, with their headers.

    Args:
        files: of the folder, which is taken for one with videos if one of the first three is one.
    """
    if not any(dicom_headers.is_dicom(file) and is_untrusted_video(file) for file in files[:_LOOKED_AT]):
        return []
    videos = [file for file in files if dicom_headers.is_dicom(file) and is_untrusted_video(file)]
    return [(file, dicom_headers.read_dataset(file)) for file in videos]


def dicom_choices(folder: Path, root: Path) -> list[list[tuple[Path, Dataset]]]:
    """Return what there is to choose in a DICOM folder with videos: each video, then each series of the other images.

    Args:
        folder: in ``root``.
        root: the folder with all that its sender may read; links out of it are passed over.

    Returns:
        Files with their headers, by video or series; empty if there is no video.
    """
    within = root.resolve()
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and _is_of(file, within)]
    videos = dicom_videos(files)
    if not videos:
        return []
    found = {file for file, _ in videos}
    series: dict[str, list[tuple[Path, Dataset]]] = {}
    for file in files:
        if file in found or not dicom_headers.is_dicom(file) or dicom_headers.is_deflated(file):
            continue
        with suppress(UserError):  # a damaged file is no series that could be chosen
            header = dicom_headers.read_dataset(file)
            if "Rows" in header:  # a report or a DICOMDIR has none
                series.setdefault(dicom_headers.text(header, "SeriesInstanceUID"), []).append((file, header))
    return [*([video] for video in videos), *series.values()]


def check_links(path: Path, root: Path) -> None:
    """Check that no DICOM file beside one, or in a folder, is a link that leads elsewhere, as all are read together.

    Raises:
        UserError: one is.
    """
    for file in sorted((path if path.is_dir() else path.parent).iterdir()):
        if file.is_file() and not file.resolve().is_relative_to(root.resolve()) and dicom_headers.is_dicom(file):
            raise UserError(f"{file} leads elsewhere: put the file itself into the folder.")


def _are_frames(folder: Path) -> bool:
    """True for a folder with several numbered pictures."""
    try:
        return len(pictures_in(folder)) > 1 and len(numbered(folder)) > 1
    except UserError:  # their names have no numbers
        return False


def inside(folder: Path | None, name: str) -> Path:
    """Return the path of an image in a folder, of which a client has sent the name.

    Raises:
        UserError: no folder was named at the start, or the name leads out of it, also through a link.
    """
    if folder is None:
        raise UserError(f"{name!r} cannot be opened: this server was started without --folder.")
    root = folder.resolve()
    try:
        path = (root / name).resolve()
        outside = not path.is_relative_to(root) or path == root or not path.exists()
    except (OSError, ValueError):  # such as a name with a null byte
        outside = True
    if outside:
        raise UserError(f"{name!r} is no image in the folder of this server: choose one from its list.")
    return path


def safe_name(name: str) -> str:
    """Return a name with letters, digits and ``.+-_`` only, and no dot in front; its end if it is long."""
    return short_name(re.sub(r"[^\w.+-]", "_", name))


def short_name(name: str) -> str:
    """Return the end of a name, without dots in front."""
    # file systems count bytes; a letter that is cut in two is dropped
    return name.encode(errors="ignore")[-_LONGEST_NAME:].decode(errors="ignore").lstrip(".")


def upload_path(folder: Path, name: str) -> Path:
    """Return where to write an uploaded file: in ``folder`` itself, whatever path the client has sent.

    A second file of a name, as in the subfolders of a DICOM disc, gets a number in front.

    Raises:
        UserError: the name is empty.
    """
    # headers of MetaImage and NRRD files name the file of their voxels: spaces and the like stay as they are
    own = PurePosixPath(name.replace("\\", "/")).name
    safe = short_name("".join(letter if letter.isprintable() else "_" for letter in own).strip())
    if not safe:
        raise UserError(f"{name!r} is no file name.")
    path = folder / safe
    number = 1
    while path.exists():
        path, number = folder / f"{number}_{safe}", number + 1
    return path


def uploaded_image(folder: Path) -> Path:
    """Choose the image among uploaded files: the only image or video file, or the folder as DICOM or numbered frames.

    Raises:
        UserError: there are none, or several images.
    """
    files = sorted(folder.iterdir())
    if not files:
        raise UserError("no file was received: choose an image file or a DICOM folder.")
    images = [file for file in files if file.name.lower().endswith((*READABLE, *containers.ENDINGS))]
    headers = [file for file in images if file.name.lower().endswith(_HEADERS)]
    if len(images) == 1 or len(headers) == 1:
        return (headers or images)[0]
    if images:
        raise UserError(f"{len(images)} images were given ({images[0].name}, {images[1].name}, ...): open one.")
    return files[0] if len(files) == 1 and not pictures_in(folder) else folder


def described(series: Sequence[tuple[Path, Dataset]]) -> dict[str, object]:
    """Describe a DICOM series for the user's choice.

    Args:
        series: its files with their headers.

    Returns:
        ``id`` (the name of its first file), ``description``, ``number`` and ``modality`` (perhaps empty), ``images``
        (of all frames), ``rows`` and ``columns`` (0 if not stated).
    """
    file, header = series[0]
    return {
        "id": file.name,
        "description": dicom_headers.text(header, "SeriesDescription"),
        "number": dicom_headers.text(header, "SeriesNumber"),
        "modality": dicom_headers.text(header, "Modality"),
        "images": sum(_whole(one, "NumberOfFrames") or 1 for _, one in series),
        "rows": _whole(header, "Rows"),
        "columns": _whole(header, "Columns"),
    }


def _whole(header: Dataset, keyword: str) -> int:
    text = dicom_headers.text(header, keyword)
    return int(text) if text.isascii() and text.isdigit() else 0
