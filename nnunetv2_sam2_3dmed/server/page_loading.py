"""Prompts and segmentations that a page loads, read and bounded before the worker gets them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import Volume, check_same_grid
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.interactive.saved_prompts import SavedPrompts, parse
from nnunetv2_sam2_3dmed.server.security import LARGEST_JSON

_MOST_LABELS = 255


def read_prompts(file: Path, volume: Volume, largest: int) -> SavedPrompts:
    """Read the prompts of an image.

    Args:
        file: JSON.
        volume: the image.
        largest: bytes of all masks.

    Raises:
        UserError: the file or its masks are too large, or see ``saved_prompts.parse``.
    """
    size = file.stat().st_size
    if size > LARGEST_JSON:
        raise UserError(
            f"{file} has {size / 2**20:.0f} MiB, but prompts have {LARGEST_JSON / 2**20:.0f} MiB at most: choose a "
            "file that was saved by this program."
        )
    saved = parse(file)
    check_masks(str(file), saved.mask_bytes(volume.shape), largest)
    return saved


def read_starts(found: Volume, volume: Volume, largest: int) -> dict[int, np.ndarray]:
    """Return the masks of a segmentation, by object number.

    Args:
        found: the segmentation.
        volume: the image.
        largest: bytes of all masks.

    Raises:
        UserError: the segmentation lies on another grid, or holds other values than object numbers, or more than 255
            of them; or the masks are too large.
    """
    check_same_grid(found, volume)
    numbers = [float(number) for number in np.unique(found.array) if number != 0]
    if not numbers or not all(number == int(number) and 1 <= number <= 65535 for number in numbers):
        raise PromptError(
            f"{found.name} holds {numbers[0]:g}, but a segmentation holds 0 and the numbers of objects, from 1."
            if numbers
            else f"{found.name} is empty: choose a segmentation that has an object."
        )
    if len(numbers) > _MOST_LABELS:
        raise PromptError(f"{found.name} holds {len(numbers)} labels: choose one with up to {_MOST_LABELS}.")
    check_masks(found.name, len(numbers) * found.array.size, largest)
    return {int(number): found.array == number for number in numbers}


def check_masks(name: str, size: int, largest: int) -> None:
    """Check that the masks of all objects, of which each takes as much as the image has voxels, fit the memory.

    Args:
        name: of what they are from.
        size: bytes of all masks.
        largest: bytes that they may have.

    Raises:
        UserError: they have more.
    """
    if size > largest:
        raise UserError(
            f"the masks of {name} take {size / 2**30:.1f} GiB, but this server takes {largest / 2**30:.1f} GiB: start "
            "it with a larger --largest-image, or load fewer objects."
        )
