"""File locks that are released when the processes that hold them end, even by SIGKILL."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

# `is_held` takes a lock for an instant
SECONDS_TO_TRY = 2.0


@contextmanager
def held(file: Path) -> Iterator[int | None]:
    """Hold the lock ``file`` during the block.

    The lock belongs to the open file: a child process that inherits the descriptor holds it too, until it ends.

    Yields:
        The file descriptor, or None if another process holds the lock.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = monotonic() + SECONDS_TO_TRY
        while not (taken := _take(descriptor)) and monotonic() < deadline:
            sleep(0.1)
        yield descriptor if taken else None
    finally:
        os.close(descriptor)


def is_held(file: Path) -> bool:
    """Return True if some process holds the lock ``file``."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _take(descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
