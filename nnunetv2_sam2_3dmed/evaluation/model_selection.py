"""Which models were chosen by the very cases that they are scored on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunetv2_sam2_3dmed.training.inner_split import FILE


def chosen_by_scored_cases(methods: Mapping[str, Sequence[Path]]) -> list[str]:
    """Names of the methods whose folds were validated by nnU-Net without an inner split.

    nnU-Net computes the pseudo Dice on the validation cases of a fold, whose segmentations it then writes to the folder
    ``validation``. A copy beside it, such as ``validation_last``, counts as well. A training with an inner split has
    left a record of it there.

    Args:
        methods: the folders of each method's predictions, by its name.
    """
    return [name for name, folders in methods.items() if any(map(_by_validation_cases, folders))]


def _by_validation_cases(folder: Path) -> bool:
    fold = Path(folder).parent
    return Path(folder).name.startswith("validation") and fold.name.startswith("fold_") and not (fold / FILE).is_file()


def selection_note(methods: Sequence[str]) -> str:
    """The sentence that says so.

    Args:
        methods: what :func:`chosen_by_scored_cases` found, at least one.
    """
    return (
        "Early stopping (in SAM2-3dMed's trainers) and checkpoint_best (validated with --val_best) go by the pseudo "
        f"Dice on the fold's validation cases, which are scored here, for {', '.join(methods)}; only trainers with an "
        "inner split (SAM2_3dMedTrainer_innerSplit) go by other cases."
    )
