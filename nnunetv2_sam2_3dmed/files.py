"""Files that are never there by half, and JSON files that somebody may have damaged."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError

_BESIDE = len(f".{'.'}{uuid.uuid4().hex}")  # by which the name of a file that is written beside is longer


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


def check_writable_file(path: Path) -> None:
    """Refuses a path that no file can be written to, before the work whose result it is for; leaves nothing there.

    Raises:
        UserError: it is a folder, its name is too long, or its folder cannot be made or written to.
    """
    if os.path.isdir(path):  # Path's raises where a name is too long
        raise UserError(f"the output {path} is a folder, but must be a file: give it a name.")
    _check_writable(path, path.parent)


def check_writable_folder(path: Path) -> None:
    """Refuses a path that is no folder and cannot become one, or that nothing can be written to.

    Raises:
        UserError: it is a file, its name is too long, or it cannot be made or written to.
    """
    _check_writable(path, path)


def _check_writable(output: Path, folder: Path) -> None:
    """Tries to write into the nearest folder there is: permission bits do not say it all, for example on network disks.

    Raises:
        UserError: nothing can be written there.
    """
    try:
        there = next(known for known in (folder, *folder.absolute().parents) if os.path.lexists(known))
        if not there.is_dir():
            raise UserError(f"the output {output} cannot be written, since {there} is not a folder: give another.")
        longest = os.pathconf(there, "PC_NAME_MAX")
        for part in output.parts:
            if len(os.fsencode(part)) > longest - (_BESIDE if part == output.name and output != folder else 0):
                raise UserError(
                    f"the output {output} cannot be written, since its name is too long: give a shorter one."
                )
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f"the output {output} cannot be written ({error.strerror}): give another place.") from error


def read_json(file: Path, remedy: str = "let nnU-Net write it again") -> Any:
    """The content of a JSON file.

    Args:
        file: that nnU-Net wrote, or ``remedy`` says what to do.
        remedy: what to do about a damaged one.

    Raises:
        UserError: it is damaged.
    """
    try:
        return json.loads(file.read_bytes())  # in UTF-8, -16 or -32, with or without a byte order mark
    except ValueError as error:
        raise UserError(f"{file} is no valid JSON ({error}): {remedy}.") from None
