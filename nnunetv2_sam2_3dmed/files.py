"""Files replaced as a whole or not at all, and JSON files read with a sentence about damage."""

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
    """Write UTF-8 text beside and rename; make the folder if there is none.

    Raises:
        UserError: it cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes beside and rename; make the folder if there is none.

    Raises:
        UserError: it cannot be written.
    """
    with written_beside(path, check=lambda beside: _check_size(beside, len(content))) as beside:
        beside.write_bytes(content)


def write_png(path: Path, figure: Figure, dpi: int = 110) -> None:
    """Write a figure beside and rename; make the folder if there is none.

    Raises:
        UserError: it cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    write_bytes(path, buffer.getvalue())


def copy_file(source: Path, target: Path) -> None:
    """Copy beside and rename; make the folder if there is none.

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
    """Yield a path to write to; the file written there replaces ``path`` at the end of the block.

    The folder is made if there is none. If anything fails, the older file stays and nothing else is left. Remains of a
    killed process are no case for nnU-Net: they have another ending, or lie in a hidden folder.

    Args:
        path: the file to replace.
        ending: for writers that tell the format by it, such as ".nii.gz".
        check: raises UserError for an incomplete file; some writers do not notice a full disk.
        failures: exceptions of the writer, besides OSError.
        name: of the temporary file, for large files that one process writes repeatedly, so that the next one
            overwrites the remains of a killed one; default: a new hidden name each time.

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
    """Flush a file to the disk; some file systems report only then that they are full."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_of_another_file(error: Exception, path: Path, beside: Path) -> bool:
    """True if the error is of a file that was read, not of the one written."""
    named = [getattr(error, name, None) for name in ("filename", "filename2")]
    files = {Path(os.fsdecode(name)) for name in named if name is not None}
    return bool(files) and files.isdisjoint({beside, path, *beside.parents})


def _reason(error: Exception, beside: Path) -> str:
    """The reason why a file could not be written; if the writer gives none, the system's, found by writing on."""
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
    """Refuse a path that no file can be written to; for use before long work. Nothing is left there.

    Raises:
        UserError: it is a folder, its name is too long, or its folder cannot be made or written to.
    """
    if os.path.isdir(path):  # Path's raises where a name is too long
        raise UserError(f"the output {path} is a folder, but must be a file: give it a name.")
    _check_writable(path, path.parent)
    if path.is_file() and not path.is_symlink() and not path.stat().st_mode & _MAY_WRITE:
        raise UserError(f"the output {path} is there and protected against writing: give another name.")


def check_writable_folder(path: Path) -> None:
    """Refuse a path that is no writable folder and cannot become one.

    Raises:
        UserError: it is a file, its name is too long, or it cannot be made or written to.
    """
    _check_writable(path, path)


def _check_writable(output: Path, folder: Path) -> None:
    """Try to write into the nearest existing folder; permission bits are not enough, for example on network disks.

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
        file: to read.
        remedy: advice for a damaged file.

    Raises:
        UserError: it is damaged.
    """
    try:
        return json.loads(file.read_bytes())  # in UTF-8, -16 or -32, with or without a byte order mark
    except ValueError as error:
        raise UserError(f"{file} is no valid JSON ({error}): {remedy}.") from None
