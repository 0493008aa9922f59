"""How far the scores of a method differ between folds, where its predictions lie in one folder per fold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.evaluation.cases import Case
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.evaluation.summary import Scores, with_foreground

METRICS = ("dice", "iou", "nsd", "hd95_mm")


@dataclass(frozen=True)
class FoldMean:
    """The means of one fold.

    Attributes:
        fold: the fold, as :func:`fold_names` calls it.
        n: number of its cases that are compared.
        means: mean over these cases of each of :data:`METRICS`; NaN for HD95 where no case has a distance.
    """

    fold: str
    n: int
    means: Mapping[str, float]


@dataclass(frozen=True)
class FoldSpread:
    """One method on one class (or the foreground mean), fold by fold.

    Attributes:
        method: the method's name.
        class_name: the class or region, or the foreground mean.
        folds: the folds, in the order of the method's folders.
        mean: mean over the folds of their means, by metric; a fold without the score is left out.
        std: sample standard deviation over the folds of their means, by metric; NaN with fewer than two.
    """

    method: str
    class_name: str
    folds: Sequence[FoldMean]
    mean: Mapping[str, float]
    std: Mapping[str, float]


def fold_names(folders: Sequence[Path]) -> dict[Path, str]:
    """A name for each folder: ``fold_0`` for ``.../fold_0/validation``, otherwise the folder's own.

    Folders of the same name are called by as much of the end of their paths as tells them apart.
    """
    paths = [f.parent if f.name == "validation" and f.parent.name.startswith("fold_") else f for f in folders]
    parts = 1
    while True:
        names = ["/".join(p.parts[-parts:]) for p in paths]
        if max(Counter(names).values()) == 1 or parts > max(len(p.parts) for p in paths):
            return dict(zip(folders, names, strict=True))
        parts += 1


def spread_over_folds(methods: Mapping[str, Sequence[Path]], cases: Sequence[Case], scores: Scores) -> list[FoldSpread]:
    """For each class and method with cases in two folders or more: the means of its folds and their spread.

    Args:
        methods: the folders of each method's predictions, by its name.
        cases: the cases that were compared, with the files of their predictions.
        scores: their scores.
    """
    members: dict[str, dict[str, list[str]]] = {}
    for method, folders in methods.items():
        of_folder = defaultdict(list)
        for case in cases:
            of_folder[case.predictions[method].parent].append(case.name)
        names = fold_names([Path(f) for f in folders])
        folds = {name: of_folder[folder] for folder, name in names.items() if of_folder[folder]}
        if len(folds) > 1:
            members[method] = folds
    complete = {method: with_foreground(scores[method]) for method in members}
    classes = next(iter(next(iter(complete.values())).values())) if complete else ()
    return [_spread(method, name, members[method], complete[method]) for name in classes for method in members]


def _spread(
    method: str,
    class_name: str,
    folds: Mapping[str, Sequence[str]],
    by_case: Mapping[str, Mapping[str, MaskMetrics]],
) -> FoldSpread:
    means = []
    for fold, cases in folds.items():
        metrics = [by_case[case][class_name] for case in cases]
        values = {metric: _present([getattr(m, metric) for m in metrics]) for metric in METRICS}
        means.append(FoldMean(fold, len(cases), {k: float(v.mean()) if len(v) else np.nan for k, v in values.items()}))
    over = {metric: _present([fold.means[metric] for fold in means]) for metric in METRICS}
    return FoldSpread(
        method,
        class_name,
        means,
        mean={metric: float(v.mean()) if len(v) else np.nan for metric, v in over.items()},
        std={metric: float(v.std(ddof=1)) if len(v) > 1 else np.nan for metric, v in over.items()},
    )


def _present(values: Sequence[float]) -> np.ndarray:
    found = np.asarray(values, float)
    return found[~np.isnan(found)]
