"""What papers published on the same task, to be read beside the results and not against them."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.published import NETWORKS, published_dice

TASKS = ("lung", "spleen", "pancreas")  # in both papers' tables
HEADER = ("method", "Dice", "IoU", "NSD", "HD95")
MISSING = "–"


@dataclass(frozen=True)
class PublishedTable:
    """Figures of one publication.

    Attributes:
        title: of the publication's table.
        address: of the publication.
        note: what to know when reading it.
        rows: as :data:`HEADER`, formatted; missing figures are dashes.
    """

    title: str
    address: str
    note: str
    rows: tuple[tuple[str, ...], ...]


def published_tables(dataset_name: str) -> list[PublishedTable]:
    """The published tables for a dataset of nnU-Net, such as Dataset009_Spleen; empty if there are none."""
    match = re.fullmatch(r"Dataset\d{3}_(\w+)", dataset_name)
    task = match[1].lower() if match else ""
    tables = []
    if task in TASKS:
        tables += [_sam2_3dmed(task), _interactive(task)]
    per_case = _nnunet_per_case(dataset_name)
    return [*tables, per_case] if per_case else tables


def _sam2_3dmed(task: str) -> PublishedTable:
    rows = [
        _row(row["method"], row[f"{task}_dice"], row[f"{task}_iou"], row[f"{task}_nsd"], row[f"{task}_hd95"])
        for row in _read("sam2_3dmed_paper.csv")
        if row["table"] == "1"
    ]
    return PublishedTable(
        "SAM2-3dMed, Table 1",
        "https://arxiv.org/abs/2510.08967",
        "One 80/20 split, not nnU-Net's folds; neither the tolerance of NSD, nor the unit of HD95, nor the size and "
        "version of SAM 2 are stated. MedSAM-2 is the paper's row for that method; trainers named selfSorting are only "
        "inspired by it.",
        tuple(rows),
    )


def _interactive(task: str) -> PublishedTable:
    rows = []
    for row in _read("sam2_interactive_paper.csv"):
        dice, nsd = row[f"{task}_dice"], row[f"{task}_nsd"]
        if dice or nsd:
            rows.append(_row(row["method"], dice, "", nsd, "", scale=0.01))
    return PublishedTable(
        "Interactive 3D Medical Image Segmentation with SAM 2, Tables 1 and 2",
        "https://arxiv.org/abs/2408.02635",
        "Clicks or a mask of one slice are given to SAM 2, which is sam2_hiera_large (SAM 2.0) without fine-tuning; "
        "other cases, and a tolerance of NSD that is not stated.",
        tuple(rows),
    )


def _nnunet_per_case(dataset_name: str) -> PublishedTable | None:
    rows = []
    for network in NETWORKS:
        try:
            dice = published_dice(dataset_name, network)
        except UserError:  # nothing was published for this dataset
            continue
        mean = float(np.mean([np.mean(list(by_label.values())) for by_label in dice.values()]))
        rows.append(_row(f"{network} ({len(dice)} cases)", str(mean), "", "", ""))
    if not rows:
        return None
    return PublishedTable(
        "nnU-Net v2 3d_fullres, five-fold cross-validation",
        "https://arxiv.org/abs/2505.16561",
        "Mean over all published cases of the mean over their classes (AutoNNUnet); `sam2_3dmed report "
        "--published` pairs the methods with it, case by case.",
        tuple(rows),
    )


def _row(name: str, dice: str, iou: str, nsd: str, hd95: str, scale: float = 1.0) -> tuple[str, ...]:
    def number(text: str, digits: int, factor: float) -> str:
        return f"{float(text) * factor:.{digits}f}" if text else MISSING

    return (name, number(dice, 3, scale), number(iou, 3, scale), number(nsd, 3, scale), number(hd95, 2, 1.0))


def _read(name: str) -> list[dict[str, str]]:
    text = (files("nnunetv2_sam2_3dmed") / "published" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
