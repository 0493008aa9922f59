"""Images and segmentations of a case, turned so that they can be looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.segmentations import as_integers
from nnunetv2_sam2_3dmed.images.exact_paths import checked_paths

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter


@dataclass(frozen=True)
class View:
    """How the voxels of a case's files become (slices, rows, columns).

    Slices are axial, head last; in a slice, front is up and the patient's left is right, as radiologists look at
    them. Where the axial axis does not have the coarsest spacing, slices lie across that one, head up; coronal ones run
    from front to back. (columns, rows, slices) is thus right-handed, so that a surface is no mirror image.

    Attributes:
        axes: of the file's array, in the new order.
        flipped: which of the new axes run the other way.
        spacing_mm: along the new axes.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    spacing_mm: tuple[float, float, float]

    def __call__(self, volume: np.ndarray) -> np.ndarray:
        """``volume``, (D, H, W) as in the file, as (slices, rows, columns)."""
        turned = volume.transpose(self.axes)
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]


def view_of(properties: Mapping[str, Any]) -> View:
    """The view for what one of nnU-Net's readers read; without directions in the file, its axes stay as they are."""
    spacing = [float(s) for s in properties["spacing"]]
    matrix = _directions(properties)
    if matrix is None:
        return View((0, 1, 2), (False, False, False), (spacing[0], spacing[1], spacing[2]))
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
    return View(
        (axes[0], axes[1], axes[2]),
        (flipped[0], flipped[1], flipped[2]),
        (spacing[axes[0]], spacing[axes[1]], spacing[axes[2]]),
    )


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


def read_image(file: Path, reader: BaseReaderWriter, view: View | None = None) -> tuple[np.ndarray, View]:
    """The first channel of an image as (slices, rows, columns), and the view that made it so.

    Args:
        file: to read.
        reader: nnU-Net's.
        view: of a file with the same voxels, whose header counts; default: by the file's own header.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with checked_paths([file], finite=False) as paths:
            channels, properties = reader.read_images(paths)
    except UserError:
        raise
    except Exception as error:  # every reader raises exceptions of its own
        raise UserError(f"{file} cannot be read as an image ({error}): replace it.") from error
    view = view or view_of(properties)
    return view(channels[0]), view


def read_labels(file: Path, reader: BaseReaderWriter, view: View | None = None) -> tuple[np.ndarray, View]:
    """A segmentation as (slices, rows, columns), in the smallest integer type, and the view that made it so.

    Args:
        file: to read.
        reader: nnU-Net's.
        view: of a file with the same voxels, whose header counts; default: by the file's own header.

    Raises:
        UserError: the file cannot be read, or holds values that are no labels.
    """
    try:
        with checked_paths([file]) as (path,):
            channels, properties = reader.read_seg(path)
    except UserError:
        raise
    except Exception as error:  # every reader raises exceptions of its own
        raise UserError(f"{file} cannot be read as a segmentation ({error}): replace it.") from error
    view = view or view_of(properties)
    return view(as_integers(channels[0], file)), view


def any_of(volumes: Iterable[np.ndarray], values: Collection[int]) -> np.ndarray:
    """Where any of the label maps has one of the values; one map after the other, to need little memory.

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
