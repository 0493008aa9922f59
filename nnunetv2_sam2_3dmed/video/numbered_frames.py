"""Frames in a folder of numbered pictures, as SAM 2, DAVIS and MedSAM2 have them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.video.video import Video

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
_LAST_NUMBER = re.compile(r"(\d+)\D*$")
_NOT_8_BIT = ("I", "I;16", "I;16B", "I;16L", "F")


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures in a folder, without hidden ones, in the order of their names."""
    return sorted(file for file in folder.glob("[!.]*") if file.suffix.lower() in ENDINGS and file.is_file())


def numbered(folder: Path) -> dict[int, Path]:
    """Return the pictures in a folder by the last number in their names, in that order.

    Raises:
        UserError: a name has no number, or two have the same.
    """
    found: dict[int, Path] = {}
    for file in pictures_in(folder):
        number = _LAST_NUMBER.search(file.stem)
        if number is None:
            raise UserError(f"{file} has no number in its name: number the frames, as in 00000.jpg.")
        other = found.setdefault(int(number[1]), file)
        if other != file:
            raise UserError(f"{other} and {file.name} have the same number: keep one of them.")
    return dict(sorted(found.items()))


def read_numbered_frames(folder: Path) -> Video:
    """Open a folder of pictures, of which only the first one is read.

    Raises:
        UserError: there are none, their names have no numbers, or the first one cannot be read.
    """
    files = numbered(folder)
    if not files:
        raise UserError(f"{folder} has no frames: give a folder with {', '.join(ENDINGS)}.")
    source = PictureFrames(list(files.values()))
    first = source.read(0)
    numbers = list(files)
    steps = np.diff(numbers)
    notes: tuple[str, ...] = ()
    if len(set(steps)) > 1:
        behind = numbers[int(np.argmax(steps > steps.min())) + 1]
        notes = (
            f"the numbers of its frames have gaps, the first one before {behind}: frames are counted from 0 without "
            "gaps.",
        )
    return Video(folder.name, folder, (len(files), first.shape[0], first.shape[1]), source, notes=notes)


class PictureFrames:
    """Decoder of pictures.

    Args:
        files: in the order of the frames.
    """

    def __init__(self, files: list[Path]):
        self.files = files

    def decode(self, index: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the frame ``index``.

        Raises:
            UserError: it cannot be read.
        """
        yield index, self.read(index)

    def read(self, index: int) -> np.ndarray:
        """Return a frame (rows, columns, 3), as SAM 2's loader opens it.

        Raises:
            UserError: it cannot be read, or has more than 8 bits per channel.
        """
        file = self.files[index]
        try:
            with Image.open(file) as picture:
                if picture.mode in _NOT_8_BIT:
                    raise UserError(f"{file} has more than 8 bits per pixel: convert the frames to 8 bits.")
                return np.array(picture.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{file} cannot be read as a picture ({error}): copy it again.") from error
