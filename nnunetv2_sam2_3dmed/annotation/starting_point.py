"""What a fine-tuning starts from: the last checkpoint, and half the learning rates that made it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive.model import DEFAULT_MODEL, model_file, nnunet_checkpoint
from nnunetv2_sam2_3dmed.interactive.trained_model import PROMPTED, takes_prompts
from nnunetv2_sam2_3dmed.network.checkpoints import identify_backbone, read_checkpoint, sha256_of
from nnunetv2_sam2_3dmed.prompt_training.finetuning import FINETUNED, Finetuning, fold_folder
from nnunetv2_sam2_3dmed.prompt_training.trainer import SAM2_PromptTrainer

SHARE = 0.5  # of the learning rates (MedSAM2)
FINAL = "checkpoint_final.pth"
SUMMARY = Path("validation") / "summary.json"  # what nnU-Net writes last
_EARLIER = re.compile(r"round_(\d+)_fold_(\w+)")


def starting_point(checkpoint: Path, epochs: int, cases: Sequence[str] = ()) -> Finetuning:
    """How to fine-tune a checkpoint.

    Learning rates are half of those of the trainer that made it, and for SAM 2's and MedSAM2's own weights half of
    those of ``SAM2_PromptTrainer``. Rounds after the first fine-tuning keep its rates: they are not halved again.

    Args:
        checkpoint: of nnU-Net, or in SAM 2's official format.
        epochs: to train.
        cases: that rounds add to the training cases of the fold.

    Raises:
        UserError: it cannot be read, takes no prompts, or nnU-Net does not find its trainer.
    """
    trained = nnunet_checkpoint(checkpoint)
    if trained is None:
        backbone = identify_backbone(read_checkpoint(checkpoint))
        rates = _halved(SAM2_PromptTrainer)
        network: dict[str, Any] = {"backbone": backbone}
        return Finetuning(str(checkpoint), sha256_of(checkpoint), checkpoint.stem, network, *rates, epochs, list(cases))
    if not takes_prompts(trained):
        raise UserError(
            f"{checkpoint} is a model that segments without prompts: give one of a SAM2_PromptTrainer, or SAM 2's "
            "weights."
        )
    arguments, name = trained["init_args"], trained["trainer_name"]
    if FINETUNED in arguments:
        rates = arguments[FINETUNED]["peak_lr"], arguments[FINETUNED]["trunk_lr"]
    else:
        rates = _halved(_trainer_of(checkpoint, name))
    network = dict(arguments[PROMPTED]["network"])
    return Finetuning(str(checkpoint), sha256_of(checkpoint), name, network, *rates, epochs, list(cases))


def last_checkpoint(trainer: str, plans: dict[str, Any], configuration: str, fold: int) -> Path:
    """The latest fine-tuning of a fold; where there is none, what ``SAM2_PromptTrainer`` made, else MedSAM2's weights.

    Raises:
        UserError: there is none of these.
    """
    folder = fold_folder(trainer, plans, configuration, fold)
    earlier = [path for _, path in sorted(_earlier_rounds(folder).items(), reverse=True)]
    trained = fold_folder(SAM2_PromptTrainer.__name__, plans, configuration, fold)
    for place in (folder, *earlier, trained):
        if (place / FINAL).is_file():
            return place / FINAL
    return model_file(DEFAULT_MODEL)


def check_ended(folder: Path) -> None:
    """That nothing in the folder of a fold would still go on.

    Raises:
        UserError: a fine-tuning was begun there, and has not ended.
    """
    if folder.is_dir() and not ((folder / FINAL).is_file() and (folder / SUMMARY).is_file()):
        raise UserError(
            f"the fine-tuning in {folder} has not ended, or was not validated: add --c, or delete that folder."
        )


def put_aside(folder: Path) -> Path | None:
    """Renames the folder of a fold to ``round_N_fold_F``, so that the next round leaves it alone.

    nnU-Net takes every folder whose name begins with ``fold_`` for one.

    Returns:
        The new name; None where there is no such folder.
    """
    if not folder.is_dir():
        return None
    aside = folder.with_name(f"round_{1 + max(_earlier_rounds(folder), default=0)}_{folder.name}")
    folder.rename(aside)
    return aside


def _earlier_rounds(folder: Path) -> dict[int, Path]:
    """What was put aside of a fold, by the round's number."""
    found = {}
    for path in folder.parent.glob(f"round_*_{folder.name}"):
        match = _EARLIER.fullmatch(path.name)
        if match:
            found[int(match[1])] = path
    return found


def _trainer_of(checkpoint: Path, name: str) -> type[SAM2_PromptTrainer]:
    try:
        found = recursive_find_trainer_class_by_name(name)
    except RuntimeError as error:
        raise UserError(
            f"{checkpoint} was made by {name}, which nnU-Net does not find, but half of its learning rates is what to "
            "fine-tune at: add that trainer's folder to nnUNet_extTrainer."
        ) from error
    return found


def _halved(trainer: type[SAM2_PromptTrainer]) -> tuple[float, float | None]:
    return SHARE * trainer.peak_lr, None if trainer.trunk_lr is None else SHARE * trainer.trunk_lr
