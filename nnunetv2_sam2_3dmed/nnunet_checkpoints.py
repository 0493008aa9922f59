"""nnU-Net's checkpoints, read without running code from them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunetv2_sam2_3dmed.errors import UserError


def _allowed() -> list[Any]:
    """What nnU-Net stores beside tensors and plain values: numpy scalars, and the types of their values."""
    scalar = np.float64(0).__reduce__()[0]
    # numpy 1 called the module numpy.core; files written under either name must be read
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    types = [type(np.dtype(t)) for t in (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)]
    return [*names, np.dtype, *types]


def load_checkpoint(file: Path) -> dict[str, Any]:
    """A checkpoint of nnU-Net; its tensors stay in the file until they are used.

    Raises:
        UserError: the file is damaged, or holds more than tensors, plain values and numpy scalars.
    """
    try:
        with torch.serialization.safe_globals(_allowed()):
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise UserError(
            f"{file} cannot be read as a checkpoint of nnU-Net: expected tensors, plain values and numpy scalars; it "
            f"may be incomplete, or hold code, which is not run ({type(error).__name__})."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds a {type(content).__name__}, expected a checkpoint of nnU-Net: train again.")
    return content
