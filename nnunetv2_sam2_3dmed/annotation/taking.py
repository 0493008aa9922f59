"""Choose masks of a round, and write them into the dataset: all of them are checked before anything is written."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.annotation.raw_dataset import RawDataset
from nnunetv2_sam2_3dmed.annotation.record import (
    CONFIRMED,
    CORRECTED,
    FILE,
    MACHINE,
    SOURCES,
    Annotation,
    check_recorded,
    read_record,
    voxels_sha256,
    write_record,
)
from nnunetv2_sam2_3dmed.annotation.rounds import RankedCase, Round
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import copy_file, read_json, write_text
from nnunetv2_sam2_3dmed.images.exact_paths import check_no_twin
from nnunetv2_sam2_3dmed.images.label_maps import label_map
from nnunetv2_sam2_3dmed.images.masks import dice
from nnunetv2_sam2_3dmed.images.volumes import READABLE, check_same_grid, read_volume, write_segmentation
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of

STAGED = ".taking"  # folder beside the files; nnU-Net ignores it


@dataclass(frozen=True)
class Review:
    """Result of an annotator's review of a round.

    Attributes:
        corrected: folder of masks reviewed by an annotator; those equal to the model's are ignored.
        confirmed: cases whose masks are correct as they are.
        accept_below: largest disagreement at which a mask is accepted without review; None for never.
        annotator: name of the annotator.
        partial: labels without a prompt in a case are absent from its image.
        replace: replace masks that were corrected earlier.
    """

    corrected: Path | None = None
    confirmed: Collection[str] = ()
    accept_below: float | None = None
    annotator: str = ""
    partial: bool = False
    replace: bool = False


@dataclass(frozen=True)
class Taken:
    """A mask that goes into the dataset.

    Attributes:
        case: case identifier.
        image: file of the image.
        mask: file of the mask.
        annotation: row of the record.
    """

    case: str
    image: Path
    mask: Path
    annotation: Annotation


# ---- choosing


def choose(dataset: RawDataset, done: Round, review: Review) -> list[Taken]:
    """Return the masks to take; nothing is written.

    A mask that differs from the model's in any voxel is corrected. Cases already recorded from this round are taken
    again only with a closer review: corrected after confirmed, confirmed after machine.

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
    unknown = [case for case in review.confirmed if case not in done.cases]
    if unknown:
        raise UserError(f"{done.folder} has no case {unknown[0]}, which --confirmed names: see its ranking.csv.")
    reviewed = _reviewed_masks(dataset, done, review.corrected)
    record = read_record(dataset.folder)
    chosen = []
    for case in done.cases:
        taken = _judge(dataset, done, review, case, reviewed.get(case))
        if taken is None or not _is_new(dataset, taken, record.get(case), review.replace):
            continue
        if taken.annotation.source != CORRECTED and not review.partial:
            _check_all_labels_prompted(dataset, case, done.cases[case])
        chosen.append(taken)
    return chosen


def _reviewed_masks(dataset: RawDataset, done: Round, folder: Path | None) -> dict[str, Path]:
    """Return the masks in the folder of --corrected by case."""
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


def _judge(dataset: RawDataset, done: Round, review: Review, case: str, reviewed: Path | None) -> Taken | None:
    """Return the mask of a case with its source; None if it was neither reviewed nor accepted without review."""
    ranked, mask = done.cases[case], done.mask(case)
    accepted = review.accept_below is not None and ranked.disagreement <= review.accept_below
    if reviewed is None and case not in review.confirmed and not accepted:
        return None
    if not mask.is_file() or sha256_of(mask) != ranked.mask_sha256:
        raise UserError(
            f"{mask} is {'not the mask that the model wrote' if mask.is_file() else 'missing'}: put corrected masks "
            "into another folder and name it with --corrected; delete this one and rank again to restore it."
        )
    image_file = Path(ranked.image)
    image = read_volume(image_file)
    if sha256_of(image_file) != ranked.image_sha256:
        raise UserError(f"{image_file} is not the image that was ranked: put that back, or rank into another folder.")
    check_same_grid(read_volume(mask), image)
    predicted = labels_of(mask, dataset)
    own, source = predicted, CONFIRMED if case in review.confirmed else MACHINE
    if reviewed is not None:
        check_same_grid(read_volume(reviewed), image)
        own = labels_of(reviewed, dataset)
        if not np.array_equal(own, predicted):
            source = CORRECTED
    if source == MACHINE and not accepted:
        return None
    annotation = Annotation(
        case=case,
        source=source,
        round=done.name,
        round_id=done.id,
        model=done.made_by["model"],
        model_sha256=done.made_by["model_sha256"],
        annotator="" if source == MACHINE else review.annotator,
        date=date.today().isoformat(),
        disagreement=f"{ranked.disagreement:.4f}",
        dice=f"{mean_dice(predicted, own):.4f}",
        label_sha256=voxels_sha256(own),
    )
    return Taken(case, image_file, reviewed if source == CORRECTED and reviewed is not None else mask, annotation)


def _check_all_labels_prompted(dataset: RawDataset, case: str, ranked: RankedCase) -> None:
    """Check that all labels of the dataset were prompted in a case that was not corrected.

    Raises:
        UserError: labels without a prompt may be present in the image, but would count as absent.
    """
    prompted = {scored.label for scored in ranked.objects}
    left = [name for label, name in dataset.objects.items() if label not in prompted]
    if left:
        raise UserError(
            f"{case} had no prompt for {', '.join(left)}, which would count as absent: correct its mask, or add "
            "--partial if such labels are in none of the images whose masks are taken uncorrected."
        )


