"""Contexts that change something of the whole process, for several threads at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Lock


class SharedContext(AbstractContextManager):
    """A context that the first thread enters and the last one leaves.

    Were it entered and left by each thread for itself, two that overlap would restore what the other one had set, and
    leave that so for good.

    Args:
        make: returns the context.
    """

    def __init__(self, make: Callable[[], AbstractContextManager]) -> None:
        self._make = make
        self._lock = Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._context = self._make()
                self._context.__enter__()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._context.__exit__(None, None, None)
