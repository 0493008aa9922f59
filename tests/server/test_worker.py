from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.server import worker as worker_module
from nnunetv2_sam2_3dmed.server.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


def test_all_jobs_run_on_one_thread_which_may_ask_itself(worker):
    names = {worker.run(lambda: threading.current_thread().name) for _ in range(3)}
    assert names == {"predictions"} == {worker.run(lambda: worker.run(lambda: threading.current_thread().name))}


def test_exceptions_reach_the_caller(worker):
    with pytest.raises(ZeroDivisionError):
        worker.run(lambda: 1 / 0)
    assert worker.run(lambda: 1) == 1


def test_tasks_take_turns_and_jobs_come_between(worker):
    order: list[str] = []
    begun, release = threading.Event(), threading.Event()

    def steps(name: str) -> Iterator[None]:
        for number in range(3):
            order.append(f"{name}{number}")
            if name == "a" and number == 0:
                begun.set()
                release.wait(60)
            yield

    started = [worker.start(steps(name)) for name in "ab"]
    assert begun.wait(60)
    waiting = threading.Thread(target=lambda: worker.run(lambda: order.append("job")))
    waiting.start()
    while not worker._jobs:
        time.sleep(0.001)
    release.set()
    waiting.join()
    assert all(task.wait(time.monotonic() + 60) for task in started)
    assert order == ["a0", "job", "b0", "a1", "b1", "a2", "b2"]


def test_a_cancelled_task_takes_no_further_step(worker):
    taken = []
    reached = threading.Event()

    def steps() -> Iterator[None]:
        while True:
            taken.append(1)
            if len(taken) == 3:
                reached.set()
            yield
            time.sleep(0.001)

    task = worker.start(steps())
    assert reached.wait(60)
    task.cancel()
    assert task.done and task.wait(0)
    count = worker.run(lambda: len(taken))
    time.sleep(0.02)
    assert len(taken) == count


def test_an_exception_ends_a_task_alone(worker):
    def steps() -> Iterator[None]:
        yield
        raise ValueError("third slice")

    task = worker.start(steps())
    assert task.wait(time.monotonic() + 60)
    assert isinstance(task.error, ValueError)
    assert worker.run(lambda: 1) == 1


def test_a_failed_task_keeps_nothing_of_what_it_computed(worker):
    kept = []

    def compute() -> None:
        features = np.zeros(3)
        kept.append(weakref.ref(features))
        raise MemoryError

    def steps() -> Iterator[None]:
        try:
            compute()
        except MemoryError as error:
            raise RuntimeError("out of memory") from error
        yield

    task = worker.start(steps())
    assert task.wait(time.monotonic() + 60) and isinstance(task.error, RuntimeError)
    assert task.error.__cause__.__traceback__ is not None, "it can still be printed"
    gc.collect()
    assert kept[0]() is None


def test_no_task_is_begun_once_all_were_ended(worker):
    worker.cancel()
    assert worker.start(iter(range(3))).done and worker.run(lambda: 1) == 1


def test_waiting_leaves_time_for_the_longest_step_so_far(worker, monkeypatch):
    now, second, release = [1000.0], threading.Event(), threading.Event()
    monkeypatch.setattr(worker_module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def steps() -> Iterator[None]:
        now[0] += 100
        yield
        second.set()
        release.wait(30)

    task = worker.start(steps())
    assert second.wait(60)
    assert not task.wait(now[0] + 99), "it gives up at once: the next step may take 100 seconds too"
    release.set()
    assert task.wait(now[0] + 10_000)


def test_what_is_to_be_called_after_each_job_and_step():
    calls: list[int] = []
    worker = Worker(after=lambda: calls.append(1))
    worker.run(lambda: None)
    assert worker.start(iter(range(2))).wait(time.monotonic() + 60)
    worker.run(lambda: None)
    worker.close()
    assert len(calls) == 5  # two jobs, two steps and the end


def test_what_is_to_be_called_after_each_job_and_step_fails_for_that_one_alone():
    broken = threading.Event()

    def after() -> None:
        if broken.is_set():
            raise MemoryError("no room")

    worker = Worker(after)
    broken.set()
    with pytest.raises(MemoryError):
        worker.run(lambda: None)
    task = worker.start(iter(range(9)))
    assert task.wait(time.monotonic() + 60) and isinstance(task.error, MemoryError)
    broken.clear()
    assert worker.run(lambda: 1) == 1
    worker.close()


def test_a_closed_worker_ends_the_task_whose_step_runs_and_refuses_jobs():
    worker = Worker()
    begun, release, taken = threading.Event(), threading.Event(), []

    def steps() -> Iterator[None]:
        for number in range(9):
            taken.append(number)
            begun.set()
            release.wait(60)
            yield

    task = worker.start(steps())
    assert begun.wait(60)
    closing = threading.Thread(target=worker.close)
    closing.start()
    while not worker._closed:
        time.sleep(0.001)
    release.set()
    closing.join(60)
    assert not closing.is_alive() and task.done and taken == [0]
    with pytest.raises(RuntimeError, match="shutting down"):
        worker.run(lambda: None)
    assert worker.start(steps()).done and taken == [0]
