"""What to do when a training needs more memory than the GPU has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from nnunetv2_sam2_3dmed.errors import UserError

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer


@contextmanager
def out_of_memory_explained(trainer: SAM2_3dMedTrainer) -> Iterator[None]:
    """A context that names the options that need less memory.

    Raises:
        UserError: the memory ran out.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        options = trainer.architecture_of(trainer.configuration_manager)
        slices, *_ = trainer.configuration_manager.patch_size
        dataset = trainer.plans_manager.dataset_name
        remedies = [f"a smaller `--gpu-memory`, `--batch-size` or `--image-size` for `sam2_3dmed plan -d {dataset}`"]
        if not options.get("activation_checkpointing", False):
            remedies.insert(0, "`sam2_3dmed plan --checkpointing on`, which needs least and takes more time")
        raise UserError(
            f"the memory of {trainer.device} is not enough for a step of {type(trainer).__name__} with "
            f"{trainer.configuration_manager.batch_size} stacks of {slices} slices of {options['image_size']} pixels: "
            f"plan again and use {' or '.join(remedies)}."
        ) from error
