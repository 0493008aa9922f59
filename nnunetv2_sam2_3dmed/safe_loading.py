"""Reading of checkpoint files without running code from them, and a diagnosis of files that cannot be read."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.shared_context import SharedContext


def _allowed() -> list[Any]:
    """Classes that training scripts store beside tensors and plain values: numpy's scalars and arrays of numbers."""
    scalar = np.float64(0).__reduce__()[0]
    reconstruct = np.zeros(0).__reduce__()[0]
    # numpy 1 called the module numpy.core; files written under either name must be read
    names = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for function, name in ((scalar, "scalar"), (reconstruct, "_reconstruct"))
    ]
    codes = np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?US"
    dtypes = {type(np.dtype(code)) for code in codes}
    return [*names, np.dtype, np.ndarray, *dtypes]


# torch has one list of such classes for all threads
_with_allowed = SharedContext(lambda: torch.serialization.safe_globals(_allowed()))


def load_safely(file: Path, expected: str, mmap: bool = False) -> Any:
    """Load a file of ``torch.save``, on the CPU: tensors, plain values, and numbers of numpy.

    Args:
        file: an existing file.
        expected: what the file should be, for messages.
        mmap: leave tensors in the file until they are used.

    Raises:
        UserError: the file is damaged, holds objects of other classes, or is something else.
    """
    try:
        with _with_allowed:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # of a damaged file, the unpickler raises whatever its bytes happen to lead to
        # torch maps only files of its present format into memory
        if mmap and isinstance(error, RuntimeError) and "mmap can only be used" in str(error):
            return load_safely(file, expected)
        raise UserError(f"{file} ({_size(file)}) {_reason(file, error)}; expected {expected}.") from error


def _size(file: Path) -> str:
    return f"{file.stat().st_size} bytes"


def _reason(file: Path, error: Exception) -> str:
    """Say what is wrong with a file, as the end of "FILE ..." without a full stop."""
    with file.open("rb") as stream:
        head = stream.read(512)
    if not head:
        return "is empty: fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of git LFS instead of the file itself: run `git lfs pull`"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, which a server sent instead of the file: fetch it again"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < file.stat().st_size:
        return "is a safetensors file, as Hugging Face distributes models: take the official .pt file"
    if head.startswith(b"PK"):
        try:
            if not zipfile.is_zipfile(file):
                return "is truncated: fetch or copy it again"
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
        except Exception as damage:  # zipfile, too, raises whatever damaged bytes lead to
            return f"is a damaged archive ({type(damage).__name__}): fetch or copy it again"
        if any(name.endswith("/constants.pkl") for name in names):
            return "is a TorchScript archive, which holds code: save the state dict with torch.save"
        if not any(name.endswith("data.pkl") for name in names):
            return "is a zip archive without weights: unpack it, or take another file"
    refused = re.search(r"GLOBAL (\S+)|unrecognized function (\S+)|but got <class '([^']+)'>", str(error))
    if refused:
        named = next(name for name in refused.groups() if name)
        return (
            f"needs {named} to be unpickled, which is refused since it could run code: save the tensors alone, "
            "torch.save({'model': state_dict}, FILE)"
        )
    if isinstance(error, EOFError) or "truncated" in str(error) or "unexpected EOF" in str(error):
        return "is truncated: fetch or copy it again"
    return f"cannot be read as a checkpoint, it may be damaged ({_kind(error)}): fetch or copy it again"


def _kind(error: Exception) -> str:
    return "unpickling failed" if isinstance(error, pickle.UnpicklingError) else type(error).__name__
