"""nnU-Net's published per-case Dice on MSD, paired with ours where the cases are the same."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.bootstrap import mean_interval
from nnunetv2_sam2_3dmed.evaluation.significance import wilcoxon_p

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.evaluation.summary import Scores

# plans as the publication calls them: nnU-Net's default and two ResEnc presets
NETWORKS = ("ConvolutionalEncoder", "ResidualEncoderM", "ResidualEncoderL")
SOURCE = (
    "nnU-Net v2 3d_fullres, five-fold cross-validation, Dice per case (AutoNNUnet, arXiv 2505.16561): every case was "
    "predicted by a model that had not seen it, but the folds, and so the training cases, may differ from ours"
)


@dataclass(frozen=True)
class PublishedPair:
    """A method beside a published one, on the cases that both have.

    Attributes:
        method: our method.
        network: the published network, one of :data:`NETWORKS`.
        n: number of common cases.
        dice: mean over them of our foreground mean Dice.
        published_dice: mean of the published one.
        low: lower bound of the 95 % bootstrap interval of ours minus the published, over cases.
        high: upper bound of it.
        p: two-sided Wilcoxon signed-rank, uncorrected; None with too few cases.
    """

    method: str
    network: str
    n: int
    dice: float
    published_dice: float
    low: float
    high: float
    p: float | None


def published_dice(dataset: str, network: str) -> dict[str, dict[int, float]]:
    """The published Dice of each case and label.

    Raises:
        UserError: nothing was published for the dataset.
    """
    scores: dict[str, dict[int, float]] = defaultdict(dict)
    datasets = set()
    text = (files("nnunetv2_sam2_3dmed") / "published" / "nnunet_msd_cv_percase.csv").read_text()
    for row in csv.DictReader(text.splitlines()):
        datasets.add(row["dataset"])
        if (row["dataset"], row["config"]) == (dataset, network):
            scores[row["case"]][int(row["label"])] = float(row["dice"])
    if not scores:
        raise UserError(
            f"there are no published results of {network} for {dataset}, only for {', '.join(sorted(datasets))}: leave "
            "--published out."
        )
    return dict(scores)


def pair_with_published(
    dataset: str, scores: Scores, classes: Mapping[str, tuple[int, ...]], network: str
) -> list[PublishedPair]:
    """Each method beside the published one.

    Args:
        dataset: nnU-Net's name of the dataset, such as Dataset004_Hippocampus.
        scores: ours, by method, case and class.
        classes: the label values of each class; must be the labels that were published.
        network: one of :data:`NETWORKS`.

    Raises:
        UserError: nothing was published for the dataset, or for none of our cases and classes.
    """
    theirs = published_dice(dataset, network)
    labels = {values for values in classes.values()}
    pairs = []
    for method, by_case in scores.items():
        common = [case for case in by_case if case in theirs and {(label,) for label in theirs[case]} == labels]
        if not common:
            raise UserError(
                f"none of the {len(by_case)} cases of {method} is among the {len(theirs)} published ones of {dataset} "
                "with the same labels: leave --published out."
            )
        ours = np.array([np.mean([metrics.dice for metrics in by_case[case].values()]) for case in common])
        published = np.array([np.mean(list(theirs[case].values())) for case in common])
        low, high = mean_interval(ours - published)
        pairs.append(
            PublishedPair(
                method,
                network,
                len(common),
                float(ours.mean()),
                float(published.mean()),
                low,
                high,
                wilcoxon_p(ours.tolist(), published.tolist()),
            )
        )
    return pairs
