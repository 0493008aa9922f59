"""Means of each fold and their spread, for methods whose predictions lie in one folder per fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nnunetv2_sam2_3dmed.evaluation.cases import ComparedCase
from nnunetv2_sam2_3dmed.evaluation.scores import COLUMNS


@dataclass(frozen=True)
class FoldMean:
    """Means over the cases of one fold.

    Attributes:
        fold: the fold, as :func:`fold_names` calls it.
        n: number of its cases that are compared.
        means: mean of each score over these cases; NaN for HD95 where no case has a distance.
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


def spread_over_folds(
    methods: Mapping[str, Sequence[Path]], cases: Sequence[ComparedCase], scores: pd.DataFrame
) -> list[FoldSpread]:
    """Means of the folds and their spread, for each class and each method with cases in two folders or more.

    Args:
        methods: the folders of each method's predictions, by its name.
        cases: the cases that were compared, with the files of their predictions.
        scores: the table of their scores.
    """
    fold_of: dict[str, pd.Series] = {}
    for method, folders in methods.items():
        names = fold_names([Path(f) for f in folders])
        of_case = {case.name: names[case.predictions[method].parent] for case in cases}
        if len(set(of_case.values())) > 1:
            present = [name for name in names.values() if name in of_case.values()]
            fold_of[method] = pd.Series(pd.Categorical(of_case.values(), present), of_case.keys())
    spreads = []
    for (class_name, method), group in scores.groupby(["class", "method"], observed=True):
        if method in fold_of:
            by_fold = group.set_index("case")[COLUMNS].groupby(fold_of[method], observed=True)
            means, sizes = by_fold.mean(), by_fold.size()
            folds = [FoldMean(str(f), int(sizes[f]), means.loc[f].to_dict()) for f in means.index]
            spreads.append(FoldSpread(method, class_name, folds, means.mean().to_dict(), means.std().to_dict()))
    return spreads
