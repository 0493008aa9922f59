"""Videos by their paths, whatever holds them."""

from __future__ import annotations

from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.dicom_headers import is_dicom
from nnunetv2_sam2_3dmed.images.volumes import DICOM_ENDINGS, READABLE
from nnunetv2_sam2_3dmed.video import containers, numbered_frames
from nnunetv2_sam2_3dmed.video.containers import read_container
from nnunetv2_sam2_3dmed.video.dicom_video import is_dicom_video, read_dicom_video
from nnunetv2_sam2_3dmed.video.numbered_frames import pictures_in, read_numbered_frames
from nnunetv2_sam2_3dmed.video.sequences import read_sequence
from nnunetv2_sam2_3dmed.video.video import Video


def is_video(path: Path) -> bool:
    """True for a video file, a folder of pictures, and a multi-frame DICOM file whose frames follow in time.

    NIfTI, NRRD and MetaImage files do not tell whether their third axis is time; they count as volumes.
    """
    if path.is_dir():
        # viewers leave pictures beside the slices of a DICOM series
        pictures = set(pictures_in(path))
        return bool(pictures) and not any(is_dicom(file) for file in path.iterdir() if file not in pictures)
    name = path.name.lower()
    if name.endswith(containers.ENDINGS):
        return True
    return not name.endswith(READABLE) and path.is_file() and is_dicom(path) and is_dicom_video(path)


def open_video(path: str | Path) -> Video:
    """Open a video; its frames are decoded when they are needed.

    Args:
        path: mp4, avi, mov, mkv (needs the extra ``video``); a multi-frame DICOM file; a folder of numbered pictures;
            or a NIfTI, NRRD or MetaImage file whose third axis is time.

    Raises:
        UserError: there is no such file, it holds no video, is torn or damaged, or a package is missing that decodes
            it.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"there is no file or folder {path}: give a video.")
    if path.is_dir():
        return read_numbered_frames(path)
    name = path.name.lower()
    if name.endswith(containers.ENDINGS):
        return read_container(path)
    if name.endswith(READABLE):
        return read_sequence(path)
    if is_dicom(path):
        return read_dicom_video(path)
    raise UserError(
        f"{path} is no kind of video that can be read: give {', '.join(containers.ENDINGS)}, a multi-frame DICOM file, "
        f"a folder of {', '.join(numbered_frames.ENDINGS)}, or {', '.join(READABLE)}."
    )


def name_of(path: Path) -> str:
    """The name of a video or of its masks without its ending; a folder's name may have dots."""
    if not path.is_dir():
        for ending in sorted((*containers.ENDINGS, *READABLE, *DICOM_ENDINGS), key=len, reverse=True):
            if path.name.lower().endswith(ending):
                return path.name[: -len(ending)]
    return path.name
