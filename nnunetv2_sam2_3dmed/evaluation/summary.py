"""What a comparison found: scores per case, their statistics per class, and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunetv2_sam2_3dmed.evaluation.bootstrap import mean_interval
from nnunetv2_sam2_3dmed.evaluation.grids import GridDifference, offset_warning
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics, average
from nnunetv2_sam2_3dmed.evaluation.model_selection import selection_note
from nnunetv2_sam2_3dmed.evaluation.published import PublishedPair
from nnunetv2_sam2_3dmed.evaluation.ranking import Rank, rank
from nnunetv2_sam2_3dmed.evaluation.significance import PairedTest, correct, paired_test

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.evaluation.folds import FoldSpread
    from nnunetv2_sam2_3dmed.evaluation.nnunet_summary import SummaryCheck

FOREGROUND = "foreground mean"

# by method, then case, then class
Scores = Mapping[str, Mapping[str, Mapping[str, MaskMetrics]]]


@dataclass(frozen=True)
class Statistic:
    """Mean, sample standard deviation and median of a score over the ``n`` cases that have it.

    ``low`` and ``high`` are the bounds of the mean's 95 % bootstrap confidence interval. What is undefined (the
    mean of no case, the deviation of fewer than two, the interval of fewer than six) is NaN.
    """

    mean: float
    std: float
    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Statistic:
        """The statistics of ``values``, leaving out those that are NaN."""
        present = np.asarray([v for v in values if not np.isnan(v)])
        low, high = mean_interval(present)
        return cls(
            mean=float(present.mean()) if len(present) else np.nan,
            std=float(present.std(ddof=1)) if len(present) > 1 else np.nan,
            median=float(np.median(present)) if len(present) else np.nan,
            low=low,
            high=high,
            n=len(present),
        )


@dataclass(frozen=True)
class Row:
    """One method on one class.

    Attributes:
        method: the method's name.
        class_name: the class or region, or :data:`FOREGROUND`: the mean over the classes of each case.
        dice: Dice over the cases.
        iou: IoU over the cases.
        nsd: NSD over the cases.
        hd95_mm: HD95 in mm, over the cases that have it.
        failures: number of cases in which exactly one of the masks was empty (:data:`FOREGROUND`: for any
            class).
        seconds: the time that the caller stated for the method, or None.
    """

    method: str
    class_name: str
    dice: Statistic
    iou: Statistic
    nsd: Statistic
    hd95_mm: Statistic
    failures: int
    seconds: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A comparison of methods on the cases that they share.

    Attributes:
        dataset_name: the dataset's name.
        methods: the folders of predictions of each method.
        truth_folder: the folder of the true segmentations.
        classes: the label values of each class or region, by its name.
        ignore_label: the label value of voxels that are not evaluated, or None.
        tolerance_mm: the tolerance of NSD in mm.
        scores: the scores by method, case and class.
        missing: for each method, the cases that were left out because it lacks them.
        rows: for each class, and then for :data:`FOREGROUND`, one row per method.
        tests: Dice and NSD of each method against the reference method.
        ranks: of all methods, by Dice and by NSD; empty with a single method.
        published: each method beside published results, where they were asked for.
        tolerance_source: where the tolerance comes from, as a clause.
        folds: the means of each fold and their spread, for the methods with several folders.
        nnunet_checks: our Dice and IoU against nnU-Net's ``summary.json``, for the methods that have one.
        prompted: of the methods that were told where to look, with which prompts.
        chosen_by_scored_cases: the methods whose training was stopped, or whose best checkpoint is chosen, by the cases
            that are scored.
        off_grid: by method and case, how predictions lie that do not lie on the grid of their truth.
    """

    dataset_name: str
    methods: Mapping[str, Sequence[Path]]
    truth_folder: Path
    classes: Mapping[str, tuple[int, ...]]
    ignore_label: int | None
    tolerance_mm: float
    scores: Scores
    missing: Mapping[str, Sequence[str]]
    rows: Sequence[Row]
    tests: Sequence[PairedTest]
    ranks: Sequence[Rank]
    published: Sequence[PublishedPair] = ()
    tolerance_source: str = "as asked for"
    folds: Sequence[FoldSpread] = ()
    nnunet_checks: Sequence[SummaryCheck] = ()
    prompted: Mapping[str, str] = field(default_factory=dict)
    chosen_by_scored_cases: Sequence[str] = ()
    off_grid: Mapping[str, Mapping[str, GridDifference]] = field(default_factory=dict)

    @property
    def cases(self) -> list[str]:
        """The names of the cases compared."""
        return list(next(iter(self.scores.values())))

    @property
    def warnings(self) -> list[str]:
        """What the reader must know before believing the numbers, in sentences."""
        told = [
            f"{method} was prompted from the truth ({prompts}), which methods without prompts were not."
            for method, prompts in self.prompted.items()
        ]
        offset = offset_warning(self.off_grid)
        return [
            *([offset] if offset else []),
            *(check.warning for check in self.nnunet_checks if check.warning),
            *told,
        ]

    @property
    def notes(self) -> list[str]:
        """What the reader should keep in mind, in sentences."""
        return [selection_note(self.chosen_by_scored_cases)] if self.chosen_by_scored_cases else []

    def row(self, method: str, class_name: str = FOREGROUND) -> Row:
        """The row of one method and class."""
        return next(r for r in self.rows if (r.method, r.class_name) == (method, class_name))


