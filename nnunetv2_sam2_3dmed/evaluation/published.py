"""nnU-Net's published per-case Dice on MSD, paired with ours where the cases are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import pandas as pd

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.scores import DICE, foreground_by_case
from nnunetv2_sam2_3dmed.evaluation.statistics import mean_interval, wilcoxon_p

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


def read_published(name: str) -> list[dict[str, str]]:
    """The lines of a published table that is installed with the package."""
    with (files("nnunetv2_sam2_3dmed") / "published" / name).open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False).to_dict("records")


def published_dice(dataset: str, network: str) -> pd.DataFrame:
    """The published Dice of each case (rows) and label (columns).

    Raises:
        UserError: nothing was published for the dataset.
    """
    with (files("nnunetv2_sam2_3dmed") / "published" / "nnunet_msd_cv_percase.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file)
    found = table[(table["dataset"] == dataset) & (table["config"] == network)]
    if found.empty:
        known = ", ".join(sorted(table["dataset"].unique()))
        raise UserError(
            f"there are no published results of {network} for {dataset}, only for {known}: leave --published out."
        )
    return found.pivot(index="case", columns="label", values="dice")


def pair_with_published(
    dataset: str, scores: pd.DataFrame, classes: Mapping[str, tuple[int, ...]], network: str
) -> list[PublishedPair]:
    """Put each method beside the published one.

    Args:
        dataset: nnU-Net's name of the dataset, such as Dataset004_Hippocampus.
        scores: the table of ours.
        classes: the label values of each class; must be the labels that were published.
        network: one of :data:`NETWORKS`.

    Raises:
        UserError: nothing was published for the dataset, or for none of our cases and classes.
    """
    theirs = published_dice(dataset, network).dropna()
    ours = foreground_by_case(scores, DICE)
    same_labels = {(label,) for label in theirs.columns} == set(classes.values())
    common = [case for case in ours.index if same_labels and case in theirs.index]
    if not common:
        raise UserError(
            f"none of the {len(ours)} cases is among the {len(theirs)} published ones of {dataset} with the same "
            "labels: leave --published out."
        )
    published = theirs.loc[common].mean(axis="columns").to_numpy()
    pairs = []
    for method in ours.columns:
        dice = ours.loc[common, method].to_numpy()
        low, high = mean_interval(dice - published)
        p = wilcoxon_p(dice - published)
        means = float(dice.mean()), float(published.mean())
        pairs.append(PublishedPair(method, network, len(common), *means, low, high, p))
    return pairs
