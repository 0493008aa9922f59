"""A note beside prompted segmentations, which tells them from segmentations without prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import read_json, write_text

FILE = "prompts.json"


def note_prompts(folder: Path, prompts: str, run: Mapping[str, Any] | None = None) -> None:
    """Note the prompts of the segmentations in ``folder``.

    Args:
        folder: of the segmentations.
        prompts: in words.
        run: the model and all options that they depend on, for :func:`check_same_run`.
    """
    note = {"prompts": prompts} if run is None else {"prompts": prompts, "run": run}
    write_text(folder / FILE, json.dumps(note, indent=2) + "\n")


def check_same_run(folder: Path, names: Sequence[str], run: Mapping[str, Any]) -> bool:
    """Refuse to mix the segmentations of another run with those of this one.

    Args:
        folder: of all results.
        names: of the folders in it that segmentations are to be written to.
        run: see :func:`note_prompts`.

    Returns:
        True if this run was begun before.

    Raises:
        UserError: there are results of another run.
    """
    noted = {file.parent for file in folder.glob(f"*/{FILE}")}
    taken = [own for own in (folder / name for name in names) if own.is_dir() and any(own.iterdir())]
    now = json.loads(json.dumps(run))
    for own in sorted({*noted, *taken}):
        before = read_json(own / FILE).get("run") if own in noted else None
        if before is None:
            raise UserError(f"{own} has segmentations already, and nothing says of which run: give another -o.")
        for name in {**now, **before}:
            if now.get(name) != before.get(name):
                raise UserError(
                    f"{own} has segmentations of another run, with {name} {_short(before.get(name))} instead of "
                    f"{_short(now.get(name))}: give another -o, or delete {folder}."
                )
    return bool(noted)


def prompts_of(folders: Sequence[Path]) -> str | None:
    """Prompts of the segmentations in any of the folders; None where none are noted."""
    notes = [read_json(Path(folder) / FILE)["prompts"] for folder in folders if (Path(folder) / FILE).is_file()]
    return "; ".join(dict.fromkeys(notes)) or None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
