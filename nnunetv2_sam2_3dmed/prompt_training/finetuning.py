"""SAM2_PromptTrainer_finetune: fine-tunes a promptable model at lower learning rates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import read_json, write_text
from nnunetv2_sam2_3dmed.interactive.model import fill, nnunet_checkpoint
from nnunetv2_sam2_3dmed.network.checkpoints import read_checkpoint, sha256_of
from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder
from nnunetv2_sam2_3dmed.prompt_evaluation.leakage import (
    FINETUNED,
    GIVEN_WEIGHTS,
    TRAINED_ON,
    UNKNOWN_START,
    is_official,
)
from nnunetv2_sam2_3dmed.prompt_training.trainer import SAM2_PromptTrainer

FILE = "finetune.json"  # beside the checkpoints


@dataclass(frozen=True)
class Finetuning:
    """Starting point and settings of a fine-tuning.

    Attributes:
        checkpoint: file with the initial weights.
        sha256: checksum of that file.
        trained_by: trainer that made it, or the name of the weights.
        network: network arguments of the weights, which override those of the plan.
        peak_lr: peak learning rate.
        trunk_lr: peak learning rate of the image encoder; None for the same.
        epochs: number of epochs of 250 iterations.
        cases: cases that are added to the training cases of the fold.
        seen_validation: why the initial weights may have been trained on the fold's validation cases; empty if not.
    """

    checkpoint: str
    sha256: str
    trained_by: str
    network: dict[str, Any]
    peak_lr: float
    trunk_lr: float | None
    epochs: int
    cases: list[str] = field(default_factory=list)
    seen_validation: str = ""

    def write(self, folder: Path) -> None:
        """Write the settings into the folder of the fold, where the trainer reads them."""
        write_text(folder / FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Finetuning:
        """Read the settings from the folder of the fold.

        Raises:
            UserError: there are none, or the file holds something else.
        """
        file = folder / FILE
        if not file.is_file():
            raise UserError(
                f"there is no {file} with the settings of a fine-tuning: start it with `sam2_3dmed annotate finetune`."
            )
        remedy = "delete its folder and start again"
        try:
            return cls(**read_json(file, remedy))
        except TypeError as error:
            raise UserError(f"{file} is not what `sam2_3dmed annotate finetune` writes ({error}): {remedy}.") from error


def fold_folder(trainer: str, plans: dict[str, Any], configuration: str, fold: int | str) -> Path:
    """Return nnU-Net's results folder of a trainer and fold."""
    results = nnunet_folder("nnUNet_results") / plans["dataset_name"]
    return results / f"{trainer}__{plans['plans_name']}__{configuration}" / f"fold_{fold}"


def with_network(plans: dict[str, Any], configuration: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return plans whose configuration builds the network with other arguments."""
    changed = deepcopy(plans)
    architecture = deepcopy(PlansManager(plans).get_configuration(configuration).configuration["architecture"])
    architecture["arch_kwargs"].update(arguments)
    changed["configurations"][configuration]["architecture"] = architecture
    return changed


class SAM2_PromptTrainer_finetune(SAM2_PromptTrainer):
    """Fine-tuning with the weights, cases, learning rates and epochs of ``finetune.json``.

    ``sam2_3dmed annotate finetune`` writes that file into the fold's folder and starts nnU-Net. The cases are added to
    the training cases of this trainer only: nnU-Net's ``splits_final.json``, which all trainers share, is not changed.
    The recipe is that of :class:`SAM2_PromptTrainer`.
    """

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ):
        wanted = Finetuning.read(fold_folder(type(self).__name__, plans, configuration, fold))
        super().__init__(with_network(plans, configuration, wanted.network), configuration, fold, dataset_json, device)
        self.wanted = wanted
        self.initial_lr = wanted.peak_lr
        self.trunk_lr = wanted.trunk_lr
        self.num_epochs = wanted.epochs
        self.save_every = 1  # there are few epochs
        self.my_init_kwargs[FINETUNED] = asdict(wanted)

    def do_split(self) -> tuple[list[str], list[str]]:
        """Return nnU-Net's training cases of the fold with those from rounds, and its validation cases.

        Raises:
            UserError: the fold now validates against a case from a round.
        """
        train, val = super().do_split()
        both = sorted(set(self.wanted.cases) & set(val))
        if both:
            raise UserError(
                f"fold {self.fold} validates against {both[0]}, which this fine-tuning trains on: put the "
                "splits_final.json back with which it was started, or start again."
            )
        return [*train, *(case for case in self.wanted.cases if case not in train)], val

    def check_data(self, train: Sequence[str], val: Sequence[str]) -> None:
        super().check_data(train, val)
        added = len(set(train) & set(self.wanted.cases))
        self.print_to_log_file(f"{len(train)} training cases, {added} of them from rounds")

    def _find_checkpoint(self) -> Path:
        checkpoint = Path(self.wanted.checkpoint)
        if not checkpoint.is_file() or sha256_of(checkpoint) != self.wanted.sha256:
            problem = "has changed since" if checkpoint.is_file() else "is missing, but was the start of"
            raise UserError(f"{checkpoint} {problem} the fine-tuning: put it back, or start again.")
        return checkpoint

    def _load_pretrained(self, checkpoint: Path) -> None:
        trained = nnunet_checkpoint(checkpoint)
        weights = read_checkpoint(checkpoint) if trained is None else trained["network_weights"]
        fill(self.network, weights, checkpoint)
        before = None if trained is None else trained["init_args"]
        if before is None:
            self.my_init_kwargs[UNKNOWN_START] = not is_official(self.wanted.sha256)
        else:
            self.my_init_kwargs[UNKNOWN_START] = before.get(UNKNOWN_START, TRAINED_ON not in before)
            self.my_init_kwargs[GIVEN_WEIGHTS] = before.get(GIVEN_WEIGHTS, False)
            self.my_init_kwargs[TRAINED_ON] = before.get(TRAINED_ON, {})
        rates = f"{self.initial_lr:g}" if self.trunk_lr is None else f"{self.trunk_lr:g} and {self.initial_lr:g}"
        self.print_to_log_file(
            f"all weights from {checkpoint} ({self.wanted.trained_by}), SHA-256 {self.wanted.sha256}; learning rate "
            f"{rates}, {self.num_epochs} epochs"
        )
