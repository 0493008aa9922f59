"""Segmentation files, read with nnU-Net's readers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.exact_paths import checked_paths

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

_LARGEST = 2**24  # from which on single precision, which nnU-Net's readers return, holds several labels as one


@dataclass(frozen=True)
class Segmentation:
    """A label map and its place in space.

    Attributes:
        labels: label values, integers, of shape (D, H, W), or (H, W) for a two-dimensional image.
        spacing_mm: voxel spacing in mm along each axis of :attr:`labels`, in its order.
        origin: physical position of the first voxel in mm; None if the file format has none.
        direction: direction cosines as the file format orders them, flattened; None if it has none.
    """

    labels: np.ndarray
    spacing_mm: tuple[float, ...]
    origin: np.ndarray | None = None
    direction: np.ndarray | None = None


def read_segmentation(file: Path, reader: BaseReaderWriter) -> Segmentation:
    """Read a label map.

    Raises:
        UserError: if the file cannot be read, is incomplete or damaged, or holds more than one volume or values that
            are no labels.
    """
    try:
        with checked_paths([file]) as (path,):
            volumes, properties = reader.read_seg(path)
    except UserError:
        raise
    except Exception as error:  # every reader raises exceptions of its own
        raise UserError(f"{file} cannot be read as a segmentation ({error}): replace or remove it.") from error
    if len(volumes) != 1:
        raise UserError(f"{file} holds {len(volumes)} volumes, expected one: give one label map per file.")
    labels = as_integers(volumes[0], file)
    del volumes  # a float32 volume, four times as large
    spacing = tuple(float(s) for s in properties["spacing"])
    if labels.shape[0] == 1 and spacing[0] > 100 * max(spacing[1:]):
        # nnU-Net marks a 2D image by a made-up spacing of 999 along an axis of length 1; as a volume, all of
        # a mask's inside would be surface
        labels, spacing = labels[0], spacing[1:]
    return Segmentation(labels, spacing, *position_of(properties))


def as_integers(values: np.ndarray, file: Path) -> np.ndarray:
    """Label values, which nnU-Net's readers return as float32, in the smallest integer type that holds them."""
    low, high = float(values.min()), float(values.max())  # NaN if any value is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"{file} holds values that are not finite, expected label values: replace it.")
    if values.dtype == np.float32 and max(-low, high) >= _LARGEST:
        raise UserError(
            f"{file} holds the label {max(-low, high):.0f}, but labels are below {_LARGEST}: renumber them."
        )
    labels = values.astype(np.result_type(np.min_scalar_type(int(low)), np.min_scalar_type(int(high))))
    for some, integers in zip(values, labels, strict=True):  # by slices, to need no second volume
        if (some != integers).any():
            value = some[some != integers].flat[0]
            raise UserError(f"{file} holds the value {value:.9g}, expected label values, which are whole: replace it.")
    return labels


def position_of(properties: Mapping[str, Any]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return origin in mm (3) and direction (9, row by row) from the properties of any of nnU-Net's readers, or None.

    Of images in 2D, SimpleITK has 2 and 4 numbers.
    """
    if "sitk_stuff" in properties:
        image = properties["sitk_stuff"]
        return np.asarray(image["origin"], float), np.asarray(image["direction"], float)
    if "nibabel_stuff" in properties:
        image = properties["nibabel_stuff"]
        affine = np.asarray(image.get("reoriented_affine", image["original_affine"]), float)
        columns = affine[:3, :3]
        return affine[:3, 3], (columns / np.linalg.norm(columns, axis=0)).ravel()
    return None, None
