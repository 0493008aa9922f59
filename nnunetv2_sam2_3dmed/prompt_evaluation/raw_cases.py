"""Raw cases of an nnU-Net dataset, and header checks that take seconds and come before any computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.exact_paths import exactly
from nnunetv2_sam2_3dmed.images.integrity import check_length
from nnunetv2_sam2_3dmed.images.nifti import check_itk_reads
from nnunetv2_sam2_3dmed.images.volumes import READABLE, Volume, volume_from_array


@dataclass(frozen=True)
class RawCase:
    """Raw files of a training case.

    Attributes:
        name: case identifier.
        image: file of the channel that is prompted.
        label: file of the ground truth.
    """

    name: str
    image: Path
    label: Path


def training_files(raw_folder: Path, dataset_json: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return nnU-Net's list of training cases: ``images`` (one file per channel) and ``label`` by case identifier.

    Raises:
        UserError: the dataset's folder in nnUNet_raw does not exist.
    """
    if not raw_folder.is_dir():
        raise UserError(f"{raw_folder} does not exist, but the raw images are prompted: set nnUNet_raw.")
    known = get_filenames_of_train_images_and_targets(str(raw_folder), deepcopy(dict(dataset_json)))
    # macOS leaves files ._NAME on foreign disks
    return {name: files for name, files in known.items() if not name.startswith(".")}


def raw_cases(
    raw_folder: Path, dataset_json: Mapping[str, Any], names: Sequence[str], channel: int = 0
) -> list[RawCase]:
    """Return training cases by their identifiers.

    Args:
        raw_folder: the dataset's folder in nnUNet_raw.
        dataset_json: content of its dataset.json.
        names: case identifiers.
        channel: index of the image channel that is prompted.

    Raises:
        UserError: the folder, a case or the channel does not exist.
    """
    known = training_files(raw_folder, dataset_json)
    missing = [name for name in names if name not in known]
    if missing:
        raise UserError(f"{raw_folder} lacks the images of {listed(missing)}: put them back.")
    cases = []
    for name in names:
        images = known[name]["images"]
        if not 0 <= channel < len(images):
            raise UserError(f"the channel is {channel}, but {name} has {len(images)}: give one from 0.")
        cases.append(RawCase(name, Path(images[channel]), Path(known[name]["label"])))
    return cases


def check_headers(cases: Sequence[RawCase]) -> list[str]:
    """Check that images and labels exist, are volumes, and have the same voxels.

    Returns:
        Warnings about labels at another place in the world than their images. nnU-Net warns of them too, and uses the
        voxels.

    Raises:
        UserError: a case cannot be prompted.
    """
    problems, elsewhere = [], {}
    for case in cases:
        try:
            image, label = read_header(case.image), read_header(case.label)
            check_same_voxels(label, image)
        except UserError as error:
            problems.append(f"{case.name} cannot be prompted: {error}")
            continue
        apart = _apart_mm(label, image)
        if apart > 0.5 * min(image.spacing):
            elsewhere[case.name] = apart
    if problems:
        more = f" (as are {len(problems) - 1} more cases)" if len(problems) > 1 else ""
        raise UserError(f"{problems[0].removesuffix('.')}{more}.")
    if not elsewhere:
        return []
    return [
        f"the ground truth of {listed(list(elsewhere))} lies elsewhere than the image (up to "
        f"{max(elsewhere.values()):.1f} mm apart), but has the same voxels: as in nnU-Net, the image's grid counts."
    ]


def read_header(path: Path) -> Volume:
    """Return the grid of a file as a volume of zeros that takes no memory.

    Raises:
        UserError: the file is missing or incomplete, or is no image of one channel in three dimensions.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}.")
    if not path.name.lower().endswith(READABLE):
        raise UserError(f"{path} has a format that cannot be read, expected one of {', '.join(READABLE)}.")
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


def check_same_voxels(label: Volume, image: Volume) -> None:
    """Check that a label map has the shape and spacing of an image; origin and direction may differ.

    Raises:
        UserError: shape or spacing differ.
    """
    if label.shape != image.shape:
        raise UserError(f"{label.name} has {label.shape} voxels (z, y, x), but {image.name} has {image.shape}.")
    longer = np.abs(np.subtract(label.spacing, image.spacing)) * (np.array(image.shape) - 1)
    if longer.max() > 0.5 * min(image.spacing):
        raise UserError(f"{label.name} has the spacing {label.spacing} mm (z, y, x), but {image.name} {image.spacing}.")


def listed(names: Sequence[str]) -> str:
    """Join the first three names, and the number of further ones."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _apart_mm(label: Volume, image: Volume) -> float:
    """Return the largest distance between corresponding corners, of which four that span the volume are compared."""
    last = np.array(image.shape) - 1
    corners = np.array([[0, 0, 0], last, [last[0], 0, 0], [0, last[1], 0]])
    return float(np.linalg.norm(label.to_physical(corners) - image.to_physical(corners), axis=1).max())
