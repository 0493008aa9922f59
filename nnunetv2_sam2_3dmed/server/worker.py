"""The one thread that runs the network for all sessions."""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_END = object()


class Task:
    """A long computation that the worker takes a step at a time.

    Attributes:
        error: the exception that ended it; None otherwise.
    """

    def __init__(self, steps: Iterator[object], condition: threading.Condition):
        self._steps: Iterator[object] | None = steps
        self._condition = condition
        self._longest = 0.0
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        """True after its last step, an exception, or :meth:`cancel`."""
        return self._steps is None

    def cancel(self) -> None:
        """Take no further step; one that runs now goes on to its end."""
        self._end()

    def wait(self, until: float) -> bool:
        """Wait for the end, and return :attr:`done`.

        Args:
            until: ``time.monotonic()`` at which to give up. As what the caller does next may have to wait for a step,
                it gives up earlier by the time of the longest one so far.
        """
        with self._condition:
            while not self.done:
                left = until - self._longest - time.monotonic()
                if left <= 0:
                    break
                self._condition.wait(left)
        return self.done

    def _step(self, after: Callable[[], None]) -> None:
        """Take a step and what comes after it, on the worker's thread."""
        steps, began = self._steps, time.monotonic()
        if steps is None:
            return
        try:
            ended = next(steps, _END) is _END
            after()
            if ended:
                self._end()
        except Exception as error:
            _forget_locals(error)
            self.error = error
            self._end()
        with self._condition:
            self._longest = max(self._longest, time.monotonic() - began)
            self._condition.notify_all()  # those that wait look at the time again

    def _end(self) -> None:
        with self._condition:
            self._steps = None
            self._condition.notify_all()


def _forget_locals(error: BaseException | None) -> None:
    """Drop what the functions that an exception passed through had, such as features on the device.

    A task keeps its exception. Where memory had run out, what the exception keeps would be missing ever after.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


class Worker:
    """One thread that runs jobs in their order, and steps of tasks in turn while there is no job.

    Sessions may be used from one thread only, and the network answers one prompt at a time.

    Args:
        after: called on the thread after each job and each step; where it fails, that one has failed.
    """

    def __init__(self, after: Callable[[], None] = lambda: None) -> None:
        self._after = after
        self._condition = threading.Condition()
        self._jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._tasks: deque[Task] = deque()
        self._closed = self._ending = False
        self._thread = threading.Thread(target=self._loop, name="predictions", daemon=True)
        self._thread.start()

    def run(self, job: Callable[[], T]) -> T:
        """Run ``job`` on the worker's thread before any further step, and return its result or raise its exception.

        Raises:
            RuntimeError: the worker is closed.
        """
        if threading.current_thread() is self._thread:
            return job()
        future: Future[T] = Future()
        with self._condition:
            if self._closed:
                raise RuntimeError("the server is shutting down.")
            self._jobs.append((job, future))
            self._condition.notify_all()
        try:
            return future.result()
        finally:
            del future  # its exception's traceback holds this frame

    def start(self, steps: Iterator[object]) -> Task:
        """Advance an iterator on the worker's thread until it ends, a step between jobs; returns at once."""
        task = Task(steps, self._condition)
        with self._condition:
            if self._ending:
                task.cancel()
            else:
                self._tasks.append(task)
            self._condition.notify_all()
        return task

    def cancel(self) -> None:
        """End all tasks, also those that will be started, so that nobody waits for them any more."""
        with self._condition:
            self._ending = True
            for task in self._tasks:
                task.cancel()

    def close(self) -> None:
        """End all tasks, refuse further jobs, and wait for those accepted."""
        with self._condition:
            self._closed = True
            self.cancel()
            self._condition.notify_all()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._jobs or self._tasks or self._closed)
                if self._jobs:
                    job, future = self._jobs.popleft()
                    task = None
                elif self._tasks:
                    task = self._tasks[0]  # stays there meanwhile, so that close() finds it
                else:
                    return
            if task is None:
                try:
                    result = job()
                    self._after()
                    future.set_result(result)
                except BaseException as error:
                    future.set_exception(error)
                result = None
                del job, future  # what a job holds is freed before the next one comes
                continue
            task._step(self._after)
            with self._condition:
                self._tasks.popleft()
                if not task.done:
                    self._tasks.append(task)
            del task
