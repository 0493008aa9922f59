"""Runs as the tasks of a SLURM job array, through submitit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.cluster_options import ClusterOptions
from nnunetv2_sam2_3dmed.experiments.one_run import Outcome, failure_of, train_in_turn
from nnunetv2_sam2_3dmed.experiments.runs import Run

if TYPE_CHECKING:
    import submitit

# a training longer than its job goes on in the next one; this bounds one that never gets to a checkpoint
MOST_JOBS_PER_RUN = 50


@dataclass(frozen=True)
class RunTask:
    """What a job does. submitit puts it back into the queue, as it is, before the time is up or when it is preempted.

    Attributes:
        path: the run's.
        output: the benchmark's folder.
        device: ``cuda`` or ``cpu``.
        environment: nnU-Net's variables.
    """

    path: str
    output: Path
    device: str
    environment: Mapping[str, str]

    def __call__(self) -> str:
        """Trains.

        Raises:
            RuntimeError: it failed, which the cluster is to see as a failed job.
        """
        os.environ.update(self.environment)
        outcome = train_in_turn(Run.from_path(self.path), self.output, self.device)
        if outcome is not Outcome.DONE:
            raise RuntimeError(failure_of(self.path, self.output, outcome))
        return outcome.name

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit queues again: the same, since where to go on is in nnU-Net's files."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def submit(
    name: str,
    runs: Sequence[Run],
    output: Path,
    environment: Mapping[str, str],
    options: ClusterOptions,
    cluster: str = "slurm",
) -> list[submitit.Job]:
    """Submits one job array with a task for each run.

    Args:
        name: of the jobs.
        runs: those that are not done.
        output: the benchmark's folder, on a file system that all machines share.
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
            "--slurm needs submitit, which is not installed: run `pip install 'nnunetv2-sam2-3dmed[slurm]'`, or take "
            "--write-scripts sbatch."
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
