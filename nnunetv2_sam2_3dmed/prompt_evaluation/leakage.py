"""Warnings about models that may have been trained on the cases that they are measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive.model import nnunet_checkpoint
from nnunetv2_sam2_3dmed.network.checkpoints import CHECKPOINTS
from nnunetv2_sam2_3dmed.nnunet.folds import Folds
from nnunetv2_sam2_3dmed.nnunet.sources import Sources, sources_of
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import listed

# keys in a checkpoint's ``init_args``: settings of a fine-tuning; training cases by the dataset that they come from;
# True if nothing is known of the cases that the start of the training was trained on; and True if that start was
# given to nnU-Net, which does not tell the trainer which file it was
FINETUNED, TRAINED_ON, UNKNOWN_START = "finetuned", "trained_on", "unknown_start"
GIVEN_WEIGHTS = "given_weights"
PUBLIC_WEIGHTS = (
    "the model, or what it was fine-tuned from, may have been trained on these cases: published weights such as "
    "MedSAM2's come from public datasets, which the MedSAM2 paper lists only in a supplement."
)

_GIVEN = (
    "the model, or what it was fine-tuned from, started from weights that were given with -pretrained_weights, whose "
    "training cases are not known: these cases may be among them."
)


def is_official(sha256: str) -> bool:
    """True for SAM 2's own weights, which come from natural images."""
    return sha256 in {known.sha256 for known in CHECKPOINTS.values() if known.sha256 is not None}


def leakage_warnings(
    model: Path, sha256: str, dataset: str, cases: Sequence[str], folds: Folds | None, sources: Sources
) -> list[str]:
    """Return the reasons why a model may have been trained on cases of a dataset; empty if there are none.

    A checkpoint of ``SAM2_PromptTrainer`` names its training cases, and those of what it was fine-tuned from if that
    did, but not those of weights that were given with nnU-Net's ``-pretrained_weights``; of older ones, nnU-Net's
    dataset and fold tell. SAM 2's own weights come from natural images. Nothing is known
    of other weights.

    Args:
        model: the checkpoint file.
        sha256: checksum of that file.
        dataset: the dataset's full name.
        cases: identifiers of the cases that the model is measured on.
        folds: nnU-Net's folds of the dataset; None if there are none.
        sources: of the dataset.
    """
    checkpoint = nnunet_checkpoint(model)
    if checkpoint is None:
        return [] if is_official(sha256) else [PUBLIC_WEIGHTS]
    arguments = checkpoint.get("init_args", {})
    trained = sources_of(arguments.get("dataset_json", {}))
    own = arguments.get("plans", {}).get("dataset_name")
    # a merged dataset has the folds of those that it was made of
    of_dataset = dataset in {own, *(source.dataset for source in trained.merged)}
    reasons = []
    if TRAINED_ON in arguments:
        # as it was when it was trained on: dataset.json may have been written anew
        reasons.append(_of_cases(arguments[TRAINED_ON], dataset, cases, trained if dataset == own else sources))
        if arguments.get(UNKNOWN_START):
            reasons.append(PUBLIC_WEIGHTS)
        if arguments.get(GIVEN_WEIGHTS):
            reasons.append(_GIVEN)
    elif of_dataset:
        reasons.append(_of_fold(arguments.get("fold"), dataset, cases, folds))
    if of_dataset and (TRAINED_ON not in arguments or arguments.get(UNKNOWN_START)):
        reasons.append(arguments.get(FINETUNED, {}).get("seen_validation", ""))
    return [reason for reason in reasons if reason]


def with_cases(
    trained_on: Mapping[str, Sequence[str]], dataset: str, cases: Sequence[str], sources: Sources
) -> dict[str, list[str]]:
    """Add cases to those that a model was trained on before.

    Args:
        trained_on: cases by dataset, as under :data:`TRAINED_ON`.
        dataset: the one that is trained on now.
        cases: of that dataset; those of a merged one are noted with the dataset that they come from.
        sources: of that dataset.

    Returns:
        Sorted cases by dataset.
    """
    known = {name: set(seen) for name, seen in trained_on.items()}
    for case in cases:
        name, own = sources.origin(dataset, case)
        known.setdefault(name, set()).add(str(own))  # nnU-Net's own folds have numpy's strings
    return {name: sorted(seen) for name, seen in sorted(known.items())}


def _of_cases(trained_on: Mapping[str, Sequence[str]], dataset: str, cases: Sequence[str], sources: Sources) -> str:
    known = {(name, case) for name, seen in trained_on.items() for case in seen}
    seen = [case for case in cases if sources.origin(dataset, case) in known]
    if not seen:
        return ""
    return (
        f"the model was trained on {len(seen)} of these {len(cases)} cases ({listed(seen)}): their scores are those of "
        "training cases."
    )


def _of_fold(fold: int | str | None, dataset: str, cases: Sequence[str], folds: Folds | None) -> str:
    if fold == "all":
        return f"the model was trained on all cases of {dataset}: these scores are those of its training cases."
    if folds is None or not isinstance(fold, int) or fold >= len(folds):
        return (
            f"the model was trained on {dataset}, fold {fold}, for which there is no entry in splits_final.json: some "
            "of these cases may be its training cases."
        )
    seen = sorted(set(cases) - set(folds[fold]["val"]))
    if not seen:
        return ""
    return (
        f"{len(seen)} of these {len(cases)} cases ({listed(seen)}) are not among the validation cases of fold {fold}, "
        "in which the model was trained: their scores are those of training cases."
    )


def reason_for_leakage(checkpoint: Path, warnings: Sequence[str], allowed: bool) -> str:
    """Return why a fine-tuning may be validated against training cases of its starting point; "" if there is no reason.

    Args:
        checkpoint: the starting point, for messages.
        warnings: those of :func:`leakage_warnings`; :data:`PUBLIC_WEIGHTS` is no reason.
        allowed: return the reason instead of raising an error.

    Raises:
        UserError: there is a reason, and it is not allowed.
    """
    reason = next((warning for warning in warnings if warning != PUBLIC_WEIGHTS), "")
    if reason and not allowed:
        raise UserError(
            f"{checkpoint} may have been trained on the validation cases ({reason.rstrip('.')}): give a model trained "
            "on the same fold, or add --seen-validation; its scores then say nothing about new cases."
        )
    return reason
