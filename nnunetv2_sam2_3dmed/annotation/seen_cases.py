"""Whether the model that a fine-tuning starts from may know the cases that it is validated against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive.model import nnunet_checkpoint
from nnunetv2_sam2_3dmed.nnunet.folds import Folds
from nnunetv2_sam2_3dmed.prompt_training.finetuning import FINETUNED
from nnunetv2_sam2_3dmed.prompt_training.training_cases import PUBLIC_WEIGHTS, training_warnings


def check_unseen(
    checkpoint: Path,
    sha256: str,
    dataset: str,
    validated: Sequence[str],
    folds: Folds,
    allowed: bool,
    progress: Callable[[str], None],
) -> str:
    """That a checkpoint was not trained on validation cases, as far as it says what it was trained on.

    Args:
        checkpoint: the file.
        sha256: of it.
        dataset: full name.
        validated: the validation cases of the fold.
        folds: of the dataset.
        allowed: whether it may know them.
        progress: told of what is not known.

    Returns:
        Why it may know them; empty where it does not.

    Raises:
        UserError: it may know them, and is not allowed to.
    """
    trained = nnunet_checkpoint(checkpoint)
    arguments = {} if trained is None else trained.get("init_args", {})
    reasons = training_warnings(checkpoint, sha256, dataset, validated, folds)
    if arguments.get("plans", {}).get("dataset_name") == dataset:  # what an earlier round started from
        reasons.append(arguments.get(FINETUNED, {}).get("seen_validation", ""))
    if PUBLIC_WEIGHTS in reasons:
        progress(PUBLIC_WEIGHTS)
    reason = next((reason for reason in reasons if reason not in ("", PUBLIC_WEIGHTS)), "")
    if reason and not allowed:
        raise UserError(
            f"{checkpoint} would be validated against cases that it may know ({reason.rstrip('.')}): give a model "
            "trained on the same fold, or add --seen-validation; its scores then say nothing of new cases."
        )
    return reason
