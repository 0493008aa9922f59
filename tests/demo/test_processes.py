"""The child process: its exit status, its output, and that it never outlives the demo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from nnunetv2_sam2_3dmed.demo import processes
from nnunetv2_sam2_3dmed.demo.processes import run_with_progress

# a command with a worker of its own; both would run for a minute
WITH_WORKER = """
import os, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open("pids.tmp", "w").write(f"{os.getpid()} {worker.pid}")
os.rename("pids.tmp", "pids")
time.sleep(60)
"""


class Interrupting:
    """A watch that behaves like Ctrl-C (or calls ``leave``) as soon as the command and its worker run."""

    total = 1.0
    amount = ""

    def __init__(self, folder: Path, leave=None):
        self.folder = folder
        self.leave = leave
        self.called = False

    def __call__(self) -> tuple[float, str]:
        if (self.folder / "pids").exists() and not self.called:
            self.called = True
            if self.leave is None:
                raise KeyboardInterrupt
            self.leave()
        return 0.0, ""


@pytest.fixture(autouse=True)
def _quick_polls(monkeypatch):
    monkeypatch.setattr(processes, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(processes, "POLL_SECONDS_WITHOUT_TERMINAL", 0.05)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be collected does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def assert_stopped(folder: Path) -> None:
    pids = [int(pid) for pid in (folder / "pids").read_text().split()]
    assert len(pids) == 2
    deadline = monotonic() + 5
    while any(alive(pid) for pid in pids):
        assert monotonic() < deadline, "the command or its worker still runs"
        sleep(0.05)


def test_exit_status_and_output(tmp_path):
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    argv = [sys.executable, "-c", code]
    assert run_with_progress(argv, tmp_path, dict(os.environ), tmp_path / "both.log") == 3
    assert sorted((tmp_path / "both.log").read_text().split()) == ["err", "out"]
    run_with_progress(argv, tmp_path, dict(os.environ), tmp_path / "err.log", tmp_path / "out.txt")
    assert (tmp_path / "err.log").read_text() == "err\n"
    assert (tmp_path / "out.txt").read_text() == "out\n"


def test_an_interrupt_stops_the_command_and_its_workers(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_with_progress(
            [sys.executable, "-c", WITH_WORKER],
            tmp_path,
            dict(os.environ),
            tmp_path / "log",
            watch=Interrupting(tmp_path),
        )
    assert_stopped(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_command_and_its_workers(tmp_path, number):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught:
        run_with_progress(
            [sys.executable, "-c", WITH_WORKER],
            tmp_path,
            dict(os.environ),
            tmp_path / "log",
            watch=Interrupting(tmp_path, lambda: os.kill(os.getpid(), number)),
        )
    assert caught.value.code == 128 + number
    assert_stopped(tmp_path)
    assert signal.getsignal(number) == before
