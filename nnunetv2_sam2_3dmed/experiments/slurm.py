"""Training runs as the tasks of a SLURM job array, through submitit."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.one_run import Outcome, failure_of, train_in_turn
from nnunetv2_sam2_3dmed.experiments.runs import TrainingRun

if TYPE_CHECKING:
    import submitit

# a training longer than its job goes on in the next one; this bounds one that never gets to a checkpoint
MOST_JOBS_PER_RUN = 50


@dataclass(frozen=True)
class ClusterOptions:
    """Resources of one run.

    Attributes:
        partition: SLURM's partition; None: the cluster's default.
        minutes: after which SLURM stops it (it then goes on in a next job).
        gpus: one, or none to train on the CPU.
        memory_gb: main memory in GB.
        cpus: cores.
        extra: further options of sbatch, without the two dashes.
    """

    partition: str | None
    minutes: int
    gpus: int
    memory_gb: int
    cpus: int
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """nnU-Net's ``-device``."""
        return "cuda" if self.gpus else "cpu"


def parse_minutes(text: str) -> int:
    """Parse minutes from SLURM's notations ``MINUTES``, ``HH:MM:SS``, ``D-HH`` and ``D-HH:MM:SS``.

    Raises:
        UserError: it is none of them, or no time at all.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)|(\d+)-(\d+)|(\d+)", text)
    minutes = 0
    if match:
        days, hours, minutes, seconds, days_only, hours_only, minutes_only = (int(part or 0) for part in match.groups())
        minutes += ((days + days_only) * 24 + hours + hours_only) * 60 + minutes_only + (seconds > 0)
    if minutes < 1:
        raise UserError(f"--time {text!r}: expected minutes, HH:MM:SS, D-HH or D-HH:MM:SS, such as 24:00:00.")
    return minutes


def parse_extra(options: Sequence[str]) -> dict[str, str]:
    """Parse the values of ``--slurm-option KEY=VALUE``.

    Raises:
        UserError: one has no key, or characters that a line of a script cannot hold.
    """
    extra = {}
    for option in options:
        key, separator, value = option.partition("=")
        if not separator or not re.fullmatch(r"[a-z][a-z-]*", key) or not value.isprintable():
            raise UserError(f"--slurm-option {option!r}: expected KEY=VALUE as for sbatch, such as account=lab.")
        extra[key] = value
    return extra


def check_partition(name: str | None) -> None:
    """Refuse what cannot be a partition's name.

    Raises:
        UserError: it has other characters than names have.
    """
    if name is not None and not re.fullmatch(r"[\w.,-]+", name, re.ASCII):
        raise UserError(f"--partition {name!r}: expected the name of a SLURM partition, such as gpu.")


@dataclass(frozen=True)
class RunTask:
    """Task of one job; submitit queues it again, unchanged, before the time is up or when it is preempted.

    Attributes:
        path: the run's.
        output: the experiment's folder.
        device: ``cuda`` or ``cpu``.
        environment: nnU-Net's variables.
    """

    path: str
    output: Path
    device: str
    environment: Mapping[str, str]

    def __call__(self) -> str:
        """Train.

        Raises:
            RuntimeError: it failed, so that SLURM sees a failed job.
        """
        os.environ.update(self.environment)
        outcome = train_in_turn(TrainingRun.from_path(self.path), self.output, self.device)
        if outcome is not Outcome.DONE:
            raise RuntimeError(failure_of(self.path, self.output, outcome))
        return outcome.name

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return the same task for the queue: nnU-Net's files say where to go on."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def submit(
    name: str,
    runs: Sequence[TrainingRun],
    output: Path,
    environment: Mapping[str, str],
    options: ClusterOptions,
    cluster: str = "slurm",
) -> list[submitit.Job]:
    """Submit one job array with a task for each run.

    Args:
        name: of the jobs.
        runs: those that are not done.
        output: the experiment's folder, on a file system that all machines share.
        environment: nnU-Net's variables.
        options: what each run asks for.
        cluster: submitit's name of the executor; ``local`` runs the tasks on this machine.

    Raises:
        UserError: submitit is not installed, or there is no SLURM here.
    """
    try:
        import submitit
    except ModuleNotFoundError:
        raise UserError(
            "--slurm needs submitit, which is not installed: run `pip install 'nnunetv2-sam2-3dmed[slurm]'`."
        ) from None
    parameters: dict[str, Any] = {
        "name": name,
        "timeout_min": options.minutes,
        "cpus_per_task": options.cpus,
        "mem_gb": options.memory_gb,
        "gpus_per_node": options.gpus,
        "stderr_to_stdout": True,
        "slurm_partition": options.partition,
        # submitit starts the task by srun, which does not take this over from sbatch (since SLURM 22.05)
        "slurm_srun_args": [f"--cpus-per-task={options.extra.get('cpus-per-task', options.cpus)}"],
        "slurm_additional_parameters": options.extra or None,
    }
    try:
        executor = submitit.AutoExecutor(
            output / "submitit",
            cluster=cluster,
            slurm_max_num_timeout=MOST_JOBS_PER_RUN,
            local_max_num_timeout=MOST_JOBS_PER_RUN,
        )
    except RuntimeError as error:
        raise UserError(f"there is no SLURM here ({error}): run this where sbatch and srun are.") from None
    executor.update_parameters(**parameters)
    try:
        with submitit.helpers.clean_env():
            return executor.submit_array([RunTask(run.path, output, options.device, environment) for run in runs])
    except submitit.core.utils.FailedJobError as error:
        raise UserError(f"sbatch refused the job: {' '.join(str(error).split())}.") from None
