"""A round of fine-tuning: checks, preprocessing of what is new, then nnU-Net's own training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from nnunetv2.run.run_training import run_training
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunetv2_sam2_3dmed.annotation.folds import experts_folds
from nnunetv2_sam2_3dmed.annotation.preprocessing import check_experts, data_folder, preprocess_new
from nnunetv2_sam2_3dmed.annotation.raw_dataset import RawDataset
from nnunetv2_sam2_3dmed.annotation.record import FILE as RECORD
from nnunetv2_sam2_3dmed.annotation.record import Annotation, check_recorded, locked, read_record
from nnunetv2_sam2_3dmed.annotation.seen_cases import check_unseen
from nnunetv2_sam2_3dmed.annotation.starting_point import check_ended, last_checkpoint, put_aside, starting_point
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import read_json, write_text
from nnunetv2_sam2_3dmed.interactive.model import model_file
from nnunetv2_sam2_3dmed.nnunet.folders import read_plans
from nnunetv2_sam2_3dmed.prompt_evaluation.cases import RawCase
from nnunetv2_sam2_3dmed.prompt_evaluation.headers import check_headers
from nnunetv2_sam2_3dmed.prompt_training.finetuning import Finetuning, SAM2_PromptTrainer_finetune, fold_folder
from nnunetv2_sam2_3dmed.training.checks import check_configuration, check_slices


@dataclass(frozen=True)
class FinetuningRun:
    """What is fine-tuned.

    Attributes:
        dataset: with a record.
        configuration: of its plans, such as ``3d_slices8``.
        fold: number.
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
        """Makes everything ready to train; what takes long comes after all checks.

        Args:
            model: as for ``sam2_3dmed segment``; None for the last checkpoint.
            epochs: to train.
            processes: that preprocess.
            progress: told of each step.
            seen_validation: the model may have been trained on validation cases of the fold.

        Raises:
            UserError: something is missing, or does not fit.
        """
        plans_file, plans = read_plans(self.dataset.name, self.plans)
        with locked(plans_file.parent):
            return self._prepare(plans_file.parent, plans, model, epochs, processes, progress, seen_validation)

    def _prepare(
        self,
        preprocessed: Path,
        plans: dict,
        model: str | None,
        epochs: int,
        processes: int,
        progress: Callable[[str], None],
        seen_validation: bool,
    ) -> Finetuning:
        check_configuration(plans, self.configuration, read_json(preprocessed / "dataset.json"))
        check_slices(plans, self.configuration, self.trainer, SAM2_PromptTrainer_finetune.required_slices)
        self._check_trainer()
        record = self._record()
        splits = preprocessed / "splits_final.json"
        folds = experts_folds(splits, self.dataset.cases(), record)
        if not 0 <= self.fold < len(folds):
            raise UserError(f"the fold is {self.fold}, but must be one from 0 to {len(folds) - 1}.")
        fold = folds[self.fold]
        known = [case for part in ("train", "val") for case in fold[part] if case not in record]
        check_experts(data_folder(preprocessed, plans, self.configuration), known)
        folder = self._folder(plans)
        check_ended(folder)
        chosen = (
            last_checkpoint(self.trainer, plans, self.configuration, self.fold) if model is None else model_file(model)
        ).resolve()
        point = starting_point(chosen, epochs, sorted(record))
        reason = check_unseen(chosen, point.sha256, self.dataset.name, fold["val"], folds, seen_validation, progress)
        point = replace(point, seen_validation=reason)
        self._check_files([*fold["val"], *sorted(record)], record, progress)
        if not splits.is_file():  # before anything new is there of which nnU-Net would draw
            write_text(splits, json.dumps(folds, indent=4))
        labels = {case: record[case].label_sha256 for case in sorted(record)}
        preprocess_new(self.dataset, preprocessed, plans, self.configuration, labels, processes, progress)
        aside = put_aside(folder)
        if aside is not None:
            progress(f"the round before is now {aside}")
            if chosen.is_relative_to(folder.resolve()):
                point = replace(point, checkpoint=str(aside.resolve() / chosen.relative_to(folder.resolve())))
        point.write(folder)
        return point

    def begun(self) -> Finetuning:
        """What was begun, to go on with.

        Raises:
            UserError: nothing was.
        """
        return Finetuning.read(self._folder(read_plans(self.dataset.name, self.plans)[1]))

    def train(self, device: str, go_on: bool = False) -> None:
        """Trains and validates as ``nnUNetv2_train`` does.

        Args:
            device: "cuda", "cpu" or "mps".
            go_on: from nnU-Net's latest checkpoint.
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
        try:
            found = recursive_find_trainer_class_by_name(self.trainer)
        except RuntimeError as error:
            raise UserError(f"nnU-Net finds no trainer {self.trainer}: leave -tr out.") from error
        if not issubclass(found, SAM2_PromptTrainer_finetune):
            raise UserError(
                f"{self.trainer} is no {SAM2_PromptTrainer_finetune.__name__} and takes no checkpoint to start from: "
                "leave -tr out."
            )

    def _record(self) -> dict[str, Annotation]:
        """The cases from rounds, whose files are there."""
        record = read_record(self.dataset.folder)
        if not record:
            raise UserError(
                f"{self.dataset.folder} has no {RECORD}, so that nothing is new: run `sam2_3dmed annotate take` first."
            )
        for case in record:
            for file in (self.dataset.image(case), self.dataset.label(case)):
                if not file.is_file():
                    raise UserError(
                        f"there is no {file}, but {RECORD} has the case {case}: run the `loop take` again that was "
                        "interrupted, put the file back, or take the line out."
                    )
        return record

    def _check_files(
        self, cases: Sequence[str], record: Mapping[str, Annotation], progress: Callable[[str], None]
    ) -> None:
        """That images and labels can be prompted, and labels from rounds are those that were recorded."""
        raw = [RawCase(case, self.dataset.image(case), self.dataset.label(case)) for case in cases]
        for warning in check_headers(raw):
            progress(warning)
        for case, annotation in record.items():
            check_recorded(self.dataset.label(case), annotation)
