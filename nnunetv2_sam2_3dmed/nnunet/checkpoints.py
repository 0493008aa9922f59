"""nnU-Net's checkpoints, read without running code stored in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.safe_loading import load_safely


def load_checkpoint(file: Path) -> dict[str, Any]:
    """Read a checkpoint of nnU-Net; its tensors are memory-mapped.

    Raises:
        UserError: the file is missing or damaged, or holds more than tensors, plain values and numpy scalars.
    """
    if not file.is_file():
        raise UserError(f"there is no file {file}: give a checkpoint of nnU-Net (.pth).")
    content = load_safely(file, "a checkpoint of nnU-Net: tensors, plain values and numpy scalars", mmap=True)
    if not isinstance(content, dict):
        raise UserError(f"{file} holds a {type(content).__name__}, expected a checkpoint of nnU-Net: train again.")
    return content
