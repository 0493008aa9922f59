"""A note beside segmentations that were prompted, so that nobody takes them for segmentations without prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_sam2_3dmed.files import read_json, write_text

FILE = "prompts.json"


def note_prompts(folder: Path, prompts: str) -> None:
    """Says with which prompts the segmentations in ``folder`` are made."""
    write_text(folder / FILE, json.dumps({"prompts": prompts}, indent=2) + "\n")


def prompts_of(folders: Sequence[Path]) -> str | None:
    """With which prompts the segmentations in any of the folders were made; None where nobody says so."""
    notes = [read_json(Path(folder) / FILE)["prompts"] for folder in folders if (Path(folder) / FILE).is_file()]
    return "; ".join(dict.fromkeys(notes)) or None
