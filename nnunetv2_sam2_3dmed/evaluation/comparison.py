"""Result types of a comparison: the table of scores, and statistics, tests and ranks derived from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from nnunetv2_sam2_3dmed.evaluation.folds import FoldSpread
from nnunetv2_sam2_3dmed.evaluation.grids import GridDifference, offset_warning
from nnunetv2_sam2_3dmed.evaluation.nnunet_validation import SummaryCheck, selection_note
from nnunetv2_sam2_3dmed.evaluation.published import PublishedPair
from nnunetv2_sam2_3dmed.evaluation.scores import COLUMNS, DICE, FOREGROUND, HD95, NSD, Metric, foreground_by_case
from nnunetv2_sam2_3dmed.evaluation.statistics import PairedTest, Rank, Statistic, correct, paired_test, rank


@dataclass(frozen=True)
class ResultRow:
    """One method on one class.

    Attributes:
        method: the method's name.
        class_name: the class or region, or ``FOREGROUND``: the mean over the classes of each case.
        dice: Dice over the cases.
        iou: IoU over the cases.
        nsd: NSD over the cases.
        hd95_mm: HD95 in mm, over the cases that have it.
        failures: number of cases in which exactly one of the masks was empty (``FOREGROUND``: for any class).
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

    def __getitem__(self, metric: Metric) -> Statistic:
        return getattr(self, metric.attribute)


@dataclass(frozen=True)
class Comparison:
    """A comparison of methods on the cases that they share.

    Attributes:
        dataset_name: the dataset's name.
        methods: the folders of predictions of each method.
        gt_folder: the folder of the ground truth.
        classes: the label values of each class or region, by its name.
        ignore_label: the label value of voxels that are not evaluated, or None.
        tolerance_mm: the tolerance of NSD in mm.
        scores: the table of all scores, see :func:`~nnunetv2_sam2_3dmed.evaluation.scores.score_table`.
        missing: for each method, the cases that were left out because it lacks them.
        rows: for each class, and then for ``FOREGROUND``, one row per method.
        tests: Dice and NSD of each method against the reference method.
        ranks: of all methods, by Dice and by NSD; empty with a single method.
        published: each method beside published results, where they were asked for.
        tolerance_source: where the tolerance comes from, as a clause.
        folds: the means of each fold and their spread, for the methods with several folders.
        nnunet_checks: our Dice and IoU against nnU-Net's ``summary.json``, for the methods that have one.
        prompted: the prompts of the methods that were given any.
        chosen_by_scored_cases: the methods whose training was stopped, or whose best checkpoint is chosen, by the cases
            that are scored.
        off_grid: by method and case, the grid differences of predictions that lie off the grid of their ground truth.
    """

    dataset_name: str
    methods: Mapping[str, Sequence[Path]]
    gt_folder: Path
    classes: Mapping[str, tuple[int, ...]]
    ignore_label: int | None
    tolerance_mm: float
    scores: pd.DataFrame
    missing: Mapping[str, Sequence[str]]
    rows: Sequence[ResultRow]
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
        return list(self.scores["case"].cat.categories)

    @property
    def class_names(self) -> list[str]:
        """The classes, then ``FOREGROUND`` where there are several classes."""
        return [*self.classes, FOREGROUND] if len(self.classes) > 1 else list(self.classes)

    @property
    def warnings(self) -> list[str]:
        """Sentences to read before the numbers: predictions off the grid, stale predictions, prompted methods."""
        prompted = [
            f"{method} was prompted from the ground truth ({prompts}), which methods without prompts were not."
            for method, prompts in self.prompted.items()
        ]
        offset = offset_warning(self.off_grid)
        return [
            *([offset] if offset else []),
            *(check.warning for check in self.nnunet_checks if check.warning),
            *prompted,
        ]

    @property
    def notes(self) -> list[str]:
        """Sentences to keep in mind when reading the numbers."""
        return [selection_note(self.chosen_by_scored_cases)] if self.chosen_by_scored_cases else []

    def row(self, method: str, class_name: str = FOREGROUND) -> ResultRow:
        """The row of one method and class."""
        return next(r for r in self.rows if (r.method, r.class_name) == (method, class_name))

    @cached_property
    def _by_class_and_method(self) -> dict[tuple[str, str], pd.DataFrame]:
        return dict(iter(self.scores.groupby(["class", "method"], observed=True)))

    def case_scores(self, method: str, metric: Metric, class_name: str = FOREGROUND) -> np.ndarray:
        """One score per case, in the order of :attr:`cases`; NaN where a case has none."""
        return self._by_class_and_method[class_name, method][metric.attribute].to_numpy()


def summarize(scores: pd.DataFrame, seconds: Mapping[str, float] | None = None) -> list[ResultRow]:
    """Statistics of each class, and then of ``FOREGROUND``, one row per method."""
    return [
        ResultRow(
            method,
            class_name,
            **{column: Statistic.of(group[column]) for column in COLUMNS},
            failures=int(group[HD95.attribute].isna().sum()),
            seconds=(seconds or {}).get(method),
        )
        for (class_name, method), group in scores.groupby(["class", "method"], observed=True)
    ]


def compare_with(reference: str, scores: pd.DataFrame) -> list[PairedTest]:
    """Paired tests of foreground mean Dice and NSD of each other method against one, as one Holm family."""
    tests = []
    for metric in (DICE, NSD):
        by_case = foreground_by_case(scores, metric)
        for method in by_case.columns.drop(reference):
            tests.append(paired_test(metric.name, method, reference, (by_case[method] - by_case[reference]).to_numpy()))
    return correct(tests)


def rank_methods(scores: pd.DataFrame) -> list[Rank]:
    """Ranks by Dice and by NSD; none for a single method."""
    if scores["method"].nunique() < 2:
        return []
    return [place for metric in (DICE, NSD) for place in rank(metric.name, foreground_by_case(scores, metric))]
