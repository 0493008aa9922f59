"""Losses that are NaN or infinite: a training ends before its checkpoint is replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from nnunetv2_sam2_3dmed.errors import UserError

SKIPPED_IN_A_ROW = 10  # steps in float16, whose range a batch may exceed now and then

_MORE = "the checkpoints that were written before are whole"


class LossGuard:
    """Check of the loss of each step, which is on the host anyway; the batch is looked at only if it is not finite.

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
