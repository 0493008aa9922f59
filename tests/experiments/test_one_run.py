"""One run, with a training of a second in place of nnU-Net's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments import one_run
from nnunetv2_sam2_3dmed.experiments.one_run import Outcome, run_command, stopped_by_signals, train_one
from nnunetv2_sam2_3dmed.experiments.records import log_file, log_tail, read_record
from nnunetv2_sam2_3dmed.experiments.runs import RunState
from nnunetv2_sam2_3dmed.locks import held, is_held
from tests.experiments.conftest import write_checkpoint

pytestmark = pytest.mark.usefixtures("fake_training")


@pytest.fixture(autouse=True)
def _dataset(monkeypatch, run):
    monkeypatch.setenv("FAKE_DATASETS", run.dataset)


def epochs(run, results) -> list[int]:
    lines = (run.folder(results) / "history.txt").read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("epoch")]


def alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_to_its_end_and_not_again(run, results, tmp_path):
    assert train_one(run, tmp_path / "out", "cpu") is Outcome.DONE
    assert epochs(run, results) == [0, 1, 2, 3]
    assert train_one(run, tmp_path / "out", "cpu") is Outcome.DONE
    assert epochs(run, results) == [0, 1, 2, 3]
    record = read_record(tmp_path / "out", run.path)
    assert (record.attempts, record.exit_status, record.failure, record.device) == (1, 0, "", "cpu")
    assert record.seconds > 0 and record.machine == os.uname().nodename


def test_stopped_with_its_workers_and_continued(run, results, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_TRAINING", "hangs")
    history = run.folder(results) / "history.txt"
    with pytest.raises(SystemExit):
        train_one(run, tmp_path, "cpu", stop=lambda: history.exists() and "worker" in history.read_text())
    (worker,) = [int(line.split()[1]) for line in history.read_text().splitlines() if line.startswith("worker")]
    deadline = monotonic() + 60
    while alive(worker):
        assert monotonic() < deadline, "its worker still runs"
        sleep(0.05)
    assert not is_held(run.lock(results))
    stopped = read_record(tmp_path, run.path)
    assert (stopped.exit_status, stopped.failure) == (None, "")
    # cut short while it was written: the checkpoint before it counts
    write_checkpoint(run.folder(results) / "checkpoint_final.pth", whole=False)
    assert train_one(run, tmp_path, "cpu") is Outcome.DONE
    assert epochs(run, results) == [0, 1, 2, 3]
    log = log_file(tmp_path, run.path).read_text()
    assert "checkpoint_final.pth was cut short" in log
    assert log.count("\n$ nnUNetv2_train") + log.startswith("$ nnUNetv2_train") == 2 and " --c" in log
    assert read_record(tmp_path, run.path).attempts == 2


def test_only_the_validation_is_left(run, results, tmp_path):
    write_checkpoint(run.folder(results) / "checkpoint_final.pth")
    assert train_one(run, tmp_path, "cpu") is Outcome.DONE
    assert epochs(run, results) == []


def test_a_failure_is_recorded_with_the_end_of_its_own_log(run, results, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_TRAINING", "fails")
    log = log_file(tmp_path, run.path)
    log.parent.mkdir(parents=True)
    log.write_text("$ an earlier attempt\nits own end\n")
    assert train_one(run, tmp_path, "cpu") is Outcome.FAILED
    assert read_record(tmp_path, run.path).failure == "exit status 1"
    tail = log_tail(log)
    assert tail.endswith("it fails on purpose") and "its own end" not in tail
    # a later success takes the failure back
    monkeypatch.delenv("FAKE_TRAINING")
    assert train_one(run, tmp_path, "cpu") is Outcome.DONE
    assert read_record(tmp_path, run.path).failure == ""


def test_a_run_that_somebody_else_has_in_hand_is_left_alone(run, results, tmp_path):
    with held(run.lock(results)):
        assert train_one(run, tmp_path, "cpu") is Outcome.ELSEWHERE
    assert run.state(results) is RunState.WAITING
    assert not log_file(tmp_path, run.path).exists()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files of a process are listed in /proc on Linux")
def test_a_training_holds_the_lock_by_itself(run, results, tmp_path, monkeypatch):
    """If the process that started it is killed, no other takes the run until the training has ended, too."""
    monkeypatch.setenv("FAKE_TRAINING", "hangs")
    history = run.folder(results) / "history.txt"
    held_by_training = []

    def stop() -> bool:
        if not history.exists() or "worker" not in history.read_text():
            return False
        _, _, training, *_ = history.read_text().split()
        held_by_training.extend(file.resolve() for file in Path(f"/proc/{training}/fd").iterdir())
        return True

    with pytest.raises(SystemExit):
        train_one(run, tmp_path, "cpu", stop)
    assert run.lock(results).resolve() in held_by_training


# a command with a worker of its own; both would run for a minute
WITH_WORKER = """
import os, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
open("pids.tmp", "w").write(f"{os.getpid()} {worker.pid}")
os.rename("pids.tmp", "pids")
time.sleep(60)
"""


@pytest.fixture
def real_python(fake_training, monkeypatch) -> None:
    monkeypatch.setattr(one_run, "resolve_command", lambda name: [sys.executable])


@pytest.mark.usefixtures("real_python")
def test_exit_status_output_and_folder_of_a_command(tmp_path):
    code = "import os, sys; print(os.getcwd()); print('err', file=sys.stderr); sys.exit(3)"
    with (tmp_path / "log").open("w") as printed:
        assert run_command(["python", "-c", code], printed, folder=tmp_path) == 3
    assert sorted((tmp_path / "log").read_text().split()) == sorted(["err", str(tmp_path)])


@pytest.mark.usefixtures("real_python")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_a_command_and_its_workers(tmp_path, number):
    def leave() -> bool:
        if (tmp_path / "pids").exists():
            os.kill(os.getpid(), number)
        return False

    before = signal.getsignal(number)
    expected = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with (tmp_path / "log").open("w") as printed, pytest.raises(expected) as caught, stopped_by_signals():
        run_command(["python", "-c", WITH_WORKER], printed, leave, folder=tmp_path)
    assert expected is KeyboardInterrupt or caught.value.code == 128 + number
    assert signal.getsignal(number) == before
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    deadline = monotonic() + 60
    while any(alive(pid) for pid in pids):
        assert monotonic() < deadline, "the command or its worker still runs"
        sleep(0.05)


def test_commands_that_are_not_installed(monkeypatch):
    monkeypatch.undo()
    assert one_run.resolve_command("python") == [sys.executable]
    assert one_run.resolve_command("nnUNetv2_train") == [str(Path(sys.executable).parent / "nnUNetv2_train")]
    with pytest.raises(UserError, match="no_such_command is not installed beside"):
        one_run.resolve_command("no_such_command")
