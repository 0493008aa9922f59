"""Whether the files of cases can be prompted, from their headers: in seconds, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.exact_paths import exactly
from nnunetv2_sam2_3dmed.images.integrity import check_length
from nnunetv2_sam2_3dmed.images.nifti import check_itk_reads
from nnunetv2_sam2_3dmed.images.volumes import READABLE, Volume, volume_from_array

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.prompt_evaluation.cases import RawCase


def check_headers(cases: Sequence[RawCase]) -> list[str]:
    """That images and truths are there, are volumes, and have the same voxels.

    Returns:
        Warnings: truths that lie elsewhere than their images. nnU-Net warns of them too, and goes by the voxels.

    Raises:
        UserError: a case cannot be prompted.
    """
    problems, elsewhere = [], {}
    for case in cases:
        try:
            image, truth = read_header(case.image), read_header(case.truth)
            check_same_voxels(truth, image)
        except UserError as error:
            problems.append(f"{case.name} cannot be prompted: {error}")
            continue
        apart = _apart_mm(truth, image)
        if apart > 0.5 * min(image.spacing):
            elsewhere[case.name] = apart
    if problems:
        more = f" (so it is with {len(problems) - 1} more cases)" if len(problems) > 1 else ""
        raise UserError(f"{problems[0].removesuffix('.')}{more}.")
    if not elsewhere:
        return []
    return [
        f"the truth of {listed(list(elsewhere))} lies elsewhere than the image (up to {max(elsewhere.values()):.1f} mm "
        "apart), but has the same voxels: as in nnU-Net, the image's grid counts."
    ]


def read_header(path: Path) -> Volume:
    """The grid of a file, in a volume whose voxels are all 0 and take no memory.

    Raises:
        UserError: there is no such file, it is incomplete, or it is no image of one channel in three dimensions.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}.")
    if not path.name.lower().endswith(READABLE):
        raise UserError(f"{path} is no kind of image that can be read: {', '.join(READABLE)} can.")
    check_length(path)
    check_itk_reads(path)
    reader = sitk.ImageFileReader()
    try:
        with exactly(path) as exact:
            reader.SetFileName(str(exact))
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise UserError(f"{path} cannot be read as an image.") from error
    size, dimensions = reader.GetSize(), reader.GetDimension()
    if dimensions < 3 or any(length > 1 for length in size[3:]) or reader.GetNumberOfComponents() != 1:
        raise UserError(
            f"{path.name} has {dimensions} dimensions and {reader.GetNumberOfComponents()} channels, but a volume of "
            "one channel is needed."
        )
    return volume_from_array(
        np.broadcast_to(np.uint8(0), size[2::-1]),
        reader.GetSpacing()[2::-1],
        reader.GetOrigin()[:3],
        np.array(reader.GetDirection()).reshape(dimensions, dimensions)[:3, :3],
        name=path.name,
    )


def check_same_voxels(truth: Volume, image: Volume) -> None:
    """That a truth has a voxel for each of an image, of the same size; where it lies does not matter.

    Raises:
        UserError: shape or spacing differ.
    """
    if truth.shape != image.shape:
        raise UserError(f"{truth.name} has {truth.shape} voxels (z, y, x), but {image.name} has {image.shape}.")
    longer = np.abs(np.subtract(truth.spacing, image.spacing)) * (np.array(image.shape) - 1)
    if longer.max() > 0.5 * min(image.spacing):
        raise UserError(f"{truth.name} has the spacing {truth.spacing} mm (z, y, x), but {image.name} {image.spacing}.")


def listed(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _apart_mm(truth: Volume, image: Volume) -> float:
    """How far corners of the two are apart, at most: three that do not lie on a line, and one beside their plane."""
    last = np.array(image.shape) - 1
    corners = np.array([[0, 0, 0], last, [last[0], 0, 0], [0, last[1], 0]])
    return float(np.linalg.norm(truth.to_physical(corners) - image.to_physical(corners), axis=1).max())
