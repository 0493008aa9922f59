"""Chooses the masks of a round that go into the dataset: all of them are checked, and nothing is written."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.annotation.raw_dataset import RawDataset
from nnunetv2_sam2_3dmed.annotation.record import (
    CONFIRMED,
    CORRECTED,
    MACHINE,
    Annotation,
    read_record,
    voxels_sha256,
)
from nnunetv2_sam2_3dmed.annotation.replacing import Taken, is_news
from nnunetv2_sam2_3dmed.annotation.rounds import RankedCase, Round
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.label_maps import label_map
from nnunetv2_sam2_3dmed.images.volumes import READABLE, check_same_grid, read_volume
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from nnunetv2_sam2_3dmed.prompt_evaluation.benchmark import dice


@dataclass(frozen=True)
class Judgement:
    """What people said of the masks of a round.

    Attributes:
        corrected: folder of masks that somebody has had open; those that do not differ say nothing.
        confirmed: cases whose masks are good as they are.
        accept_below: the largest disagreement at which a mask is taken unseen; None for never.
        annotator: who said so.
        partial: labels that were not prompted in a case are not in its image.
        replace: corrected masks replace those that were corrected before.
    """

    corrected: Path | None = None
    confirmed: Collection[str] = ()
    accept_below: float | None = None
    annotator: str = ""
    partial: bool = False
    replace: bool = False


def choose(dataset: RawDataset, done: Round, judgement: Judgement) -> list[Taken]:
    """The masks to take.

    A mask that differs from the machine's in any voxel is corrected. Cases that the record has from this round already
    are taken again only where more was looked at since: corrected after confirmed, confirmed after machine.

    Raises:
        UserError: a mask has other labels or another grid, a case is not in the round or was not prompted for all
            labels, a file is missing or changed, or the dataset has a case of that name from elsewhere.
    """
    for what, own, expected in (
        ("dataset", done.made_by["dataset"], dataset.name),
        ("file_ending", done.made_by["file_ending"], dataset.ending),
    ):
        if own != expected:
            raise UserError(f"{done.folder} is a round of {own}, but the {what} of -d is {expected}: give that.")
    strange = [case for case in judgement.confirmed if case not in done.cases]
    if strange:
        raise UserError(f"{done.folder} has no case {strange[0]}, which --confirmed names: see its ranking.csv.")
    opened = _opened(dataset, done, judgement.corrected)
    record = read_record(dataset.folder)
    chosen = []
    for case in done.cases:
        taken = _judge(dataset, done, judgement, case, opened.get(case))
        if taken is None or not is_news(dataset, taken, record.get(case), judgement.replace):
            continue
        if taken.annotation.source != CORRECTED and not judgement.partial:
            _check_whole(dataset, case, done.cases[case])
        chosen.append(taken)
    return chosen


def _opened(dataset: RawDataset, done: Round, folder: Path | None) -> dict[str, Path]:
    """The masks in a folder of corrected ones, by case."""
    if folder is None:
        return {}
    if not folder.is_dir():
        raise UserError(f"--corrected is {folder}, but must be a folder of masks CASE{dataset.ending}.")
    found = {}
    for file in sorted(folder.glob("[!.]*")):
        if not file.name.lower().endswith(READABLE):
            continue
        case = file.name.removesuffix(dataset.ending)
        if not file.name.endswith(dataset.ending) or case not in done.cases:
            raise UserError(
                f"{file} is no mask of the round {done.name}: expected names CASE{dataset.ending}, such as "
                f"{next(iter(done.cases), 'case_01')}{dataset.ending}; rename it, or take it out of the folder."
            )
        found[case] = file
    return found


def _judge(dataset: RawDataset, done: Round, judgement: Judgement, case: str, opened: Path | None) -> Taken | None:
    """What becomes of a case; None if nobody has said that its mask is good."""
    ranked, mask = done.cases[case], done.mask(case)
    unseen = judgement.accept_below is not None and ranked.disagreement <= judgement.accept_below
    if opened is None and case not in judgement.confirmed and not unseen:
        return None
    if not mask.is_file() or sha256_of(mask) != ranked.mask_sha256:
        raise UserError(
            f"{mask} is {'not what the machine wrote' if mask.is_file() else 'missing'}: put corrected masks into "
            "another folder and name it with --corrected; delete this one and rank again to have it back."
        )
    image_file = Path(ranked.image)
    image = read_volume(image_file)
    if sha256_of(image_file) != ranked.image_sha256:
        raise UserError(f"{image_file} is not the image that was ranked: put that back, or rank into another folder.")
    check_same_grid(read_volume(mask), image)
    machine = labels_of(mask, dataset)
    own, source = machine, CONFIRMED if case in judgement.confirmed else MACHINE
    if opened is not None:
        check_same_grid(read_volume(opened), image)
        own = labels_of(opened, dataset)
        if not np.array_equal(own, machine):
            source = CORRECTED
    if source == MACHINE and not unseen:
        return None
    annotation = Annotation(
        case,
        source,
        done.name,
        done.id,
        done.made_by["model"],
        done.made_by["model_sha256"],
        "" if source == MACHINE else judgement.annotator,
        date.today().isoformat(),
        f"{ranked.disagreement:.4f}",
        f"{mean_dice(machine, own):.4f}",
        voxels_sha256(own),
    )
    return Taken(case, image_file, opened if source == CORRECTED and opened is not None else mask, annotation)


def _check_whole(dataset: RawDataset, case: str, ranked: RankedCase) -> None:
    """That all labels of the dataset were prompted in a case that nobody has corrected.

    Raises:
        UserError: of those that were not, nobody knows whether the image has them.
    """
    prompted = {scored.label for scored in ranked.objects}
    left = [name for label, name in dataset.objects.items() if label not in prompted]
    if left:
        raise UserError(
            f"{case} had no prompt for {', '.join(left)}, which would count as absent: correct its mask, or add "
            "--partial if such labels are in none of the images that are taken as the machine segmented them."
        )


def labels_of(file: Path, dataset: RawDataset) -> np.ndarray:
    """A mask's labels (z, y, x), uint8 or uint16.

    Raises:
        UserError: it has values that are no labels of the dataset.
    """
    array = label_map(read_volume(file).array, file)
    strange = [value for value in np.unique(array).tolist() if value not in dataset.labels]
    if strange:
        raise UserError(
            f"{file} has voxels of {strange[0]}, but the labels of {dataset.name} are "
            f"{', '.join(map(str, sorted(dataset.labels)))}: correct the mask."
        )
    return array.astype(np.uint8 if max(dataset.labels) < 256 else np.uint16)


def mean_dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice of two label maps, the mean over the labels that either has; 1 without any."""
    values = [value for value in np.union1d(first, second) if value]
    return float(np.mean([dice(first == value, second == value) for value in values])) if values else 1.0
