"""Voxel grids of a prediction and its ground truth: equal, slightly off, or different."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.segmentations import Segmentation, position_of, read_segmentation

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

# differences by rounding to float32 and saving again, which are not reported
SPACING_TOLERANCE = 1e-3  # relative
DIRECTION_TOLERANCE = 1e-3  # of direction cosines
ORIGIN_TOLERANCE = 1e-2  # voxels

LARGEST_OFFSET = 1.0  # voxels, of predictions that need not be made from the dataset's own images
NAMED = 5  # cases in a warning


@dataclass(frozen=True)
class GridDifference:
    """Difference between the grids of a prediction and its ground truth, both of the same shape.

    Attributes:
        differs: the first of "spacing", "origin" and "direction" that does.
        gt: its value in the ground truth.
        prediction: its value in the prediction.
        apart_mm: the largest distance between corresponding corners of the two volumes.
        apart_voxels: the same in voxels of the ground truth, along the axis on which it is largest.
    """

    differs: str
    gt: tuple[float, ...]
    prediction: tuple[float, ...]
    apart_mm: float
    apart_voxels: float

    def __str__(self) -> str:
        """A few words, such as "origin, 0.50 mm apart"."""
        values = f" {_by(self.prediction)} instead of {_by(self.gt)} mm" if self.differs == "spacing" else ""
        return f"{self.differs}{values}, {self.apart_mm:.2f} mm apart"


def grid_difference(
    gt: Segmentation, gt_file: Path, prediction: Segmentation, prediction_file: Path
) -> GridDifference | None:
    """Compare the grids of two segmentations; None where they are equal up to rounding in the files.

    Raises:
        UserError: the shapes differ, so that voxels cannot be matched by their index.
    """
    if gt.labels.shape != prediction.labels.shape:
        raise UserError(
            f"{prediction_file} has shape {prediction.labels.shape}, but its ground truth {gt_file} has "
            f"{gt.labels.shape}: give predictions of the image that this ground truth belongs to, or resample them."
        )
    differing = _differing(gt, prediction)
    if differing is None:
        return None
    corners = np.array(list(itertools.product(*((0, length - 1) for length in gt.labels.shape))), dtype=float)
    steps, origin = _affine(gt)
    other_steps, other_origin = _affine(prediction)
    # a slice in space has no extent along the axes that its array lacks, and 2D files have no position along axis 0
    corners = np.pad(corners, ((0, 0), (len(steps), 0)))[:, -len(steps) :]
    apart = corners @ (other_steps - steps) + (other_origin - origin)
    return GridDifference(
        *differing,
        apart_mm=float(np.linalg.norm(apart, axis=1).max()),
        apart_voxels=float(np.abs(apart @ np.linalg.inv(steps)).max()),
    )


def elsewhere(difference: GridDifference, gt_file: Path, prediction_file: Path) -> UserError:
    """The error of a prediction that lies elsewhere than its ground truth."""
    return UserError(
        f"{prediction_file} has {difference.differs} {difference.prediction}, but its ground truth {gt_file} has "
        f"{difference.gt}, which puts them {difference.apart_mm:.2f} mm ({difference.apart_voxels:.1f} voxels) "
        "apart: resample one of them, or correct the header that is wrong; a prediction on the grid of its image in "
        "nnUNet_raw is compared voxel by voxel."
    )


def lies_on(image_file: Path, prediction_file: Path, reader: BaseReaderWriter) -> bool:
    """Tell if a prediction has the voxel grid of an image, as nnU-Net's predictions of that image have."""
    try:
        channels, properties = reader.read_images([str(image_file)])
    except Exception:  # every reader raises exceptions of its own; without an image nothing speaks for the prediction
        return False
    prediction = read_segmentation(prediction_file, reader)
    voxels = channels[0] if prediction.labels.ndim == channels[0].ndim else channels[0][0]
    spacing = tuple(float(s) for s in properties["spacing"])[-voxels.ndim :]
    image = Segmentation(voxels, spacing, *position_of(properties))
    return voxels.shape == prediction.labels.shape and _differing(image, prediction) is None


def offset_warning(off_grid: Mapping[str, Mapping[str, GridDifference]]) -> str | None:
    """One sentence on all predictions that were compared although they lie off their ground truth's grid.

    Args:
        off_grid: the differences by method and case.
    """
    by_case: dict[str, dict[str, GridDifference]] = {}
    for method, differences in off_grid.items():
        for case, difference in differences.items():
            by_case.setdefault(case, {})[method] = difference
    if not by_case:
        return None
    worst = {case: max(found.values(), key=lambda d: d.apart_mm) for case, found in by_case.items()}
    first = sorted(worst, key=lambda case: (-worst[case].apart_mm, case))[:NAMED]
    named = "; ".join(f"{case} ({worst[case]})" for case in first)
    more = f"; and {len(worst) - len(first)} more, less far apart" if len(worst) > len(first) else ""
    methods = [method for method, differences in off_grid.items() if differences]
    return (
        f"predictions of {', '.join(methods)} have the shape of their ground truth, but another place in space, in "
        f"{len(worst)} case{'s' * (len(worst) != 1)}: {named}{more}. They were compared voxel by voxel, as nnU-Net "
        "does, with distances in the ground truth's spacing: check that image and ground truth lie on each other."
    )


def _differing(gt: Segmentation, prediction: Segmentation) -> tuple[str, tuple, tuple] | None:
    """The first property that differs by more than rounding, with the true and the predicted value."""
    if not np.allclose(prediction.spacing_mm, gt.spacing_mm, rtol=SPACING_TOLERANCE, atol=0):
        return "spacing", gt.spacing_mm, prediction.spacing_mm
    allowed = {"origin": ORIGIN_TOLERANCE * min(gt.spacing_mm), "direction": DIRECTION_TOLERANCE}
    for name, tolerance in allowed.items():
        true_value, predicted_value = getattr(gt, name), getattr(prediction, name)
        if true_value is not None and not np.allclose(predicted_value, true_value, rtol=0, atol=tolerance):
            return name, tuple(true_value.tolist()), tuple(predicted_value.tolist())
    return None


def _affine(segmentation: Segmentation) -> tuple[np.ndarray, np.ndarray]:
    """The steps in mm, one row for each axis of the array, and the position of voxel 0."""
    spacing = segmentation.spacing_mm
    if segmentation.origin is None or segmentation.direction is None:
        return np.diag(spacing), np.zeros(len(spacing))
    dimensions = math.isqrt(segmentation.direction.size)
    # both readers' files have their axes in the opposite order of the array
    rows = segmentation.direction.reshape(dimensions, dimensions).T[::-1]
    along = ((1.0,) * dimensions + tuple(spacing))[-dimensions:]
    return rows * np.array(along)[:, None], segmentation.origin


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
