"""Runs on several devices of one machine: who gets what, and what a failure stops."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments import local
from nnunetv2_sam2_3dmed.experiments.devices import Device, find_devices
from nnunetv2_sam2_3dmed.experiments.local import LocalRunner
from nnunetv2_sam2_3dmed.experiments.one_run import Outcome
from nnunetv2_sam2_3dmed.experiments.runs import TrainingRun
from nnunetv2_sam2_3dmed.experiments.specification import Method
from nnunetv2_sam2_3dmed.locks import held
from tests.experiments.conftest import finish

RUNS = [TrainingRun("Dataset001_X", Method(trainer, "3d"), fold) for fold in range(2) for trainer in ("A", "Bad", "C")]


@pytest.fixture
def started(monkeypatch, results):
    """Processes that end at once in place of trainings: (run, device, GPU that it sees), in order."""
    monkeypatch.setattr(local, "POLL_SECONDS", 0.02)
    seen: list[tuple[TrainingRun, str, str]] = []

    def start(run, output, device, environment):
        elsewhere = run == RUNS[5] and all(earlier != run for earlier, _, _ in seen)
        status = Outcome.FAILED if run.method.trainer == "Bad" else Outcome.ELSEWHERE if elsewhere else Outcome.DONE
        seen.append((run, device, environment.get("CUDA_VISIBLE_DEVICES", "")))
        if status is Outcome.DONE:
            finish(run, results)
        return subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({int(status)})"], stdin=subprocess.PIPE)

    monkeypatch.setattr(local, "start", start)
    return seen


def test_each_run_once_on_two_devices_whatever_fails(started, results, tmp_path):
    finish(RUNS[3], results)
    devices = find_devices(None, 2)
    runner = LocalRunner(RUNS, tmp_path, results, devices, {})
    failures: list[TrainingRun] = []
    most: list[int] = []
    runner.run(lambda: most.append(len(runner.running)), failures.append)
    assert [run.path for run in failures] == runner.failed
    assert sorted(runner.failed) == [RUNS[1].path, RUNS[4].path]  # which of two processes ends first is chance
    # the one that another process had in hand is asked for again; the one that was done, never
    assert [run for run, _, _ in started] == [RUNS[0], RUNS[1], RUNS[2], RUNS[4], RUNS[5], RUNS[5]]
    assert max(most) == 2
    assert {(kind, gpu) for _, kind, gpu in started} == {("cuda", "0"), ("cuda", "1")}


def test_a_device_is_not_free_while_a_training_lives_on_whose_starter_was_killed(monkeypatch, results, tmp_path):
    monkeypatch.setattr(local, "POLL_SECONDS", 0.02)
    trainings: list[subprocess.Popen] = []

    def start(run, *_):
        assert all(training.poll() is not None for training in trainings), "two on one device"
        with held(run.lock(results)) as lock:
            trainings.append(subprocess.Popen([sys.executable, "-S", "-c", "input()"], pass_fds=(lock,), stdin=-1))
        starter = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"], stdin=subprocess.PIPE)
        starter.send_signal(signal.SIGKILL)
        return starter

    monkeypatch.setattr(local, "start", start)
    looks: list[list[str]] = []

    def show():
        looks.append(list(runner.running))
        if looks.count([RUNS[1].path]) == 10:
            finish(RUNS[1], results)  # the second comes to its end all the same
        if looks and looks.count(looks[-1]) == 10:
            trainings[-1].communicate(b"\n")

    runner = LocalRunner(RUNS[:2], tmp_path, results, find_devices(None, 1), {})
    runner.run(show, lambda run: None)
    assert len(trainings) == 2
    assert min(looks.count([run.path]) for run in RUNS[:2]) >= 10
    assert runner.failed == [RUNS[0].path]


def test_the_processes_end_when_the_caller_is_interrupted(monkeypatch, results, tmp_path):
    waiting = "import sys; sys.stdin.read()"  # as one_run does: until standard input is closed
    processes = []

    def start(*_):
        processes.append(subprocess.Popen([sys.executable, "-S", "-c", waiting], stdin=subprocess.PIPE))
        return processes[-1]

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "start", start)
    runner = LocalRunner(RUNS, tmp_path, results, find_devices(None, 2), {})
    with pytest.raises(KeyboardInterrupt):
        runner.run(interrupt, lambda run: None)
    assert [process.poll() for process in processes] == [0, 0]


def test_devices(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert find_devices(None, 0) == [Device("cpu", {})]
    assert find_devices(["cuda:1"], 2) == [Device("cuda:1", {"CUDA_VISIBLE_DEVICES": "1"})]
    # numbers count what this process sees
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5a")
    assert [d.environment["CUDA_VISIBLE_DEVICES"] for d in find_devices(None, 2)] == ["3", "GPU-5a"]
    assert [d.kind for d in find_devices(["cpu", "cuda:0"], 2)] == ["cpu", "cuda"]


@pytest.mark.parametrize(("names", "says"), [(["cuda:2"], "expected cpu, cuda:0, cuda:1"), (["cpu", "cpu"], "twice")])
def test_devices_that_are_not_there(names, says):
    with pytest.raises(UserError, match=says):
        find_devices(names, 2)
