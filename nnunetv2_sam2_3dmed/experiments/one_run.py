"""Train and validate one run, on this machine or as a task of a SLURM job array.

    python -m nnunetv2_sam2_3dmed.experiments.one_run OUTPUT RUN DEVICE

RUN is DATASET/TRAINER__PLANS__CONFIG/fold_N, DEVICE is cuda or cpu, and nnU-Net's variables must be set. Started
again after an interruption, it continues from the state that nnU-Net's files show.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from select import select
from time import monotonic, sleep
from typing import TextIO

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.begun import note_held_out
from nnunetv2_sam2_3dmed.experiments.records import ATTEMPT, log_file, read_record, write_record
from nnunetv2_sam2_3dmed.experiments.runs import RunState, TrainingRun, set_torn_aside
from nnunetv2_sam2_3dmed.locks import held
from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder

POLL_SECONDS = 0.5
SECONDS_TO_STOP = 10.0
# on a cluster: for the end of an earlier job that was taken off its machine
SECONDS_FOR_OTHERS = 600.0
SECONDS_BETWEEN_LOOKS = 10.0


class Outcome(IntEnum):
    """Outcome of an attempt, as an exit status."""

    DONE = 0
    FAILED = 1
    ELSEWHERE = 75  # another process is training it


def train_one(run: TrainingRun, output: Path, device: str, stop: Callable[[], bool] = lambda: False) -> Outcome:
    """Train and validate a run, from its present state to its end.

    The command and its workers are stopped when an exception is raised or ``stop`` returns True.

    Args:
        run: to train.
        output: the experiment's folder, for log and record.
        device: ``cuda`` or ``cpu``.
        stop: asked twice a second.

    Raises:
        SystemExit: ``stop`` returned True.
    """
    results = nnunet_folder("nnUNet_results")
    with held(run.lock(results)) as lock:
        if lock is None:
            return Outcome.ELSEWHERE
        state = run.state(results)
        if state is RunState.DONE:
            return Outcome.DONE
        torn = set_torn_aside(run.folder(results))
        if state is RunState.WAITING:
            note_held_out(run, results)
        argv = run.command(device, state)
        log = log_file(output, run.path)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as printed:
            stamp = datetime.now().isoformat(sep=" ", timespec="seconds")
            for name in torn:
                printed.write(f"{name} was cut short: renamed to {name}.torn\n")
            printed.write(f"{ATTEMPT}{shlex.join(argv)}    # {stamp}\n")
            printed.flush()
            start, status, failure = monotonic(), None, ""
            try:
                # its workers inherit the lock: none of them is left when another process takes it
                status = run_command(argv, printed, stop, (lock,))
                if status != 0:
                    failure = f"exit status {status}"
                elif run.state(results) is not RunState.DONE:
                    failure = f"ended without a validation of {run.folder(results) / 'checkpoint_final.pth'}"
            finally:
                record = read_record(output, run.path)
                write_record(output, run.path, record.after(monotonic() - start, status, failure, device))
    return Outcome.FAILED if failure else Outcome.DONE


def train_in_turn(run: TrainingRun, output: Path, device: str) -> Outcome:
    """Call :func:`train_one`, waiting some minutes for another process that is training the run.

    Args:
        run: to train.
        output: the experiment's folder.
        device: ``cuda`` or ``cpu``.

    Returns:
        ``ELSEWHERE`` if the other process is still training it.
    """
    deadline = monotonic() + SECONDS_FOR_OTHERS
    while (outcome := train_one(run, output, device)) is Outcome.ELSEWHERE and monotonic() < deadline:
        sleep(SECONDS_BETWEEN_LOOKS)
    return outcome


def failure_of(path: str, output: Path, outcome: Outcome) -> str:
    """Return in a sentence why a run is not done."""
    if outcome is Outcome.ELSEWHERE:
        return f"{path} is not done: another process is training it."
    return f"{path} failed: {read_record(output, path).failure}, see {log_file(output, path)}."


def resolve_command(name: str) -> list[str]:
    """Return the program for the command ``name``: the one installed beside this Python, else the one on PATH.

    Raises:
        UserError: it is in neither place.
    """
    if name == "python":
        return [sys.executable]
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise UserError(
            f"the command {name} is not installed beside {sys.executable} nor on PATH, expected it with nnU-Net: run "
            "`pip install nnunetv2-sam2-3dmed` for this Python."
        )
    return [found]


def run_command(
    argv: Sequence[str],
    printed: TextIO,
    stop: Callable[[], bool] = lambda: False,
    pass_fds: Sequence[int] = (),
    folder: Path | None = None,
) -> int:
    """Run a command to its end and return its exit status; however the call ends, nothing of the command lives on.

    Args:
        argv: as a user types it.
        printed: file for standard output and error.
        stop: asked twice a second.
        pass_fds: file descriptors that the command inherits.
        folder: working directory; None: this process's.

    Raises:
        UserError: there is no such command.
        SystemExit: ``stop`` returned True.
    """
    with _ignored(signal.SIGUSR2):
        child = subprocess.Popen(
            [*resolve_command(argv[0]), *argv[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its own process group, so that its workers can be stopped with it
            pass_fds=pass_fds,
        )
    return _wait(child, stop)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit during the block, so that what it runs is stopped in order."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _ignored(number: signal.Signals) -> Iterator[None]:
    """Let programs that are started in the block ignore a signal.

    SLURM sends the signal that is meant for submitit to all processes of a job.
    """
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


def _wait(child: subprocess.Popen, stop: Callable[[], bool]) -> int:
    """Return the child's exit status; whatever happens, nothing of its process group is left."""
    try:
        while not stop():
            with suppress(subprocess.TimeoutExpired):
                return child.wait(timeout=POLL_SECONDS)
        raise SystemExit(128 + signal.SIGTERM)
    finally:
        if child.poll() is None:
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(child.pid, signal.SIGINT)
                child.wait(timeout=SECONDS_TO_STOP)
        # data loaders outlive a trainer that crashed
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def start(run: TrainingRun, output: Path, device: str, environment: Mapping[str, str]) -> subprocess.Popen:
    """Start this module as a process that stops its command as soon as the caller is gone, even by SIGKILL."""
    log = log_file(output, run.path)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as printed:
        return subprocess.Popen(
            [sys.executable, "-m", __name__, "--while-stdin-is-open", str(output), run.path, device],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the caller, which stops all of them in order
        )


def stdin_was_closed() -> bool:
    """Return True if the other end of standard input is closed."""
    return bool(select([sys.stdin], [], [], 0)[0])


def main() -> int:
    parser = argparse.ArgumentParser(prog="one_run", description=__doc__)
    parser.add_argument("output", type=Path, help="the experiment's folder")
    parser.add_argument("run", help="DATASET/TRAINER__PLANS__CONFIG/fold_N")
    parser.add_argument("device", choices=("cuda", "cpu"))
    parser.add_argument("--while-stdin-is-open", action="store_true", help="stop when standard input is closed")
    args = parser.parse_args()
    try:
        run = TrainingRun.from_path(args.run)
        if args.while_stdin_is_open:
            return train_one(run, args.output, args.device, stdin_was_closed)
        outcome = train_in_turn(run, args.output, args.device)
        if outcome is not Outcome.DONE:
            print(failure_of(args.run, args.output, outcome), file=sys.stderr)
        return outcome
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    with stopped_by_signals():
        sys.exit(main())
