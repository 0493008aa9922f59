"""Whether a mask of a round may go into the dataset: it replaces nothing that people have worked on unasked."""

from __future__ import annotations

import filecmp
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_sam2_3dmed.annotation.raw_dataset import RawDataset
from nnunetv2_sam2_3dmed.annotation.record import CORRECTED, SOURCES, Annotation, check_recorded
from nnunetv2_sam2_3dmed.errors import UserError


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


def is_news(dataset: RawDataset, taken: Taken, known: Annotation | None, replace: bool) -> bool:
    """Whether the dataset does not have this, or better, already.

    Args:
        dataset: that takes it.
        taken: the mask.
        known: the case's line in the record.
        replace: what was corrected before may be replaced.

    Raises:
        UserError: the dataset has the case from elsewhere, its label is not the one that was recorded, or a corrected
            label would be lost.
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
            f"image or label of {taken.case} is missing, which is recorded as {known.source}: take it as "
            f"{known.source} again, as in the `loop take` that was interrupted."
        )
    if same:
        return more > 0 or not complete
    if known.source == CORRECTED and label.exists() and not replace:
        who = f" by {known.annotator}" if known.annotator else ""
        raise UserError(
            f"{label} was corrected{who} on {known.date}, and {taken.mask} is another mask: add --replace to replace "
            "what was corrected before, or take the file out of the folder."
        )
    return True


def _check_origin(dataset: RawDataset, taken: Taken, known: Annotation | None) -> None:
    """That files of the case are from the same round, and its image the same.

    Raises:
        UserError: the dataset has the name from elsewhere.
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
