"""The image type: voxels of one channel with their geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.orientation import View, view_along


@dataclass(frozen=True)
class Volume:
    """An image of one channel.

    Attributes:
        array: intensities (z, y, x), as SimpleITK and nnU-Net order them.
        spacing: millimetres between voxels, (z, y, x).
        origin: the centre of voxel (0, 0, 0), (x, y, z) in mm, LPS.
        direction: (3, 3), the unit vectors of the index axes x, y, z in its columns, LPS.
        modality: DICOM's, such as "CT" or "MR"; None if unknown.
        name: in messages and file names.
        dicom_files: the file of each slice z of a DICOM series; empty otherwise. That of a multi-frame file repeats.
        dicom_frames: the index from 0 of each slice's frame in its file.
        dicom_uids: the SOP Instance UID of each slice's file.
        inverted: low values are to be shown bright (DICOM's MONOCHROME1).
        notes: assumptions on the geometry, for the user.
    """

    array: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: np.ndarray
    modality: str | None = None
    name: str = "image"
    dicom_files: tuple[Path, ...] = ()
    dicom_frames: tuple[int, ...] = ()
    dicom_uids: tuple[str, ...] = ()
    inverted: bool = False
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = self.array.shape
        return z, y, x

    def view(self, axis: int) -> View:
        """The view in which the network sees slices along ``axis``."""
        return view_along(self.direction, axis)

    def to_physical(self, points: np.ndarray) -> np.ndarray:
        """Voxel coordinates (N, 3) in the order z, y, x -> points (N, 3), x, y, z in mm, LPS."""
        steps = np.asarray(points, dtype=float)[:, ::-1] * np.array(self.spacing)[::-1]
        return steps @ self.direction.T + np.array(self.origin)

    def to_voxels(self, points: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_physical`."""
        steps = (np.asarray(points, dtype=float) - np.array(self.origin)) @ np.linalg.inv(self.direction).T
        return (steps / np.array(self.spacing)[::-1])[:, ::-1]


def volume_from_array(
    array: np.ndarray,
    spacing: Sequence[float],
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    direction: np.ndarray | Sequence[float] | None = None,
    modality: str | None = None,
    name: str = "image",
) -> Volume:
    """Check an array and its geometry.

    Args:
        array: (z, y, x).
        spacing: millimetres, (z, y, x).
        origin: (x, y, z) in mm, LPS.
        direction: nine values or (3, 3) as ITK has them; None for an image along the axes of the patient.
        modality: DICOM's, if known.
        name: for messages.

    Raises:
        UserError: the array is no image of three dimensions, is empty, or holds NaN or infinite values, or the
            geometry is invalid.
    """
    array = np.asarray(array)
    if array.ndim != 3:
        raise UserError(
            f"{name} has {array.ndim} dimensions ({by(array.shape)}), but an image of three is needed: take one "
            "channel or one time point."
        )
    if not array.size:
        raise UserError(f"{name} has no voxels ({by(array.shape)}): give an image that is not empty.")
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise UserError(f"{name} holds values of type {array.dtype}, but numbers are needed.")
    if np.issubdtype(array.dtype, np.floating):
        # slice by slice: a mask of a whole volume is large
        wrong = sum(int(np.count_nonzero(~np.isfinite(plane))) for plane in array)
        if wrong:
            raise UserError(
                f"{name} has {wrong} voxels that are NaN or infinite: replace them, for example with the intensity "
                "of air."
            )
    sizes = tuple(float(value) for value in spacing)
    if len(sizes) != 3 or not all(np.isfinite(value) and value > 0 for value in sizes):
        raise UserError(
            f"{name}: spacing is {tuple(spacing)}, but must be three distances above 0 mm, in the order z, y, x."
        )
    matrix = np.eye(3) if direction is None else np.asarray(direction, dtype=float).reshape(-1)
    if matrix.size != 9 or not np.allclose(matrix.reshape(3, 3).T @ matrix.reshape(3, 3), np.eye(3), atol=1e-3):
        raise UserError(f"{name}: direction must be a 3 x 3 matrix whose columns are orthogonal unit vectors.")
    x, y, z = (float(value) for value in origin)
    return Volume(array, (sizes[0], sizes[1], sizes[2]), (x, y, z), matrix.reshape(3, 3), modality, name)


def by(shape: Sequence[int]) -> str:
    """Lengths in a sentence, such as "24 x 20 x 6"."""
    return " x ".join(str(length) for length in shape)
