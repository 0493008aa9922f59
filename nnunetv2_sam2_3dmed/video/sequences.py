"""Frames of NIfTI, NRRD and MetaImage files whose last axis is time, such as CAMUS' half sequences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.exact_paths import exactly
from nnunetv2_sam2_3dmed.images.integrity import check_content
from nnunetv2_sam2_3dmed.images.nifti import is_nifti
from nnunetv2_sam2_3dmed.images.volume import by
from nnunetv2_sam2_3dmed.images.volumes import READABLE
from nnunetv2_sam2_3dmed.images.windows import PERCENTILE, Window, choose_window
from nnunetv2_sam2_3dmed.video.video import FrameGrid, Video, as_colour

DARKEST_PEAK = 127  # of grey levels of 8 bits in a wider type; [0, 1] and other narrow ranges would be black
_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}  # NIfTI's units of time in xyzt_units


def read_sequence(path: Path) -> Video:
    """Open a file of three dimensions, of which the last one is time, or of four, of which the third has length 1.

    Its values are kept in memory, as they are stored. Bytes are shown as they are, as are other types from 0 to 255
    with a value above 127, and all else from its 0.5 to its 99.5 percentile.

    Raises:
        UserError: the file is no sequence of frames, or is damaged.
    """
    if not path.name.lower().endswith(READABLE):
        raise UserError(f"{path} is no sequence of frames: give {', '.join(READABLE)}.")
    check_content(path)
    try:
        with exactly(path) as exact:
            image = sitk.ReadImage(str(exact))
    except RuntimeError as error:
        raise UserError(f"{path} cannot be read as an image: copy it again.") from error
    array, spacing, origin, direction = _frames(image, path)
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise UserError(f"{path} has values that are NaN or infinite: replace them.")
    grid = FrameGrid(
        (float(spacing[2]), float(spacing[1]), float(spacing[0])),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        direction,
    )
    frames, rows, columns = array.shape[:3]
    return Video(path.name, path, (frames, rows, columns), StoredFrames(array), _times(path, frames), grid)


def _frames(image: sitk.Image, path: Path) -> tuple[np.ndarray, tuple, tuple, np.ndarray]:
    """Return (frames, rows, columns[, 3]), and spacing, origin and direction (3, 3) of x, y and time."""
    size, channels = image.GetSize(), image.GetNumberOfComponentsPerPixel()
    array = sitk.GetArrayFromImage(image)
    spacing, origin = image.GetSpacing(), image.GetOrigin()
    direction = np.array(image.GetDirection()).reshape(len(size), len(size))
    if len(size) == 4 and size[2] == 1:
        array = array[:, 0]
        spacing, origin, direction = (*spacing[:2], spacing[3]), origin[:3], direction[:3, :3]
    elif len(size) != 3:
        raise UserError(
            f"{path} has {len(size)} dimensions ({by(size)} voxels), which are no frames of one plane: give a sequence "
            "of three dimensions (columns, rows, time), or one volume of it without --video."
        )
    if channels not in (1, 3):
        raise UserError(f"{path} has {channels} channels per pixel, but frames have one or three: take some of them.")
    return array, spacing, origin, direction


def _times(path: Path, count: int) -> np.ndarray | None:
    """Return the frames' times in seconds, where the header of a NIfTI file of four dimensions states them."""
    if not is_nifti(path):
        return None
    import nibabel

    header: Any = nibabel.load(path).header  # type: ignore[attr-defined]
    unit = _SECONDS.get(int(header["xyzt_units"]) & 0x38)
    step = float(header["pixdim"][4])
    return None if unit is None or int(header["dim"][0]) < 4 or step <= 0 else np.arange(count) * step * unit


class StoredFrames:
    """Frames of an array.

    Args:
        array: (frames, rows, columns) or (frames, rows, columns, 3), any numbers.
    """

    def __init__(self, array: np.ndarray):
        self._array = array
        self.window: Window | None = None
        grey = array.dtype == np.uint8 or (array.min() >= 0 and DARKEST_PEAK < array.max() <= 255)
        if not grey:
            self.window = choose_window(array, PERCENTILE)

    def decode(self, index: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the frame ``index``."""
        frame = self._array[index]
        if self.window is not None:
            frame = self.window.grey(frame)
        elif frame.dtype != np.uint8:
            frame = np.rint(frame).astype(np.uint8)
        yield index, frame if frame.ndim == 3 else as_colour(frame)
