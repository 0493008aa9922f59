"""Runs command lines one after the other, and not again when they are done.

Each finished step leaves a marker in ``steps/``, with its command line and seconds, and its output in
``logs/``. A step whose marker has the same command line is skipped; one whose command line has changed is
run again, and so is everything after it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from nnunetv2_sam2_3dmed.demo.processes import run_with_progress
from nnunetv2_sam2_3dmed.demo.progress import Watch
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import write_text

LOG_TAIL_LINES = 15


@dataclass(frozen=True)
class Step:
    """One command line.

    Attributes:
        name: for file names.
        title: one line for the terminal.
        argv: the command as a user types it; it runs in the runner's folder.
        clears: what the command makes, as glob patterns in the runner's folder: removed before it runs anew.
        resume: appended to ``argv`` when a run of the same command line was interrupted.
        watch: tells how far the command has come.
        prints: the command's standard output is for the user, and is shown when it has finished.
        note: said below the command line.
    """

    name: str
    title: str
    argv: tuple[str, ...]
    clears: tuple[str, ...] = ()
    resume: tuple[str, ...] = ()
    watch: Watch | None = None
    prints: bool = False
    note: str = ""


class StepRunner:
    """Runs steps in ``folder`` with ``environment`` added to this process's own.

    Args:
        folder: working directory of the commands; markers and logs go here.
        environment: variables for the commands.
        say: prints one text.
    """

    def __init__(self, folder: Path, environment: dict[str, str], say: Callable[[str], Any] = print):
        self.folder = folder
        self.environment = environment
        self.say = say
        for name in ("steps", "logs"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def forget(self) -> None:
        """Removes all markers, so that every step runs anew."""
        self._forget_from(0)

    def run(self, steps: Sequence[Step]) -> dict[str, float]:
        """Runs those of ``steps`` that are not done, in order.

        Returns:
            Seconds that each step took (interrupted runs of it included), by name.

        Raises:
            UserError: a command failed; the message has the end of its log.
        """
        return {step.name: self._run_step(number, len(steps), step) for number, step in enumerate(steps, 1)}

    def _run_step(self, number: int, count: int, step: Step) -> float:
        self.say(f"\n[{number}/{count}] {step.title}\n  $ {shlex.join(step.argv)}")
        if step.note:
            self.say(f"  {step.note}")
        base = f"{number:02d}_{step.name}"
        marker, log = self.folder / "steps" / f"{base}.json", self.folder / "logs" / f"{base}.log"
        printed = log.with_suffix(".out") if step.prints else None

        state = read_marker(marker)
        same = state.get("argv") == list(step.argv)
        if same and state["done"]:
            seconds = float(state["seconds"])
            self.say(f"  done before, in {seconds:.0f} s")
        else:
            resuming = same and bool(step.resume)
            seconds = float(state["seconds"]) if resuming else 0.0
            self._forget_from(number)
            if resuming:
                self.say(f"  was interrupted: continues with {shlex.join(step.resume)}")
            else:
                self._clear(step.clears)
            argv = [*step.argv, *(step.resume if resuming else ())]
            seconds = self._execute(step, argv, marker, log, printed, seconds)
            self.say(f"  done in {seconds:.0f} s")
        if printed is not None:
            self.say("\n" + printed.read_text().rstrip())
        return seconds

    def _execute(
        self,
        step: Step,
        argv: list[str],
        marker: Path,
        log: Path,
        printed: Path | None,
        earlier: float,
    ) -> float:
        """Runs ``argv``, keeps ``marker`` up to date, returns the seconds with ``earlier`` added."""
        resolved = [*resolve_command(argv[0]), *argv[1:]]
        start, done, seconds = monotonic(), False, earlier
        record = {"argv": list(step.argv), "done": False, "seconds": earlier}
        write_json(marker, record)  # before the start: a power cut leaves no other sign of an unfinished run
        try:
            status = run_with_progress(
                resolved, self.folder, {**os.environ, **self.environment}, log, printed, step.watch
            )
            done = status == 0
        finally:
            seconds = earlier + monotonic() - start
            write_json(marker, {**record, "done": done, "seconds": round(seconds, 2)})
        if not done:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            print(tail, file=sys.stderr)
            raise UserError(f"step {step.name} failed with exit status {status}; above is the end of its log {log}.")
        return seconds

    def _forget_from(self, number: int) -> None:
        for marker in (self.folder / "steps").glob("[0-9][0-9]_*.json"):
            if int(marker.name[:2]) >= number:
                marker.unlink()

    def _clear(self, patterns: Sequence[str]) -> None:
        for pattern in patterns:
            for path in self.folder.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def resolve_command(name: str) -> list[str]:
    """The program for the command ``name``: the one installed beside this Python, else the one on PATH."""
    if name == "python":
        return [sys.executable]
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise UserError(f"the command {name} is not installed beside {sys.executable} nor on PATH.")
    return [found]


def read_marker(path: Path) -> dict[str, Any]:
    """The marker's contents, or nothing if there is none that can be read."""
    try:
        state = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) and {"argv", "done", "seconds"} <= state.keys() else {}


def write_json(path: Path, contents: dict[str, Any]) -> None:
    """Writes a file that is never there by half."""
    write_text(path, json.dumps(contents, indent=2) + "\n")