def summarize(scores: Scores, seconds: Mapping[str, float] | None = None) -> list[Row]:
    """The statistics of ``scores``: for each class, and then for :data:`FOREGROUND`, one row per method."""
    seconds = seconds or {}
    complete = {method: list(with_foreground(by_case).values()) for method, by_case in scores.items()}
    class_names = next(iter(complete.values()))[0]
    return [
        _row(method, name, [case[name] for case in cases], seconds.get(method))
        for name in class_names
        for method, cases in complete.items()
    ]


def with_foreground(by_case: Mapping[str, Mapping[str, MaskMetrics]]) -> dict[str, dict[str, MaskMetrics]]:
    """One method's scores by case and class, with :data:`FOREGROUND` as another class."""
    return {case: {**by_class, FOREGROUND: average(list(by_class.values()))} for case, by_class in by_case.items()}


def _row(method: str, class_name: str, metrics: Sequence[MaskMetrics], seconds: float | None) -> Row:
    return Row(
        method,
        class_name,
        dice=Statistic.of([m.dice for m in metrics]),
        iou=Statistic.of([m.iou for m in metrics]),
        nsd=Statistic.of([m.nsd for m in metrics]),
        hd95_mm=Statistic.of([m.hd95_mm for m in metrics]),
        failures=sum(m.failed for m in metrics),
        seconds=seconds,
    )


def foreground_scores(scores: Scores) -> dict[str, dict[str, list[float]]]:
    """Dice and NSD of every case, the mean over its classes, by metric and method."""
    foreground = {
        method: [average(list(by_class.values())) for by_class in by_case.values()]
        for method, by_case in scores.items()
    }
    return {
        metric: {method: [getattr(case, attribute) for case in cases] for method, cases in foreground.items()}
        for metric, attribute in (("Dice", "dice"), ("NSD", "nsd"))
    }


def compare_with(reference: str, scores: Scores) -> list[PairedTest]:
    """Paired tests of foreground mean Dice and NSD of each other method against one, as one Holm family."""
    return correct(
        [
            paired_test(metric, method, reference, values[method], values[reference])
            for metric, values in foreground_scores(scores).items()
            for method in values
            if method != reference
        ]
    )


def rank_methods(scores: Scores) -> list[Rank]:
    """Ranks by Dice and by NSD; none for a single method."""
    if len(scores) < 2:
        return []
    return [place for metric, values in foreground_scores(scores).items() for place in rank(metric, values)]
