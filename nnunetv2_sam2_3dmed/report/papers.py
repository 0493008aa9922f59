"""Published results on the same task, to be read beside the results and not against them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.published import NETWORKS, published_dice, read_published
from nnunetv2_sam2_3dmed.evaluation.published_prompts import (
    INTERACTIVE_PAPER,
    PublishedResult,
    published_for,
    task_of,
)
from nnunetv2_sam2_3dmed.evaluation.tables import Table, text_rows

TASKS = ("lung", "spleen", "pancreas")  # of the SAM2-3dMed paper
HEADER = ("method", "Dice", "IoU", "NSD", "HD95")
MISSING = "–"
# title and note of the publications of prompted_papers.csv
WITH_PROMPTS = {
    "arXiv 2504.03600": (
        "MedSAM2, Figure 2",
        "Medians over the cases of the authors' own test sets, in brackets the first and the third quartile. MedSAM2 "
        "is fine-tuned from SAM 2.1 tiny; its box is on the middle slice. Scores of videos are means over frames "
        "first, and their prompt is not stated.",
    ),
    "arXiv 2505.16561": (
        "AutoNNUnet, SAM 2 slice by slice",
        "Means over cases. SAM 2.0 tiny (sam2_hiera_tiny) is fine-tuned and used without memory: the box of the "
        "largest slice, widened by 5 pixels, is put on the middle one, other boxes come from the mask of the "
        "neighbouring slice, and the ground truth says where the object ends.",
    ),
}


@dataclass(frozen=True)
class PublishedTable:
    """Figures of one publication, missing ones as dashes, and its address."""

    table: Table
    address: str


def published_tables(dataset_name: str) -> list[PublishedTable]:
    """The published tables for a dataset of nnU-Net, such as Dataset009_Spleen; empty if there are none."""
    task = task_of(dataset_name) if re.fullmatch(r"Dataset\d{3}_\w+", dataset_name) else ""
    tables = [_sam2_3dmed(task)] if task in TASKS else []
    results = published_for(task)
    interactive = [result for result in results if result.source.startswith(INTERACTIVE_PAPER)]
    if interactive:
        tables.append(_interactive(interactive))
    for source in WITH_PROMPTS:
        prompted = [result for result in results if result.source.startswith(source)]
        if prompted:
            tables.append(_prompted(source, prompted))
    per_case = _nnunet_per_case(dataset_name)
    return [*tables, per_case] if per_case else tables


def _sam2_3dmed(task: str) -> PublishedTable:
    rows = [
        _row(row["method"], row[f"{task}_dice"], row[f"{task}_iou"], row[f"{task}_nsd"], row[f"{task}_hd95"])
        for row in read_published("sam2_3dmed_paper.csv")
        if row["table"] == "1"
    ]
    note = (
        "One 80/20 split, not nnU-Net's folds; neither the tolerance of NSD, nor the unit of HD95, nor the size and "
        "version of SAM 2 are stated. MedSAM-2 is the paper's row for that method; trainers named selfSorting are only "
        "inspired by it."
    )
    table = Table("SAM2-3dMed, Table 1", HEADER, text_rows(rows), note)
    return PublishedTable(table, "https://arxiv.org/abs/2510.08967")


def _interactive(results: Sequence[PublishedResult]) -> PublishedTable:
    rows = [_row(f"{r.method} ({r.prompt_and_area})", r.dice, "", r.nsd, "", scale=0.01) for r in results]
    note = (
        "Means. Clicks or a mask of one slice are given to SAM 2, which is sam2_hiera_large (SAM 2.0) without "
        "fine-tuning; salient: slices with more than 256 voxels of the object. Other cases, and a tolerance of NSD "
        "that is not stated."
    )
    title = "Interactive 3D Medical Image Segmentation with SAM 2, Tables 1 and 2"
    return PublishedTable(Table(title, HEADER, text_rows(rows), note), "https://arxiv.org/abs/2408.02635")


def _prompted(source: str, results: Sequence[PublishedResult]) -> PublishedTable:
    title, note = WITH_PROMPTS[source]
    rows = []
    for result in results:
        method = f"{result.method} ({result.prompt_and_area}, {result.statistic})"
        name, dice, *others = _row(method, result.dice, "", result.nsd, "", scale=0.01)
        q1, q3 = (_number(text, 3, 0.01) for text in result.quartiles)
        rows.append((name, dice if MISSING in (q1, q3) else f"{dice} ({q1} to {q3})", *others))
    address = f"https://arxiv.org/abs/{source.removeprefix('arXiv ')}"
    return PublishedTable(Table(title, HEADER, text_rows(rows), note), address)


def _nnunet_per_case(dataset_name: str) -> PublishedTable | None:
    rows = []
    for network in NETWORKS:
        try:
            dice = published_dice(dataset_name, network)
        except UserError:  # nothing was published for this dataset
            continue
        mean = dice.mean(axis="columns").mean()
        rows.append(_row(f"{network} ({len(dice)} cases)", str(mean), "", "", ""))
    if not rows:
        return None
    note = (
        "Mean over all published cases of the mean over their classes (AutoNNUnet); `sam2_3dmed report "
        "--published` pairs the methods with it, case by case."
    )
    title = "nnU-Net v2 3d_fullres, five-fold cross-validation"
    return PublishedTable(Table(title, HEADER, text_rows(rows), note), "https://arxiv.org/abs/2505.16561")


def _row(name: str, dice: str, iou: str, nsd: str, hd95: str, scale: float = 1.0) -> tuple[str, ...]:
    return (name, *(_number(text, 3, scale) for text in (dice, iou, nsd)), _number(hd95, 2, 1.0))


def _number(text: str, digits: int, factor: float) -> str:
    return f"{float(text) * factor:.{digits}f}" if text else MISSING
