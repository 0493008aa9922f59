"""One child process, with its output in a log file and a progress bar on the terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tqdm import tqdm

from nnunetv2_sam2_3dmed.demo.progress import Watch

POLL_SECONDS = 0.5
# a log that somebody reads later should not fill up with progress bars
POLL_SECONDS_WITHOUT_TERMINAL = 30.0
SECONDS_TO_STOP = 10.0


def run_with_progress(
    argv: Sequence[str],
    folder: Path,
    environment: dict[str, str],
    log: Path,
    output: Path | None = None,
    watch: Watch | None = None,
) -> int:
    """Runs ``argv`` to its end and returns its exit status.

    Args:
        argv: program and arguments; no shell is involved.
        folder: working directory.
        environment: all variables of the child.
        log: file for standard output and error.
        output: file for standard output alone, which then is not in ``log``.
        watch: tells how far the child has come; without it the bar shows the time only.
    """
    with ExitStack() as stack:
        errors = stack.enter_context(log.open("w"))
        standard = errors if output is None else stack.enter_context(output.open("w"))
        child = subprocess.Popen(
            argv,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=standard,
            stderr=errors,
            start_new_session=True,  # its own process group, so that its workers can be stopped with it
        )
        stack.enter_context(_stopped_with_us(child))
        bar = stack.enter_context(_bar(watch))
        poll = POLL_SECONDS if sys.stderr.isatty() else POLL_SECONDS_WITHOUT_TERMINAL
        while True:
            try:
                return child.wait(timeout=poll)
            except subprocess.TimeoutExpired:
                if watch is not None:
                    done, note = watch()
                    bar.n = min(done, watch.total)
                    bar.set_postfix_str(note, refresh=False)
                bar.refresh()


def _bar(watch: Watch | None) -> tqdm:
    if watch is None:
        return tqdm(bar_format="  {elapsed}", leave=False)
    return tqdm(
        total=watch.total,
        bar_format=f"  {{percentage:3.0f}}%|{{bar:30}}| {watch.amount} [{{elapsed}}{{postfix}}]",
        leave=False,
    )


@contextmanager
def _stopped_with_us(child: subprocess.Popen) -> Iterator[None]:
    """Stops the child and its workers if the block is left by an exception or a signal."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except BaseException:
        for number in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(child.pid, number)
                child.wait(timeout=SECONDS_TO_STOP)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
