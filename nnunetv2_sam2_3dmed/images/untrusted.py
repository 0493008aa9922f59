"""Images from strangers, whose headers may name files that are not theirs, or claim any size."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.codestreams import check_codestreams
from nnunetv2_sam2_3dmed.images.dicom_headers import is_deflated, is_dicom, series_headers
from nnunetv2_sam2_3dmed.images.stored_voxels import first_bytes
from nnunetv2_sam2_3dmed.images.text_headers import (
    LONGEST,
    METAIMAGE,
    NRRD,
    file_name,
    metaimage_fields,
    nrrd_fields,
)
from nnunetv2_sam2_3dmed.images.volume import Volume
from nnunetv2_sam2_3dmed.images.volumes import is_dicom_series, read_volume

# ITK's reader goes on within a line that is longer than 500 letters, and takes colons for equals signs
_META_LINE = re.compile(rb"[\w .-]{1,100}=[^\r\n\0]{0,380}\r?")
# of a file beside the header: no folders, patterns or separators
_PLAIN_NAME = re.compile(r"[^/\\%=:][^/\\%]*")
_SAVE = "save it as .nrrd, .mha or .nii.gz"


def read_untrusted(path: Path, root: Path, check_bytes: Callable[[int], None]) -> Volume:
    """Read an image as ``read_volume`` does, and no file outside a folder.

    Args:
        path: of the image, in ``root``.
        root: the folder with all that its sender may read.
        check_bytes: see ``read_volume``.

    Raises:
        UserError: see ``read_volume``; or the header names a file that does not lie beside it, or names files in an
            unusual way; or a DICOM file is deflated, or has frames of another size than its header states.
    """
    if is_dicom_series(path):
        for file in sorted((path if path.is_dir() else path.parent).iterdir()):
            if file.is_file() and is_dicom(file) and is_deflated(file):
                raise UserError(f"{file} is compressed as a whole, which is not read here: save it without.")
        for file, header in series_headers(path):
            check_codestreams(file, header)
    elif path.name.lower().endswith((*METAIMAGE, *NRRD)):
        _check_named_file(path, root)
    return read_volume(path, check_bytes)


def _check_named_file(file: Path, root: Path) -> None:
    """Check where the voxels of a MetaImage or NRRD file lie.

    Raises:
        UserError: in a list of files, in files of a pattern, outside ``root``, or ITK may read the header otherwise.
    """
    if file.name.lower().endswith(METAIMAGE):
        fields, end = metaimage_fields(file)
        named: str | None = fields["ElementDataFile"]
        local = (named or "").upper() == "LOCAL"
        lines = first_bytes(file, LONGEST)[:end].removesuffix(b"\n").split(b"\n")
        keys = [line.partition(b"=")[0].strip().lower() for line in lines]
        plain = all(map(_META_LINE.fullmatch, lines)) and b"".join(lines).lower().count(b"elementdatafile") == 1
    else:
        fields, end = nrrd_fields(file)
        named = fields.get("data file", fields.get("datafile"))
        local = named is None
        lines = first_bytes(file, LONGEST)[:end].replace(b"\r\n", b"\n").split(b"\n")[1:]
        stated = [line.partition(b":") for line in lines if b":" in line and not line.startswith(b"#")]
        keys = [key.strip().lower().replace(b" ", b"") for key, _, value in stated if not value.startswith(b"=")]
        plain = end < LONGEST and not any(b"\r" in line or b"\0" in line for line in lines)
    if not plain or len(keys) > len(set(keys)):
        raise UserError(f"{file} has an unusual header, which readers could take in several ways: {_SAVE}.")
    if local or not named:
        return
    if named.upper().startswith("LIST") or not _PLAIN_NAME.fullmatch(named):
        raise UserError(f"{file} has its voxels in {named!r}, but they must lie in one file beside it: {_SAVE}.")
    if not (file.parent / file_name(named)).resolve().is_relative_to(root.resolve()):
        raise UserError(f"{file} has its voxels in {named!r}, which leads elsewhere: {_SAVE}.")
