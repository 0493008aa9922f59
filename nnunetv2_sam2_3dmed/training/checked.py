"""Validation of a training's data before it begins, and of its loss in each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet.dataset_labels import check_labels
from nnunetv2_sam2_3dmed.nnunet.preprocessed_labels import check_cases, labels_of_cases, warning_of_absent_classes
from nnunetv2_sam2_3dmed.training.distributed import asked_once

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as _Trainer
else:
    _Trainer = object


SKIPPED_IN_A_ROW = 10  # steps in float16, whose range a batch may exceed now and then

_MORE = "the checkpoints that were written before are whole"


class LossGuard:
    """Check of the loss of each step; the batch is inspected only if the loss is not finite.

    By then the optimizer has made its step, and the weights in memory may be worth nothing. No checkpoint is made of
    them: nnU-Net writes one only after all steps of an epoch.

    Args:
        dataset: its name, for messages.
        scaled: losses are scaled for float16: a step whose gradients are not finite is then left out by
            ``torch.amp.GradScaler``, and the weights stay as they were.
    """

    def __init__(self, dataset: str, scaled: bool = False):
        self.dataset = dataset
        self.allowed = SKIPPED_IN_A_ROW if scaled else 0
        self._in_a_row = 0

    def check(self, outputs: Mapping[str, Any], batch: Mapping[str, Any], training: bool) -> None:
        """Refuse to go on from a loss that is not finite.

        Args:
            outputs: of a step, with its ``loss`` on the host.
            batch: nnU-Net's, that the loss is of.
            training: the step was one of training, not of validation; for the message.

        Raises:
            UserError: it is not; names the cases with voxels that are no numbers, or all of the batch.
        """
        if np.isfinite(outputs["loss"]).all():
            self._in_a_row = 0
            return
        step = "training" if training else "validation"
        said = f"the loss of a {step} step of {self.dataset} is {float(np.mean(outputs['loss'])):g}"
        broken = _with_voxels_that_are_no_numbers(batch)
        if broken:
            raise UserError(
                f"{said}, because the preprocessed image of the case {', '.join(broken)} has NaN or infinite voxels: "
                f"correct it in imagesTr, run nnUNetv2_plan_and_preprocess again and train again; {_MORE}."
            )
        self._in_a_row += 1
        if self._in_a_row <= self.allowed:
            return
        raise UserError(
            f"{said} for the cases {', '.join(_names(batch))}, whose voxels are finite: the training has diverged; "
            f"continue it from the last checkpoint with --c, or train again with a lower learning rate (`peak_lr` of a "
            f"subclass) or with `precision` float32 in the plan; {_MORE}."
        )


def _names(batch: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(str(key) for key in batch["keys"]))


def _with_voxels_that_are_no_numbers(batch: Mapping[str, Any]) -> list[str]:
    images: Sequence[torch.Tensor] = batch["data"]
    broken = [str(key) for key, image in zip(batch["keys"], images) if not bool(torch.isfinite(image).all())]
    return list(dict.fromkeys(broken))


class CheckedTraining(_Trainer):
    """Mixin in front of any nnU-Net trainer: refuses undeclared labels, and stops at a loss that is not finite.

    Trainers that have a ``train_step`` of their own call :meth:`with_finite_loss` there.
    """

    def on_train_start(self) -> None:
        """Start as nnU-Net does, after a check of the labels of the fold's cases.

        Raises:
            UserError: dataset.json or a case has labels that cannot be trained.
        """
        self.check_data(*asked_once(self.do_split, self.is_ddp))
        super().on_train_start()

    def check_data(self, train: Sequence[str], val: Sequence[str]) -> None:
        """Check the data of a training before anything is built.

        Args:
            train: cases to train on.
            val: cases of the validation.

        Raises:
            UserError: the labels cannot be trained, or a case is missing or damaged.
        """
        dataset = self.plans_manager.dataset_name
        check_labels(dataset, self.dataset_json)
        assert self.preprocessed_dataset_folder is not None
        labels = asked_once(
            partial(labels_of_cases, Path(self.preprocessed_dataset_folder), [*train, *val]), self.is_ddp
        )
        check_cases(dataset, self.dataset_json, labels)
        trained_on = {case: labels[case] for case in train}
        warning = warning_of_absent_classes(
            dataset, self.dataset_json, trained_on, f"training cases of fold {self.fold}"
        )
        if warning is not None:
            self.print_to_log_file(f"WARNING: {warning}")

    @cached_property
    def _loss_guard(self) -> LossGuard:
        return LossGuard(self.plans_manager.dataset_name, self.grad_scaler is not None)

    def with_finite_loss(self, outputs: dict, batch: dict, training: bool = True) -> dict:
        """Return the outputs of a step if its loss is a number.

        Raises:
            UserError: it is not.
        """
        self._loss_guard.check(outputs, batch, training)
        return outputs

    def train_step(self, batch: dict) -> dict:
        return self.with_finite_loss(super().train_step(batch), batch)

    def validation_step(self, batch: dict) -> dict:
        return self.with_finite_loss(super().validation_step(batch), batch, training=False)
