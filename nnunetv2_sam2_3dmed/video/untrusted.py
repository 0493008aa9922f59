"""Videos from strangers, whose size is found from their headers before anything is decoded."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.codestreams import check_codestreams
from nnunetv2_sam2_3dmed.images.dicom_headers import is_deflated, is_dicom, number, read_dataset
from nnunetv2_sam2_3dmed.video import containers
from nnunetv2_sam2_3dmed.video.containers import pyav
from nnunetv2_sam2_3dmed.video.numbered_frames import pictures_in
from nnunetv2_sam2_3dmed.video.opening import is_video

MOST_SIDE = 65_500  # pixels; a JPEG, as which frames are shown, has no more
MOST_FRAMES = 20_000  # 13 minutes at 25 per second
# by content: Pillow would hand PostScript of any name to another program
_PICTURES = ("BMP", "JPEG", "PNG", "TIFF")


def is_untrusted_video(path: Path) -> bool:
    """True for what ``is_video`` takes for a video, but a DICOM file that is compressed as a whole.

    Already the header of such a file, which is not read, may unpack to any size. Reading it as a volume refuses it.
    """
    deflated = path.is_file() and is_dicom(path) and is_deflated(path)
    return not deflated and is_video(path)


def check_untrusted_video(path: Path, root: Path) -> None:
    """Check a video before it is opened.

    Args:
        path: of a video, as :func:`is_untrusted_video` finds it, in ``root``.
        root: the folder with all that its sender may read.

    Raises:
        UserError: its frames are larger or more than :data:`MOST_FRAMES`; it is of another kind than its name says; it
            or a picture lies outside ``root``; or a DICOM file is deflated, or has frames of another size than its
            header states.
    """
    _check_place(path, root)
    if path.is_dir():
        _check_pictures(path, root)
    elif path.name.lower().endswith(containers.ENDINGS):
        _check_container(path)
    else:
        if is_deflated(path):
            raise UserError(f"{path} is compressed as a whole, which is not read here: save it without.")
        header = read_dataset(path)
        rows, columns, frames = (
            int(number(header, keyword, str(path)) or 1) for keyword in ("Rows", "Columns", "NumberOfFrames")
        )
        _check_size(path, rows, columns, frames)
        check_codestreams(path, header)


def _check_container(path: Path) -> None:
    format_name = containers.format_of(path)
    if format_name is None:  # FFmpeg would take playlists of any name for a video, and open files and addresses in them
        raise UserError(f"{path} is no mp4, mov, mkv or avi by its content: export it anew as one of them.")
    av = pyav()
    try:
        with av.open(str(path), format=format_name) as container:
            if not container.streams.video:
                raise UserError(f"{path} holds no video: give a file with frames.")
            stream = container.streams.video[0]
            rows, columns, frames = stream.codec_context.height, stream.codec_context.width, stream.frames
            _check_size(path, rows, columns, frames)
            for count, _ in enumerate(container.demux(stream)):  # of some files, the header states no number
                _check_size(path, rows, columns, count)
    except av.FFmpegError as error:
        raise UserError(f"{path} cannot be opened as a video: it is torn or no video, copy it again.") from error


def _check_pictures(folder: Path, root: Path) -> None:
    files = pictures_in(folder)
    for file in files:
        _check_place(file, root)
        try:
            with Image.open(file, formats=_PICTURES) as picture:  # its header alone
                columns, rows = picture.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"{file} cannot be read as a picture: copy it again.") from error
        _check_size(file, rows, columns, len(files))


def _check_place(path: Path, root: Path) -> None:
    if not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{path} leads elsewhere: put the video or its frames themselves into the folder.")


def _check_size(path: Path, rows: int, columns: int, frames: int) -> None:
    if max(rows, columns) > MOST_SIDE:
        raise UserError(
            f"{path} has frames of {rows} x {columns} pixels, but up to {MOST_SIDE} a side are taken: make it smaller."
        )
    if rows * columns > containers.MOST_PIXELS:
        raise UserError(
            f"{path} has frames of {rows} x {columns} pixels, but up to {containers.MOST_PIXELS / 1e6:.0f} million are "
            "taken: make it smaller."
        )
    if frames > MOST_FRAMES:
        raise UserError(f"{path} has more than {MOST_FRAMES} frames: cut out the part that you need.")
