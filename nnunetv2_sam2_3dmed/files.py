"""Text files that are never there by half, and JSON files that somebody may have damaged."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Writes beside and renames; makes the folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # process numbers repeat on other machines
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def read_json(file: Path) -> Any:
    """The content of a file that nnU-Net wrote.

    Raises:
        UserError: it is damaged.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is no valid JSON ({error}): let nnU-Net write it again.") from None
