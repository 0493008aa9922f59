"""Processes: a pool of spawned workers, with a message for those that end early, and the memory of this one."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError


@contextmanager
def spawned(processes: int, fewer: str) -> Iterator[ProcessPoolExecutor]:
    """Pool of worker processes that are spawned, not forked, since the caller may use CUDA or threads.

    Each of them imports the caller's script. A script that starts processes while it is imported fails there, before
    the worker has begun; one that was killed has begun.

    Args:
        processes: number of workers.
        fewer: option with which the user asks for fewer, for the message.

    Raises:
        UserError: a worker could not begin, or was killed.
        SystemExit: this is a worker that is still importing such a script.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)  # without a traceback: the process that started this one says why
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=begun.set)
    try:
        yield pool
    except BrokenProcessPool as error:
        if begun.is_set():
            raise UserError(
                f"one of {processes} worker processes was killed, probably for want of memory: use fewer ({fewer})."
            ) from error
        raise UserError(
            f"none of {processes} worker processes could begin, since each imports the script that started it: put "
            f'what it does under `if __name__ == "__main__":` in a file, or take a single process ({fewer}).'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def peak_bytes() -> int:
    """The most memory that this process has had."""
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux, getrusage's figure is at least that of the process that started this one
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
