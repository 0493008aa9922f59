"""Files that are never there by half, and JSON files that somebody may have damaged."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Writes beside and renames; makes the folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # process numbers repeat on other machines
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def copy_file(source: Path, target: Path) -> None:
    """Copies beside and renames; makes the folder if there is none.

    What is left of a copy that was killed does not end as ``target`` does: nnU-Net takes it for no case.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        shutil.copyfile(source, beside)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def written_beside(path: Path, ending: str) -> Iterator[Path]:
    """Where to write a file that replaces ``path`` once all of it is there; makes the folder if there is none.

    Args:
        path: what is to be replaced.
        ending: for writers that tell the format by it, such as ".nii.gz".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{uuid.uuid4().hex}{ending}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def read_json(file: Path, remedy: str = "let nnU-Net write it again") -> Any:
    """The content of a JSON file.

    Args:
        file: that nnU-Net wrote, or ``remedy`` says what to do.
        remedy: what to do about a damaged one.

    Raises:
        UserError: it is damaged.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is no valid JSON ({error}): {remedy}.") from None
