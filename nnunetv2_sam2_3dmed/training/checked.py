"""Checks of a training's data before it begins, and of its losses in each step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_sam2_3dmed.nnunet.dataset_labels import check_labels
from nnunetv2_sam2_3dmed.nnunet.preprocessed_labels import check_cases, labels_of_cases, warning_of_absent_classes
from nnunetv2_sam2_3dmed.training.distributed import asked_once
from nnunetv2_sam2_3dmed.training.finite_losses import LossGuard

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as _Trainer
else:
    _Trainer = object


class CheckedTraining(_Trainer):
    """Mixin in front of any nnU-Net trainer: no training with undeclared labels, or on after a loss that is no number.

    Trainers that have a ``train_step`` of their own call :meth:`with_finite_loss` there.
    """

    def on_train_start(self) -> None:
        """As nnU-Net's, after looking at the labels of the fold's cases.

        Raises:
            UserError: dataset.json or a case has labels that cannot be trained.
        """
        self.check_data(*self.do_split())
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
