"""Takes the masks of a round into the dataset: everything is checked first, then files are written."""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import read_json, write_text, written_beside
from nnunetv2_sam2_3dmed.interactive.volumes import READABLE, check_same_grid, read_volume, write_segmentation
from nnunetv2_sam2_3dmed.loop.raw_dataset import RawDataset
from nnunetv2_sam2_3dmed.loop.record import (
    CONFIRMED,
    CORRECTED,
    MACHINE,
    SOURCES,
    Annotation,
    read_record,
    write_record,
)
from nnunetv2_sam2_3dmed.loop.rounds import Round
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from nnunetv2_sam2_3dmed.prompting.benchmark import dice


@dataclass(frozen=True)
class Taken:
    """A mask that goes into the dataset.

    Attributes:
        case: its identifier.
        image: file of the image.
        mask: file of the mask.
        annotation: for the record.
    """

    case: str
    image: Path
    mask: Path
    annotation: Annotation


@dataclass(frozen=True)
class Judgement:
    """What people said of the masks of a round.

    Attributes:
        corrected: folder of masks that somebody has had open; those that do not differ say nothing.
        confirmed: cases whose masks are good as they are.
        accept_below: the largest disagreement at which a mask is taken unseen; None for never.
        annotator: who said so.
    """

    corrected: Path | None = None
    confirmed: Collection[str] = ()
    accept_below: float | None = None
    annotator: str = ""


def choose(dataset: RawDataset, done: Round, judgement: Judgement) -> list[Taken]:
    """The masks to take, all of them checked; nothing is written.

    A mask that differs from the machine's in any voxel is corrected. Cases that the record has from this round already
    are taken again only where more was looked at since: corrected after confirmed, confirmed after machine.

    Raises:
        UserError: a mask has other labels or another grid, a case is not in the round, a file is missing or changed,
            or the dataset has a case of that name from elsewhere.
    """
    if done.made_by["dataset"] != dataset.name:
        raise UserError(f"{done.folder} is a round of {done.made_by['dataset']}, but -d is {dataset.name}: give that.")
    strange = [case for case in judgement.confirmed if case not in done.cases]
    if strange:
        raise UserError(f"{done.folder} has no case {strange[0]}, which --confirmed names: see its ranking.csv.")
    opened = _opened(dataset, done, judgement.corrected)
    record = read_record(dataset.folder)
    chosen = []
    for case in done.cases:
        taken = _judge(dataset, done, judgement, case, opened.get(case))
        known = record.get(case)
        if taken is None or not _is_news(dataset, taken, known):
            continue
        _check_free(dataset, taken, known)
        chosen.append(taken)
    return chosen


def take(dataset: RawDataset, chosen: Sequence[Taken]) -> None:
    """Writes images, labels, the record, and last ``numTraining`` in dataset.json.

    Interrupted, it can be run again: cases that are there already with the same image and mask are in nobody's way.
    """
    for taken in chosen:
        image = read_volume(taken.image)
        # on the image's own grid, which editors write with other digits
        write_segmentation(dataset.label(taken.case), _labels(taken.mask, dataset), image)
        target = dataset.image(taken.case)
        if not target.exists():  # nnU-Net lists images: this makes it a case
            with written_beside(target, dataset.ending) as beside:
                shutil.copyfile(taken.image, beside)
    if chosen:
        new = {taken.case: taken.annotation for taken in chosen}
        write_record(dataset.folder, {**read_record(dataset.folder), **new})
    content = read_json(dataset.json_file)
    if content.get("numTraining") != len(dataset.cases()):
        content["numTraining"] = len(dataset.cases())
        write_text(dataset.json_file, json.dumps(content, indent=4))


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
    machine = _labels(mask, dataset)
    own, source = machine, CONFIRMED if case in judgement.confirmed else MACHINE
    if opened is not None:
        check_same_grid(read_volume(opened), image)
        own = _labels(opened, dataset)
        if not np.array_equal(own, machine):
            source = CORRECTED
    if source == MACHINE and not unseen:
        return None
    annotation = Annotation(
        case,
        source,
        done.name,
        done.made_by["model"],
        done.made_by["model_sha256"],
        "" if source == MACHINE else judgement.annotator,
        date.today().isoformat(),
        f"{ranked.disagreement:.4f}",
        f"{mean_dice(machine, own):.4f}",
    )
    return Taken(case, image_file, opened if source == CORRECTED and opened is not None else mask, annotation)


def _labels(file: Path, dataset: RawDataset) -> np.ndarray:
    """A mask's labels (z, y, x), uint8 or uint16.

    Raises:
        UserError: it has values that are no labels of the dataset.
    """
    array = read_volume(file).array
    strange = [value for value in np.unique(array).tolist() if value not in dataset.labels]
    if strange:
        raise UserError(
            f"{file} has voxels of {strange[0]:g}, but the labels of {dataset.name} are "
            f"{', '.join(map(str, sorted(dataset.labels)))}: correct the mask."
        )
    return array.astype(np.uint8 if max(dataset.labels) < 256 else np.uint16)


def _is_news(dataset: RawDataset, taken: Taken, known: Annotation | None) -> bool:
    """Whether the record does not have this, or better, from the same round already."""
    if known is None or not _same_round(known, taken.annotation):
        return True
    if taken.annotation.source == known.source == CORRECTED:
        return not _same_mask(dataset.label(taken.case), taken.mask)
    return SOURCES.index(taken.annotation.source) > SOURCES.index(known.source)


def _same_round(known: Annotation, now: Annotation) -> bool:
    return (known.round, known.model_sha256) == (now.round, now.model_sha256)


def _check_free(dataset: RawDataset, taken: Taken, known: Annotation | None) -> None:
    """That a case replaces none but itself.

    Raises:
        UserError: the dataset has the name from elsewhere.
    """
    image, label = dataset.image(taken.case), dataset.label(taken.case)
    same_image = not image.exists() or filecmp.cmp(image, taken.image, shallow=False)
    ours = known is not None and _same_round(known, taken.annotation)
    # without a record, what an interrupted call has written: nothing else has these voxels
    left = known is None and (not label.exists() or _same_mask(label, taken.mask))
    if not (same_image and (ours or left)):
        raise UserError(
            f"{dataset.name} has a training case {taken.case} that is not from the round {taken.annotation.round}: "
            "rename one of the two; nothing was written."
        )


def _same_mask(label: Path, mask: Path) -> bool:
    return label.is_file() and np.array_equal(read_volume(label).array, read_volume(mask).array)


def mean_dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice of two label maps, the mean over the labels that either has; 1 without any."""
    values = [value for value in np.union1d(first, second) if value]
    return float(np.mean([dice(first == value, second == value) for value in values])) if values else 1.0
