"""Files that are never there by half, and JSON files that somebody may have damaged."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_sam2_3dmed.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_MAY_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def write_text(path: Path, text: str) -> None:
    """Writes beside and renames; makes the folder if there is none.

    Raises:
        UserError: it cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes beside and renames; makes the folder if there is none.

    Raises:
        UserError: it cannot be written.
    """
    with written_beside(path, check=lambda beside: _check_size(beside, len(content))) as beside:
        beside.write_bytes(content)


def write_png(path: Path, figure: Figure, dpi: int = 110) -> None:
    """Writes a figure beside and renames; makes the folder if there is none.

    Raises:
        UserError: it cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    write_bytes(path, buffer.getvalue())


def copy_file(source: Path, target: Path) -> None:
    """Copies beside and renames; makes the folder if there is none.

    Raises:
        UserError: it cannot be written.
    """
    with written_beside(target, check=lambda beside: _check_size(beside, source.stat().st_size)) as beside:
        shutil.copyfile(source, beside)


@contextmanager
def written_beside(
    path: Path,
    ending: str = "",
    check: Callable[[Path], None] | None = None,
    failures: tuple[type[Exception], ...] = (),
    name: str | None = None,
) -> Iterator[Path]:
    """Where to write a file that replaces ``path`` once all of it is there; makes the folder if there is none.

    If anything fails, what was there stays, and nothing else does. What is left by a process that was killed is no case
    for nnU-Net: it has another ending, or lies in a hidden folder.

    Args:
        path: what is to be replaced.
        ending: for writers that tell the format by it, such as ".nii.gz".
        check: raises UserError for a file that is not what was to be written; some writers do not notice that a disk is
            full.
        failures: what the writer raises where it cannot write, beside OSError.
        name: of the file beside, for large files that one process writes again and again: what is left of one that was
            killed is overwritten by the next; default: a new one each time, hidden.

    Raises:
        UserError: the file cannot be written, and why.
    """
    hidden = path.with_name(f".{uuid.uuid4().hex}")  # process numbers repeat on other machines
    beside = path.with_name(name) if name else hidden / f"new{ending}" if ending else hidden
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _sync(beside)
        if check is not None:
            _apply(check, beside)
        os.replace(beside, path)
    except (OSError, *failures) as error:  # type: ignore[misc]
        if _is_of_another_file(error, path, beside):
            raise
        raise UserError(f"{path} cannot be written: {_reason(error, beside)}.") from error
    finally:
        with suppress(OSError):  # where the folder could not be made, it is no folder
            beside.unlink(missing_ok=True)
            if beside.parent == hidden:
                hidden.rmdir()


def _check_size(file: Path, size: int) -> None:
    there = file.stat().st_size
    if there != size:
        raise UserError(f"{there} of {size} bytes arrived")


def _apply(check: Callable[[Path], None], beside: Path) -> None:
    try:
        check(beside)
    except UserError as error:  # names a file that nobody knows
        raise OSError(str(error).replace(f"{beside} ", "it ")) from error


def _sync(file: Path) -> None:
    """Waits until the disk has it: some file systems say only then that they are full."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_of_another_file(error: Exception, path: Path, beside: Path) -> bool:
    """Tell if a file that was read, not the one that was written, made the trouble."""
    named = [getattr(error, name, None) for name in ("filename", "filename2")]
    files = {Path(os.fsdecode(name)) for name in named if name is not None}
    return bool(files) and files.isdisjoint({beside, path, *beside.parents})


def _reason(error: Exception, beside: Path) -> str:
    """Why a file could not be written; where the writer does not say it, asks the system by writing on."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    try:
        if beside.exists():
            with beside.open("ab") as stream:
                stream.write(bytes(1 << 20))
                stream.flush()
                os.fsync(stream.fileno())
    except OSError as told:
        return str(told.strerror)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")


def check_writable_file(path: Path) -> None:
    """Refuses a path that no file can be written to, before the work whose result it is for; leaves nothing there.

    Raises:
        UserError: it is a folder, its name is too long, or its folder cannot be made or written to.
    """
    if os.path.isdir(path):  # Path's raises where a name is too long
        raise UserError(f"the output {path} is a folder, but must be a file: give it a name.")
    _check_writable(path, path.parent)
    if path.is_file() and not path.is_symlink() and not path.stat().st_mode & _MAY_WRITE:
        raise UserError(f"the output {path} is there and protected against writing: give another name.")


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
            if len(os.fsencode(part)) > longest:
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
