"""Job arrays: submitit on this machine, and what it hands to SLURM."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from nnunetv2_sam2_3dmed import locks
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments import one_run, slurm
from nnunetv2_sam2_3dmed.experiments.runs import RunState, TrainingRun
from nnunetv2_sam2_3dmed.experiments.slurm import ClusterOptions, check_partition, parse_extra, parse_minutes
from nnunetv2_sam2_3dmed.experiments.specification import Method
from nnunetv2_sam2_3dmed.locks import held, is_held
from tests.experiments.fake_task import FakeTask

OPTIONS = ClusterOptions(partition="gpu", minutes=90, gpus=1, memory_gb=32, cpus=8)
RUNS = [TrainingRun("Dataset001_X", Method(trainer, "3d"), fold) for fold in (0, 1) for trainer in ("A", "B")]


def test_a_job_that_is_taken_off_its_machine_goes_on_in_the_queue(results, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "RunTask", FakeTask)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    options = ClusterOptions(partition="gpu", minutes=5, gpus=0, memory_gb=1, cpus=1)
    environment = {"nnUNet_results": str(results), "FAKE_DATASETS": RUNS[0].dataset, "FAKE_TRAINING": "hangs"}
    (job,) = slurm.submit("test", RUNS[:1], tmp_path / "out", environment, options, cluster="local")
    history = RUNS[0].folder(results) / "history.txt"
    deadline = monotonic() + 60
    while not (history.exists() and "worker" in history.read_text()):
        assert monotonic() < deadline and not job.done()
        sleep(0.1)
    # SLURM's signal before the time is up, to all processes
    task, training = history.read_text().split()[1:3]
    for process in (training, task):
        os.kill(int(process), signal.SIGUSR2)
        sleep(0.5)
    assert job.result() == "DONE"
    lines = history.read_text().splitlines()
    assert [line for line in lines if line.startswith("epoch")] == [f"epoch {number}" for number in range(4)]
    starts = [line for line in lines if line.startswith("start")]
    assert len(starts) == 2 and starts[1].endswith("--c")
    assert RUNS[0].state(results) is RunState.DONE


@pytest.fixture
def task(results, tmp_path, monkeypatch) -> FakeTask:
    """A task in this process; its training fails."""
    monkeypatch.setattr(one_run, "resolve_command", one_run.resolve_command)  # which it replaces
    environment = {"nnUNet_results": str(results), "FAKE_DATASETS": RUNS[0].dataset, "FAKE_TRAINING": "fails"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)  # the task does the same, for good
    return FakeTask(RUNS[0].path, tmp_path / "out", "cpu", environment)


def test_a_run_that_fails_is_a_failed_job(task):
    with pytest.raises(RuntimeError, match=rf"{RUNS[0].path} failed: exit status 1, see .*fold_0\.log"):
        task()


def test_a_task_waits_for_the_process_that_is_at_its_run(task, results, monkeypatch):
    monkeypatch.setattr(locks, "SECONDS_TO_TRY", 0.1)
    monkeypatch.setattr(one_run, "SECONDS_BETWEEN_LOOKS", 0.1)
    monkeypatch.setattr(one_run, "SECONDS_FOR_OTHERS", 0.5)
    lock = RUNS[0].lock(results)
    with held(lock), pytest.raises(RuntimeError, match="another process is training it"):
        task()
    monkeypatch.setattr(one_run, "SECONDS_FOR_OTHERS", 60.0)
    task.environment["FAKE_TRAINING"] = ""
    holder = "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); print(1, flush=True); "
    holder += "import time; time.sleep(1)"
    with subprocess.Popen([sys.executable, "-c", holder, str(lock)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert is_held(lock)
        assert task() == "DONE"


def test_the_training_gets_what_was_asked_for(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    for name, text in (("srun", ""), ("sbatch", f'cp "${{@: -1}}" {tmp_path}/submitted; echo Submitted batch job 12')):
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    slurm.submit("test", RUNS, tmp_path / "out", {}, OPTIONS)
    submitted = (tmp_path / "submitted").read_text()
    asked = set(re.findall(r"^#SBATCH --(\S+)$", submitted, re.MULTILINE))
    assert {"cpus-per-task=8", "mem=32GB", "gpus-per-node=1", "time=90", "partition=gpu"} <= asked
    assert re.search(r"^srun .*--cpus-per-task=8 ", submitted, re.MULTILINE)


def test_where_there_is_no_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no SLURM here"):
        slurm.submit("test", RUNS, tmp_path, {}, OPTIONS)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"nnunetv2-sam2-3dmed\[slurm\]"):
        slurm.submit("test", RUNS, tmp_path, {}, OPTIONS)


@pytest.mark.parametrize(
    ("text", "minutes"), [("90", 90), ("24:00:00", 1440), ("1-12", 2160), ("2-00:30:00", 2910), ("00:00:30", 1)]
)
def test_times(text, minutes):
    assert parse_minutes(text) == minutes


def test_options_that_do_not_fit():
    assert parse_extra(["account=lab", "exclude=a,b"]) == {"account": "lab", "exclude": "a,b"}
    for mistake in (
        lambda: parse_minutes("a day"),
        lambda: parse_minutes("0"),
        lambda: parse_extra(["account"]),
        lambda: parse_extra(["x=1\nrm -r /"]),
        lambda: check_partition('gpu"; rm'),
    ):
        with pytest.raises(UserError):
            mistake()
