"""Cases of a comparison: their files, and the scores of each method's prediction against the ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.grids import LARGEST_OFFSET, GridDifference, elsewhere, grid_difference, lies_on
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics, compute_metrics
from nnunetv2_sam2_3dmed.evaluation.segmentations import read_segmentation

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

RAW_FOLDERS = ("imagesTr", "imagesTs")


@dataclass(frozen=True)
class ComparedCase:
    """A case and its files.

    Attributes:
        name: its identifier.
        gt: the file of its ground truth.
        predictions: one file per method.
        image: the file of its first channel, where that is known.
    """

    name: str
    gt: Path
    predictions: Mapping[str, Path]
    image: Path | None = None


@dataclass(frozen=True)
class SharedCases:
    """The cases that every method has, and those that are left out of the comparison.

    Attributes:
        cases: the shared cases, sorted by name.
        missing: for each method, the names of the cases that other methods have and it lacks.
    """

    cases: list[ComparedCase]
    missing: dict[str, list[str]]


def find_predictions(folders: Sequence[Path], file_ending: str) -> dict[str, Path]:
    """The prediction files of one method by case name, pooled over ``folders`` (one per fold).

    Raises:
        UserError: if a folder does not exist or holds no prediction, or two folders hold the same case.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        files = sorted(f for f in Path(folder).glob(f"[!.]*{file_ending}") if f.is_file())
        if not files:
            raise UserError(
                f"{folder} holds no predictions, expected *{file_ending} files: check it, or predict first."
            )
        for file in files:
            case = file.name.removesuffix(file_ending)
            if case in found:
                raise UserError(
                    f"{found[case]} and {file} are two predictions of one method for one case, expected one: "
                    "compare folds that do not overlap."
                )
            found[case] = file
    return found


def share_cases(methods: Mapping[str, Sequence[Path]], gt_folder: Path, file_ending: str) -> SharedCases:
    """Match the predictions of all methods with each other and with the ground truth.

    Args:
        methods: the folders of each method's predictions, by its name.
        gt_folder: the folder of the ground truth, named as the predictions are.
        file_ending: the ending of all these files, with its dot.

    Raises:
        UserError: if no case is shared by all methods, or a shared case has no ground truth.
    """
    predictions = {name: find_predictions(folders, file_ending) for name, folders in methods.items()}
    shared = set.intersection(*(set(p) for p in predictions.values()))
    every = set.union(*(set(p) for p in predictions.values()))
    if not shared:
        counts = ", ".join(f"{name}: {len(p)}" for name, p in predictions.items())
        raise UserError(f"no case was predicted by all methods (cases of {counts}): compare them on the same folds.")
    cases = []
    for name in sorted(shared):
        gt = Path(gt_folder) / f"{name}{file_ending}"
        if not gt.is_file():
            raise UserError(f"{gt} does not exist, but case {name} was predicted: give the ground truth's folder.")
        cases.append(ComparedCase(name, gt, {method: p[name] for method, p in predictions.items()}))
    return SharedCases(cases, {method: sorted(every - set(p)) for method, p in predictions.items()})


def find_image(dataset_folder: Path, case: str, file_ending: str) -> list[Path]:
    """The files of a case's channels in a raw dataset of nnU-Net, in their order; empty if there are none."""
    for folder in RAW_FOLDERS:
        # by their names: to list the folder for each case would take long for many of them
        named = (dataset_folder / folder / f"{case}_{channel:04d}{file_ending}" for channel in count())
        channels = list(takewhile(Path.is_file, named))
        if channels:
            return channels
    return []


@dataclass(frozen=True)
class CaseScores:
    """Result of the evaluation of one case.

    Attributes:
        scores: by method and class.
        off_grid: how the grid of a prediction differs from that of the ground truth, for the methods where it does.
    """

    scores: Mapping[str, Mapping[str, MaskMetrics]]
    off_grid: Mapping[str, GridDifference] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseEvaluator:
    """Evaluator of cases; plain data, so that it can be sent to worker processes.

    Attributes:
        classes: the label values of each class or region, by its name.
        ignore_label: voxels whose ground truth has this value are taken out of both masks; None if there is none.
        reader: the nnU-Net reader of the dataset's files.
        tolerance_mm: the tolerance of NSD in mm.
    """

    classes: Mapping[str, tuple[int, ...]]
    ignore_label: int | None
    reader: BaseReaderWriter
    tolerance_mm: float

    def __call__(self, case: ComparedCase) -> CaseScores:
        """Score the predictions of a case.

        Distances are in the spacing of the ground truth, which is the same for all methods.

        Raises:
            UserError: if a file cannot be read, or a prediction lies off the ground truth (see :meth:`check`).
        """
        gt = read_segmentation(case.gt, self.reader)
        scores, off_grid = {}, {}
        for method, file in case.predictions.items():
            prediction = read_segmentation(file, self.reader)
            difference = grid_difference(gt, case.gt, prediction, file)
            if difference is not None:
                self.check(case, method, difference)
                off_grid[method] = difference
            # one class at a time: the masks of all would need more memory than the labels
            scores[method] = {
                name: compute_metrics(
                    self._mask(gt.labels, values, gt.labels),
                    self._mask(prediction.labels, values, gt.labels),
                    gt.spacing_mm,
                    self.tolerance_mm,
                )
                for name, values in self.classes.items()
            }
        return CaseScores(scores, off_grid)

    def check(self, case: ComparedCase, method: str, difference: GridDifference) -> None:
        """Refuse a prediction more than a voxel away from the ground truth, unless it lies on the grid of its image.

        nnU-Net's own validation matches image and ground truth voxel by voxel, and its predictions have the image's
        grid: they are recognised by their folder, or by the image.

        Raises:
            UserError: the prediction is neither.
        """
        file = case.predictions[method]
        if is_validation(file.parent) or difference.apart_voxels <= LARGEST_OFFSET:
            return
        if case.image is None or not lies_on(case.image, file, self.reader):
            raise elsewhere(difference, case.gt, file)

    def _mask(self, labels: np.ndarray, values: tuple[int, ...], gt: np.ndarray) -> np.ndarray:
        """Mask of the voxels with one of ``values``, without those that the ground truth says to ignore."""
        mask = labels == values[0]
        for value in values[1:]:
            mask |= labels == value
        if self.ignore_label is not None:
            mask &= gt != self.ignore_label
        return mask


def is_validation(folder: Path) -> bool:
    """Tell if a folder is ``TRAINER__PLANS__CONFIG/fold_X/validation``, or a copy of it such as ``validation_last``."""
    fold = folder.absolute().parent
    return (
        folder.name.startswith("validation")
        and fold.name.startswith("fold_")
        and len(fold.parent.name.split("__")) == 3
    )
