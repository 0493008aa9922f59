"""A round of fine-tuning: checks, preprocessing of new cases, then nnU-Net's own training."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from nnunetv2.run.run_training import run_training

from nnunetv2_sam2_3dmed.annotation.preprocessing import check_preprocessed, data_folder, preprocess_new
from nnunetv2_sam2_3dmed.annotation.raw_dataset import RawDataset
from nnunetv2_sam2_3dmed.annotation.record import FILE as RECORD
from nnunetv2_sam2_3dmed.annotation.record import Annotation, check_recorded, locked, read_record
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import read_json, write_text
from nnunetv2_sam2_3dmed.interactive.model import DEFAULT_MODEL, model_file, nnunet_checkpoint
from nnunetv2_sam2_3dmed.interactive.trained_model import PROMPTED, takes_prompts
from nnunetv2_sam2_3dmed.network.checkpoints import identify_backbone, read_checkpoint, sha256_of
from nnunetv2_sam2_3dmed.nnunet.folders import read_plans
from nnunetv2_sam2_3dmed.nnunet.folds import FILE as FOLDS
from nnunetv2_sam2_3dmed.nnunet.folds import folds_without_validating
from nnunetv2_sam2_3dmed.nnunet.sources import sources_of
from nnunetv2_sam2_3dmed.prompt_evaluation.leakage import (
    FINETUNED,
    PUBLIC_WEIGHTS,
    leakage_warnings,
    reason_for_leakage,
)
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import RawCase, check_headers, listed
from nnunetv2_sam2_3dmed.prompt_training.finetuning import Finetuning, SAM2_PromptTrainer_finetune, fold_folder
from nnunetv2_sam2_3dmed.prompt_training.trainer import SAM2_PromptTrainer
from nnunetv2_sam2_3dmed.training.budget import WallClockBudget
from nnunetv2_sam2_3dmed.training.checks import check_configuration, check_slices
from nnunetv2_sam2_3dmed.training.names import EpochBudget, find_trainer

SHARE = 0.5  # of the learning rates (MedSAM2)
FINAL = "checkpoint_final.pth"
SUMMARY = Path("validation") / "summary.json"  # the last file that nnU-Net writes
_EARLIER = re.compile(r"round_(\d+)_fold_(\w+)")


@dataclass(frozen=True)
class FinetuningRun:
    """A fine-tuning of one fold.

    Attributes:
        dataset: dataset with a record.
        configuration: configuration of its plans, such as ``3d_slices8``.
        fold: fold number.
        trainer: ``SAM2_PromptTrainer_finetune``, or a subclass that nnU-Net finds.
        plans: name of the plans.
    """

    dataset: RawDataset
    configuration: str
    fold: int
    trainer: str = SAM2_PromptTrainer_finetune.__name__
    plans: str = "nnUNetPlans"

    def prepare(
        self,
        model: str | None,
        epochs: int,
        processes: int = 1,
        progress: Callable[[str], None] = lambda line: None,
        seen_validation: bool = False,
    ) -> Finetuning:
        """Check everything, preprocess new cases, and write the settings of the training.

        Args:
            model: as for ``sam2_3dmed segment``; None for the last checkpoint.
            epochs: number of epochs.
            processes: number of processes for preprocessing.
            progress: callback for one line per step.
            seen_validation: accept a model that may have been trained on validation cases of the fold.

        Raises:
            UserError: a file is missing, or inputs do not fit together.
        """
        plans_file, plans = read_plans(self.dataset.name, self.plans)
        preprocessed = plans_file.parent
        with locked(preprocessed):
            content = read_json(preprocessed / "dataset.json")
            slices = SAM2_PromptTrainer_finetune.required_slices
            check_configuration(plans, self.configuration, content, slices)
            check_slices(plans, self.configuration, self.trainer, slices)
            self._check_trainer()
            record = self._record()
            splits = preprocessed / FOLDS
            folds = folds_without_validating(splits, self.dataset.cases(), record)
            if not 0 <= self.fold < len(folds):
                raise UserError(f"the fold is {self.fold}, but must be one from 0 to {len(folds) - 1}.")
            fold = folds[self.fold]
            experts = [case for part in ("train", "val") for case in fold[part] if case not in record]
            check_preprocessed(data_folder(preprocessed, plans, self.configuration), experts)
            folder = self._folder(plans)
            check_ended(folder)
            chosen = (
                last_checkpoint(self.trainer, plans, self.configuration, self.fold)
                if model is None
                else model_file(model)
            ).resolve()
            # folds that were drawn with these cases leave out of a fold those of subjects that it validates
            left_out = sorted({case for other in folds for case in other["train"]} & set(record) - set(fold["train"]))
            if left_out:
                progress(
                    f"cases from rounds that {FOLDS} leaves out of fold {self.fold} are not trained on: "
                    f"{listed(left_out)}"
                )
            start = starting_point(chosen, epochs, sorted(set(record) - set(left_out)))
            sources = sources_of(content)
            warnings = leakage_warnings(chosen, start.sha256, self.dataset.name, fold["val"], folds, sources)
            if PUBLIC_WEIGHTS in warnings:
                progress(PUBLIC_WEIGHTS)
            start = replace(start, seen_validation=reason_for_leakage(chosen, warnings, seen_validation))
            self._check_files([*fold["val"], *sorted(record)], record, progress)
            if not splits.is_file():  # before new cases are there, from which nnU-Net would draw too
                write_text(splits, json.dumps(folds, indent=4))
            labels = {case: record[case].label_sha256 for case in sorted(record)}
            preprocess_new(self.dataset, preprocessed, plans, self.configuration, labels, processes, progress)
            aside = put_aside(folder)
            if aside is not None:
                progress(f"the previous round is now {aside}")
                if chosen.is_relative_to(folder.resolve()):
                    start = replace(start, checkpoint=str(aside.resolve() / chosen.relative_to(folder.resolve())))
            start.write(folder)
            return start

    def begun(self) -> Finetuning:
        """Return the settings of an interrupted fine-tuning.

        Raises:
            UserError: there is none.
        """
        return Finetuning.read(self._folder(read_plans(self.dataset.name, self.plans)[1]))

    def train(self, device: str, go_on: bool = False) -> None:
        """Train and validate as ``nnUNetv2_train`` does.

        Args:
            device: "cuda", "cpu" or "mps".
            go_on: continue from nnU-Net's latest checkpoint.
        """
        run_training(
            self.dataset.name,
            self.configuration,
            self.fold,
            self.trainer,
            self.plans,
            continue_training=go_on,
            device=torch.device(device),
        )

    def _folder(self, plans: dict) -> Path:
        return fold_folder(self.trainer, plans, self.configuration, self.fold)

    def _check_trainer(self) -> None:
        found = find_trainer(self.trainer)
        if not issubclass(found, SAM2_PromptTrainer_finetune):
            raise UserError(
                f"{self.trainer} is no {SAM2_PromptTrainer_finetune.__name__} and takes no checkpoint to start from: "
                "leave -tr out."
            )
        if issubclass(found, (EpochBudget, WallClockBudget)):
            raise UserError(
                f"{self.trainer} has a length of its own, but a fine-tuning's is in epochs: give --epochs, and the "
                "trainer without that ending."
            )

    def _record(self) -> dict[str, Annotation]:
        """Return the cases from rounds after checking that their files exist."""
        record = read_record(self.dataset.folder)
        if not record:
            raise UserError(
                f"{self.dataset.folder} has no {RECORD} and therefore no new cases: run `sam2_3dmed annotate take` "
                "first."
            )
        for case in record:
            for file in (self.dataset.image(case), self.dataset.label(case)):
                if not file.is_file():
                    raise UserError(
                        f"there is no {file}, but {RECORD} has the case {case}: repeat the interrupted `annotate "
                        "take`, put the file back, or delete the row."
                    )
        return record

    def _check_files(
        self, cases: Sequence[str], record: Mapping[str, Annotation], progress: Callable[[str], None]
    ) -> None:
        """Check that images and labels can be prompted, and that labels from rounds are the recorded ones."""
        raw = [RawCase(case, self.dataset.image(case), self.dataset.label(case)) for case in cases]
        for warning in check_headers(raw):
            progress(warning)
        for case, annotation in record.items():
            check_recorded(self.dataset.label(case), annotation)


# ---- starting point


def starting_point(checkpoint: Path, epochs: int, cases: Sequence[str] = ()) -> Finetuning:
    """Return the settings for fine-tuning a checkpoint.

    Learning rates are half of those of the trainer that made it, and for SAM 2's and MedSAM2's own weights half of
    those of ``SAM2_PromptTrainer``. Later rounds keep the rates of the first fine-tuning: they are not halved again.

    Args:
        checkpoint: a checkpoint of nnU-Net, or in SAM 2's official format.
        epochs: number of epochs.
        cases: cases from rounds that are added to the training cases of the fold.

    Raises:
        UserError: it cannot be read, takes no prompts, or nnU-Net does not find its trainer.
    """
    trained = nnunet_checkpoint(checkpoint)
    if trained is None:
        name, rates = checkpoint.stem, _halved(SAM2_PromptTrainer)
        network: dict[str, Any] = {"backbone": identify_backbone(read_checkpoint(checkpoint))}
    elif not takes_prompts(trained):
        raise UserError(
            f"{checkpoint} is a model that segments without prompts: give one of a SAM2_PromptTrainer, or SAM 2's "
            "weights."
        )
    else:
        arguments, name = trained["init_args"], trained["trainer_name"]
        network = dict(arguments[PROMPTED]["network"])
        if FINETUNED in arguments:
            rates = arguments[FINETUNED]["peak_lr"], arguments[FINETUNED]["trunk_lr"]
        else:
            rates = _halved(_trainer_of(checkpoint, name))
    return Finetuning(str(checkpoint), sha256_of(checkpoint), name, network, *rates, epochs, list(cases))


def last_checkpoint(trainer: str, plans: dict[str, Any], configuration: str, fold: int) -> Path:
    """Return the last fine-tuning of a fold, or else that of ``SAM2_PromptTrainer``, or else MedSAM2's weights.

    Raises:
        UserError: there is none of these; or there are only the weights, but other trainers have trained promptable
            models on the fold, so that it is not known from which one to start.
    """
    folder = fold_folder(trainer, plans, configuration, fold)
    earlier = [path for _, path in sorted(_earlier_rounds(folder).items(), reverse=True)]
    trained = fold_folder(SAM2_PromptTrainer.__name__, plans, configuration, fold)
    for place in (folder, *earlier, trained):
        if (place / FINAL).is_file():
            return place / FINAL
    others = _promptable(trained)
    if others:
        raise UserError(
            f"fold {fold} has no model of {trainer} or {SAM2_PromptTrainer.__name__} to start from, but "
            f"{', '.join(map(str, others))}: give the one to start from with --model, or `--model {DEFAULT_MODEL}`."
        )
    return model_file(DEFAULT_MODEL)


def _promptable(folder: Path) -> list[Path]:
    """Return the checkpoints of all trainers of promptable models, with plans, configuration and fold of a folder."""
    _, _, ending = folder.parent.name.partition("__")
    found = []
    for file in sorted(folder.parents[1].glob(f"*__{ending}/{folder.name}/{FINAL}")):
        name = file.parents[1].name.removesuffix(f"__{ending}")
        try:
            if issubclass(find_trainer(name), SAM2_PromptTrainer):
                found.append(file)
        except UserError:  # a trainer that is no longer there
            continue
    return found


def _trainer_of(checkpoint: Path, name: str) -> type[SAM2_PromptTrainer]:
    try:
        return find_trainer(name)
    except UserError as error:
        raise UserError(
            f"{checkpoint} was made by {name}, which nnU-Net does not find, but half of its learning rates are those "
            "of the fine-tuning: add that trainer's folder to nnUNet_extTrainer."
        ) from error


def _halved(trainer: type[SAM2_PromptTrainer]) -> tuple[float, float | None]:
    return SHARE * trainer.peak_lr, None if trainer.trunk_lr is None else SHARE * trainer.trunk_lr


# ---- folders of earlier rounds


def check_ended(folder: Path) -> None:
    """Refuse the folder of a fold with an unfinished fine-tuning.

    Raises:
        UserError: a fine-tuning was started there, and has not ended.
    """
    if folder.is_dir() and not ((folder / FINAL).is_file() and (folder / SUMMARY).is_file()):
        raise UserError(
            f"the fine-tuning in {folder} has not ended, or was not validated: add --c, or delete that folder."
        )


def put_aside(folder: Path) -> Path | None:
    """Rename the folder of a fold to ``round_N_fold_F``, so that the next round does not overwrite it.

    nnU-Net takes every folder whose name begins with ``fold_`` for a fold.

    Returns:
        The new name; None if there is no such folder.
    """
    if not folder.is_dir():
        return None
    aside = folder.with_name(f"round_{1 + max(_earlier_rounds(folder), default=0)}_{folder.name}")
    folder.rename(aside)
    return aside


def _earlier_rounds(folder: Path) -> dict[int, Path]:
    """Return the folders put aside for a fold, by the round's number."""
    found = {}
    for path in folder.parent.glob(f"round_*_{folder.name}"):
        match = _EARLIER.fullmatch(path.name)
        if match:
            found[int(match[1])] = path
    return found
