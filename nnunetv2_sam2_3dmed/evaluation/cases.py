"""The evaluation of one case: its truth against the prediction of every method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics, compute_metrics
from nnunetv2_sam2_3dmed.evaluation.segmentations import check_same_grid, read_segmentation

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter


@dataclass(frozen=True)
class Case:
    """A case's name, the file of its truth, and one prediction file per method."""

    name: str
    truth: Path
    predictions: Mapping[str, Path]


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

    def __call__(self, case: Case) -> dict[str, dict[str, MaskMetrics]]:
        """The scores of ``case``, by method and class.

        Raises:
            UserError: if a file cannot be read, or a prediction lies on another voxel grid than the truth.
        """
        truth = read_segmentation(case.truth, self.reader)
        scores = {}
        for method, file in case.predictions.items():
            prediction = read_segmentation(file, self.reader)
            check_same_grid(truth, case.truth, prediction, file)
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
        return scores

    def _mask(self, labels: np.ndarray, values: tuple[int, ...], truth: np.ndarray) -> np.ndarray:
        """Where ``labels`` has one of ``values`` and the truth is not to be ignored."""
        mask = labels == values[0]
        for value in values[1:]:
            mask |= labels == value
        if self.ignore_label is not None:
            mask &= truth != self.ignore_label
        return mask
