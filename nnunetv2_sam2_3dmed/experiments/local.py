"""Scheduler of runs on this machine's devices, one at a time on each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import sleep

from nnunetv2_sam2_3dmed.experiments.devices import Device
from nnunetv2_sam2_3dmed.experiments.one_run import Outcome, start
from nnunetv2_sam2_3dmed.experiments.runs import RunState, TrainingRun
from nnunetv2_sam2_3dmed.locks import is_held

POLL_SECONDS = 2.0


class LocalRunner:
    """Start runs on devices and wait for their ends.

    Attributes:
        running: the device of each run in progress, by the run's path.
        failed: paths of runs that failed.

    Args:
        runs: in order; those that are done are passed over.
        output: the experiment's folder.
        results: ``nnUNet_results``.
        devices: one run at a time on each.
        environment: of the runs, to which a device's is added.
    """

    def __init__(
        self,
        runs: Sequence[TrainingRun],
        output: Path,
        results: Path,
        devices: Sequence[Device],
        environment: Mapping[str, str],
    ):
        self.output = output
        self.results = results
        self.devices = list(devices)
        self.environment = environment
        self.failed: list[str] = []
        self._pending = [run for run in runs if run.state(results) is not RunState.DONE]
        self._processes: dict[str, tuple[TrainingRun, subprocess.Popen]] = {}  # by device

    @property
    def running(self) -> dict[str, str]:
        return {run.path: device for device, (run, _) in self._processes.items()}

    def run(self, show: Callable[[], None], on_failure: Callable[[TrainingRun], None]) -> None:
        """Run everything; wait for runs that another process is training.

        Args:
            show: called every two seconds.
            on_failure: called with each run that has failed.
        """
        try:
            while self._pending or self._processes:
                self._start()
                show()
                sleep(POLL_SECONDS)
                for run in self._collect():
                    on_failure(run)
            show()
        finally:
            self._stop()

    def _start(self) -> None:
        for device in self.devices:
            run = self._next() if device.name not in self._processes else None
            if run is not None:
                environment = {**os.environ, **self.environment, **device.environment}
                self._processes[device.name] = (run, start(run, self.output, device.kind, environment))

    def _next(self) -> TrainingRun | None:
        """Take the first pending run that no other process is training."""
        for run in list(self._pending):
            if is_held(run.lock(self.results)):
                continue
            self._pending.remove(run)
            if run.state(self.results) is not RunState.DONE:  # somebody else may have finished it
                return run
        return None

    def _collect(self) -> list[TrainingRun]:
        """Return the runs that failed since the last call."""
        failed = []
        for device, (run, process) in list(self._processes.items()):
            status = process.poll()
            # if only the process that we started was killed, its training lives on, and on the device
            if status is None or (status < 0 and is_held(run.lock(self.results))):
                continue
            del self._processes[device]
            if process.stdin:
                process.stdin.close()
            if status == Outcome.ELSEWHERE:
                self._pending.append(run)
            elif status != Outcome.DONE and run.state(self.results) is not RunState.DONE:
                self.failed.append(run.path)
                failed.append(run)
        return failed

    def _stop(self) -> None:
        """Close the standard input that the processes watch, and wait for their ends."""
        for _, process in self._processes.values():
            if process.stdin:
                process.stdin.close()
        for _, process in self._processes.values():
            process.wait()
