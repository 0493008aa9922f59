"""The evaluation of one case: its truth against the prediction of every method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunetv2_sam2_3dmed.evaluation.grids import LARGEST_OFFSET, GridDifference, elsewhere, grid_difference, lies_on
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics, compute_metrics
from nnunetv2_sam2_3dmed.evaluation.segmentations import read_segmentation

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter


@dataclass(frozen=True)
class Case:
    """A case and its files.

    Attributes:
        name: its identifier.
        truth: the file of its true segmentation.
        predictions: one file per method.
        image: the file of its first channel, where that is known.
    """

    name: str
    truth: Path
    predictions: Mapping[str, Path]
    image: Path | None = None


@dataclass(frozen=True)
class CaseScores:
    """Result of the evaluation of one case.

    Attributes:
        scores: by method and class.
        off_grid: how the grid of a prediction differs from that of the truth, for the methods where it does.
    """

    scores: Mapping[str, Mapping[str, MaskMetrics]]
    off_grid: Mapping[str, GridDifference] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseEvaluator:
    """Scores cases; plain data, so that worker processes can be handed one.

    Attributes:
        classes: the label values of each class or region, by its name.
        ignore_label: voxels whose truth has this value are taken out of both masks; None if there is none.
        reader: the nnU-Net reader of the dataset's files.
        tolerance_mm: the tolerance of NSD in mm.
    """

    classes: Mapping[str, tuple[int, ...]]
    ignore_label: int | None
    reader: BaseReaderWriter
    tolerance_mm: float

    def __call__(self, case: Case) -> CaseScores:
        """Scores the predictions of a case.

        Distances are in the spacing of the truth, which is the same for all methods.

        Raises:
            UserError: if a file cannot be read, or a prediction lies elsewhere than the truth (see :meth:`check`).
        """
        truth = read_segmentation(case.truth, self.reader)
        scores, off_grid = {}, {}
        for method, file in case.predictions.items():
            prediction = read_segmentation(file, self.reader)
            difference = grid_difference(truth, case.truth, prediction, file)
            if difference is not None:
                self.check(case, method, difference)
                off_grid[method] = difference
            # one class at a time: the masks of all would need more memory than the labels
            scores[method] = {
                name: compute_metrics(
                    self._mask(truth.labels, values, truth.labels),
                    self._mask(prediction.labels, values, truth.labels),
                    truth.spacing_mm,
                    self.tolerance_mm,
                )
                for name, values in self.classes.items()
            }
        return CaseScores(scores, off_grid)

    def check(self, case: Case, method: str, difference: GridDifference) -> None:
        """Refuses a prediction that lies more than a voxel away from the truth, unless its image does so too.

        nnU-Net's own validation matches image and truth voxel by voxel, and its predictions lie on the image's grid.
        They are told by their folder, or by the image.

        Raises:
            UserError: it is neither.
        """
        file = case.predictions[method]
        if is_validation(file.parent) or difference.apart_voxels <= LARGEST_OFFSET:
            return
        if case.image is None or not lies_on(case.image, file, self.reader):
            raise elsewhere(difference, case.truth, file)

    def _mask(self, labels: np.ndarray, values: tuple[int, ...], truth: np.ndarray) -> np.ndarray:
        """Where ``labels`` has one of ``values`` and the truth is not to be ignored."""
        mask = labels == values[0]
        for value in values[1:]:
            mask |= labels == value
        if self.ignore_label is not None:
            mask &= truth != self.ignore_label
        return mask


def is_validation(folder: Path) -> bool:
    """Tell if a folder is ``TRAINER__PLANS__CONFIG/fold_X/validation``, or a copy of it such as ``validation_last``."""
    fold = folder.absolute().parent
    return (
        folder.name.startswith("validation")
        and fold.name.startswith("fold_")
        and len(fold.parent.name.split("__")) == 3
    )
