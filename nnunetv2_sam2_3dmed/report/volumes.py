"""Images and segmentations of a case, turned as radiologists look at them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.segmentations import as_integers
from nnunetv2_sam2_3dmed.images.exact_paths import checked_paths
from nnunetv2_sam2_3dmed.images.orientation import View

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter


def view_of(properties: Mapping[str, Any]) -> tuple[View, tuple[float, float, float]]:
    """The view as slices, rows and columns of an array from one of nnU-Net's readers.

    Slices are axial, head last; in a slice, front is up and the patient's left is right, as radiologists look at
    them. Where the axial axis does not have the coarsest spacing, slices lie across that one, head up; coronal ones run
    from front to back. (columns, rows, slices) is thus right-handed, so that a surface is no mirror image. Without
    directions in the file, its axes stay as they are.

    Returns:
        The view, and the spacing in mm of slices, rows and columns.
    """
    spacing = [float(s) for s in properties["spacing"]]
    matrix = _directions(properties)
    if matrix is None:
        return View((0, 1, 2), (False, False, False)), (spacing[0], spacing[1], spacing[2])
    # file axis (x, y, z) -> world axis, and whether it runs towards right, front and head
    orientation = nib.orientations.io_orientation(matrix)
    file_axis = {int(world): 2 - axis for axis, (world, _) in enumerate(orientation)}  # arrays are (z, y, x)
    rising = {int(world): step > 0 for world, step in orientation}
    x, y, z = 0, 1, 2
    slices = max((z, y, x), key=lambda world: round(spacing[file_axis[world]], 3))
    order = {z: (z, y, x), y: (y, z, x), x: (x, z, y)}[slices]
    # slices rise, but not coronal ones; rows run down from front or head, columns to the left or from front to back
    rise = {slices} - {y}
    flipped = tuple(rising[world] != (world in rise) for world in order)
    axes = tuple(file_axis[world] for world in order)
    view = View((axes[0], axes[1], axes[2]), (flipped[0], flipped[1], flipped[2]))
    return view, (spacing[axes[0]], spacing[axes[1]], spacing[axes[2]])


def _directions(properties: Mapping[str, Any]) -> np.ndarray | None:
    """World directions (right, front, head: +) of the file's axes x, y, z, as an affine matrix; None if not known."""
    affine = np.eye(4)
    if "sitk_stuff" in properties:
        direction = np.asarray(properties["sitk_stuff"]["direction"], float)
        if direction.size != 9:  # a 2D image
            return None
        affine[:3, :3] = np.diag([-1, -1, 1]) @ direction.reshape(3, 3)  # SimpleITK's + are left, back and head
        return affine
    if "nibabel_stuff" in properties:
        stuff = properties["nibabel_stuff"]
        return np.asarray(stuff.get("reoriented_affine", stuff["original_affine"]), float)
    return None


def read_image(file: Path, reader: BaseReaderWriter) -> np.ndarray:
    """The first channel of an image, with its axes as in the file.

    Raises:
        UserError: the file cannot be read.
    """
    return _read(file, reader, "an image")[0]


def read_labels(file: Path, reader: BaseReaderWriter) -> tuple[np.ndarray, Mapping[str, Any]]:
    """A segmentation in the smallest integer type, with its axes as in the file, and nnU-Net's properties of it.

    Raises:
        UserError: the file cannot be read, or holds values that are no labels.
    """
    labels, properties = _read(file, reader, "a segmentation")
    return as_integers(labels, file), properties


def _read(file: Path, reader: BaseReaderWriter, kind: str) -> tuple[np.ndarray, Mapping[str, Any]]:
    try:
        with checked_paths([file], finite=kind != "an image") as paths:
            channels, properties = reader.read_images(paths) if kind == "an image" else reader.read_seg(paths[0])
    except UserError:
        raise
    except Exception as error:  # every reader raises exceptions of its own
        raise UserError(f"{file} cannot be read as {kind} ({error}): replace it.") from error
    return channels[0], properties


def any_of(volumes: Iterable[np.ndarray], values: Collection[int]) -> np.ndarray:
    """Mask of the voxels in which any label map has one of the values; one map at a time, to save memory.

    Raises:
        ValueError: there are no label maps.
    """
    found: np.ndarray | None = None
    for volume in volumes:
        mask = np.isin(volume, list(values))
        found = mask if found is None else np.logical_or(found, mask, out=found)
    if found is None:
        raise ValueError("there are no label maps, but at least one is needed.")
    return found
