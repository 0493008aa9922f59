"""Whether a model may have been trained on the cases that it is measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunetv2_sam2_3dmed.interactive.model import nnunet_checkpoint
from nnunetv2_sam2_3dmed.network.checkpoints import CHECKPOINTS
from nnunetv2_sam2_3dmed.prompt_evaluation.headers import listed

PUBLIC_WEIGHTS = (
    "the model may have seen these cases in training: published weights such as MedSAM2's come from public datasets, "
    "which the paper on MedSAM2 lists only in a supplement."
)


def training_warnings(
    model: Path, sha256: str, dataset: str, names: Sequence[str], splits: Sequence[Mapping[str, Sequence[str]]] | None
) -> list[str]:
    """What there is to warn of.

    A checkpoint of nnU-Net knows its dataset and fold; SAM 2's own weights come from natural images; of all others
    nothing is known.

    Args:
        model: the file.
        sha256: of it.
        dataset: full name of the one that is prompted.
        names: of the prompted cases.
        splits: nnU-Net's, of this dataset; None where there are none.
    """
    checkpoint = nnunet_checkpoint(model)
    if checkpoint is None:
        official = {known.sha256 for known in CHECKPOINTS.values() if known.sha256 is not None}
        return [] if sha256 in official else [PUBLIC_WEIGHTS]
    arguments = checkpoint.get("init_args", {})
    fold = arguments.get("fold")
    if arguments.get("plans", {}).get("dataset_name") != dataset:
        return []
    if fold == "all":
        return [f"the model was trained on all cases of {dataset}: these scores are those of its training cases."]
    if splits is None or not isinstance(fold, int) or fold >= len(splits):
        return [
            f"the model was trained on {dataset}, fold {fold}, for which there is no entry in splits_final.json: some "
            "of these cases may be its training cases."
        ]
    validated = set(splits[fold]["val"])
    seen = sorted(name for name in names if name not in validated)
    if not seen:
        return []
    return [
        f"{len(seen)} of these {len(names)} cases ({listed(seen)}) are not among the validation cases of fold {fold}, "
        "in which the model was trained: their scores are those of training cases."
    ]