def _is_new(dataset: RawDataset, taken: Taken, known: Annotation | None, replace: bool) -> bool:
    """Return if the dataset lacks this label and has no better one.

    Args:
        dataset: the dataset.
        taken: the mask.
        known: the case's row of the record.
        replace: replace labels that were corrected earlier.

    Raises:
        UserError: the dataset has the case from elsewhere, its label is not the recorded one, or a corrected label
            would be lost.
    """
    _check_origin(dataset, taken, known)
    if known is None:
        return True
    now, label = taken.annotation, dataset.label(taken.case)
    more = SOURCES.index(now.source) - SOURCES.index(known.source)
    same = now.label_sha256 == known.label_sha256
    complete = label.exists() and dataset.image(taken.case).exists()
    if label.exists():
        check_recorded(label, known)
    if more < 0:
        if complete:
            return False
        raise UserError(
            f"image or label of {taken.case} is missing, which is recorded as {known.source}: repeat the interrupted "
            f"`annotate take`, which takes it as {known.source}."
        )
    if same:
        return more > 0 or not complete
    if known.source == CORRECTED and label.exists() and not replace:
        who = f" by {known.annotator}" if known.annotator else ""
        raise UserError(
            f"{label} was corrected{who} on {known.date}, and {taken.mask} is another mask: add --replace to replace "
            "earlier corrected masks, or take the file out of the folder."
        )
    return True


def _check_origin(dataset: RawDataset, taken: Taken, known: Annotation | None) -> None:
    """Check that existing files of the case are from the same round and show the same image.

    Raises:
        UserError: the dataset has a case of that name from elsewhere.
    """
    image = dataset.image(taken.case)
    ours = known is not None and known.round_id == taken.annotation.round_id
    same_image = not image.exists() or filecmp.cmp(image, taken.image, shallow=False)
    free = known is None and not dataset.has(taken.case)
    if not (free or (ours and same_image)):
        raise UserError(
            f"{dataset.name} has a training case {taken.case} that is not from the round {taken.annotation.round}: "
            "rename one of the two; nothing was written."
        )


def labels_of(file: Path, dataset: RawDataset) -> np.ndarray:
    """Read the labels (z, y, x) of a mask, uint8 or uint16.

    Raises:
        UserError: it has values that are no labels of the dataset.
    """
    array = label_map(read_volume(file).array, file)
    unknown = [value for value in np.unique(array).tolist() if value not in dataset.labels]
    if unknown:
        raise UserError(
            f"{file} has voxels of {unknown[0]}, but the labels of {dataset.name} are "
            f"{', '.join(map(str, sorted(dataset.labels)))}: correct the mask."
        )
    return array.astype(np.uint8 if max(dataset.labels) < 256 else np.uint16)


def mean_dice(first: np.ndarray, second: np.ndarray) -> float:
    """Mean Dice of two label maps over the labels of either; 1 without any."""
    values = [value for value in np.union1d(first, second) if value]
    return float(np.mean([dice(first == value, second == value) for value in values])) if values else 1.0


# ---- writing


def take(dataset: RawDataset, chosen: Sequence[Taken]) -> None:
    """Write images and labels beside the dataset's, then the record, move the files, and update numTraining last.

    If a file cannot be written, the dataset stays unchanged. If the process is killed at any time, no label of a model
    is there without its row in the record, and the same call completes it.

    Raises:
        UserError: a file cannot be written, or another one would be read in its place.
    """
    _clean(dataset)  # left by a killed process
    for taken in chosen:
        for target in (dataset.image(taken.case), dataset.label(taken.case)):
            check_no_twin(target)
    try:
        staged = [(_staged(target), target) for taken in chosen for target in _write_beside(dataset, taken)]
        if chosen:
            new = {taken.case: taken.annotation for taken in chosen}
            known = read_record(dataset.folder)
            files = [*staged, (_staged(dataset.folder / FILE), dataset.folder / FILE)]
            with _all_or_none(files):
                write_record(dataset.folder, {**known, **new})
                for file, target in staged:
                    os.replace(file, target)
    finally:
        _clean(dataset)
    content = read_json(dataset.json_file, "correct it")
    if content.get("numTraining") != len(dataset.cases()):
        content["numTraining"] = len(dataset.cases())
        write_text(dataset.json_file, json.dumps(content, indent=4))


@contextmanager
def _all_or_none(files: Sequence[tuple[Path, Path]]) -> Iterator[None]:
    """Restore all earlier files if not every file of the pairs (staged, target) can be put in place."""
    before = {}
    for file, target in files:
        if target.exists():
            before[target] = file.with_name(f"{file.name}.before")
            copy_file(target, before[target])
    try:
        yield
    except (OSError, UserError):
        for _, target in reversed(files):
            if target in before:
                os.replace(before[target], target)
            else:
                target.unlink(missing_ok=True)
        raise


def _write_beside(dataset: RawDataset, taken: Taken) -> list[Path]:
    """Write the new files of a case into :data:`STAGED`; return their targets, the label last.

    Raises:
        UserError: the mask is not the one any more of which the record will have the checksum.
    """
    image, label = dataset.image(taken.case), dataset.label(taken.case)
    targets = [label] if image.exists() else [image, label]
    if not image.exists():
        copy_file(taken.image, _staged(image))
    labels = labels_of(taken.mask, dataset)
    if voxels_sha256(labels) != taken.annotation.label_sha256:
        raise UserError(f"{taken.mask} was changed while the others were read: run the command again.")
    # on the grid of the image, since editors round its numbers
    write_segmentation(_staged(label), labels, read_volume(taken.image))
    return targets


def _staged(target: Path) -> Path:
    return target.parent / STAGED / target.name


def _clean(dataset: RawDataset) -> None:
    for folder in (".", "imagesTr", "labelsTr"):
        shutil.rmtree(dataset.folder / folder / STAGED, ignore_errors=True)
