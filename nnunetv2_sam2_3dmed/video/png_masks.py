"""Masks as folders of indexed PNG files, one per frame, as DAVIS, SAM 2 and MedSAM2 have them."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from nnunetv2_sam2_3dmed.errors import UserError

MOST_OBJECTS = 255  # that an index of 8 bits can tell apart


def davis_palette() -> list[int]:
    """The palette of DAVIS and PASCAL VOC as a flat list: the bits of an index in turn go to red, green and blue."""
    colours = np.zeros((256, 3), dtype=int)
    for index in range(256):
        for bit in range(8):
            for channel in range(3):
                colours[index, channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return colours.reshape(-1).tolist()


def check_new_folder(folder: Path) -> None:
    """Refuse a folder that has files, which masks would be mixed with.

    Raises:
        UserError: it has, or it is a file.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"the output {folder} is there already: give the name of a new or empty folder.")


def write_png_masks(folder: Path, labels: Iterable[np.ndarray], names: Iterable[str] | None = None) -> None:
    """Write ``00000.png``, ``00001.png`` and so on into a new folder, which appears whole or not at all.

    Args:
        folder: new or empty.
        labels: (rows, columns) for each frame in order, object numbers to 255 and 0.
        names: of the files without ending; default: the frames' numbers.

    Raises:
        UserError: the folder has files, cannot be written, or an object has a higher number.
    """
    check_new_folder(folder)
    beside = folder.with_name(f".{uuid.uuid4().hex}")
    palette = davis_palette()
    try:
        beside.mkdir(parents=True)
        given = iter(names) if names is not None else None
        for index, mask in enumerate(labels):
            if mask.max(initial=0) > MOST_OBJECTS:
                raise UserError(
                    f"object {mask.max()} cannot be written as PNG, which has numbers to {MOST_OBJECTS}: write .nii.gz."
                )
            picture = Image.fromarray(mask.astype(np.uint8), mode="P")
            picture.putpalette(palette)
            picture.save(beside / f"{next(given) if given else f'{index:05d}'}.png")
        os.replace(beside, folder)
    except OSError as error:
        raise UserError(f"the masks cannot be written to {folder}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def are_black_and_white(files: Iterable[Path]) -> bool:
    """True for masks of one object as many tools write it, with grey levels 0 and 255 alone in all files.

    Raises:
        UserError: a file cannot be read, or is in colour.
    """
    return all(not indexed and set(np.unique(mask)) <= {0, 255} for mask, indexed in map(_read, files))


def read_png_mask(file: Path, black_and_white: bool | None = None) -> np.ndarray:
    """Read a mask (rows, columns) of object numbers: the indices of a palette, or grey levels.

    Args:
        file: of one frame.
        black_and_white: 255 is object 1, as :func:`are_black_and_white` finds for all masks of a video. Default: as it
            finds for this file.

    Raises:
        UserError: the file cannot be read, or is in colour.
    """
    mask, indexed = _read(file)
    if black_and_white is None:
        black_and_white = not indexed and set(np.unique(mask)) <= {0, 255}
    return (mask > 0).astype(np.uint8) if black_and_white else mask


def _read(file: Path) -> tuple[np.ndarray, bool]:
    """Return the values of a mask, and whether they are indices of a palette."""
    try:
        with Image.open(file) as picture:
            if picture.mode not in ("P", "L", "1"):
                raise UserError(f"{file} is a picture in mode {picture.mode}, but a mask must be indexed or grey.")
            return np.array(picture).astype(np.uint8), picture.mode == "P"
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file} cannot be read as a mask ({error}): copy it again.") from error
