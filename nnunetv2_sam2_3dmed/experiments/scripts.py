"""Array job scripts for those who submit them by hand: sbatch for SLURM, and LSF."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.cluster_options import ClusterOptions
from nnunetv2_sam2_3dmed.experiments.runs import Run
from nnunetv2_sam2_3dmed.files import write_text

KINDS = ("sbatch", "lsf")


def write_scripts(
    kind: str,
    name: str,
    runs: Sequence[Run],
    output: Path,
    environment: Mapping[str, str],
    options: ClusterOptions,
) -> tuple[Path, str]:
    """Writes the array job script, which lists its runs: clusters keep a copy of it, whatever is written later.

    Args:
        kind: one of :data:`KINDS`.
        name: of the job.
        runs: those that are not done.
        output: the benchmark's folder, on a file system that all machines share.
        environment: nnU-Net's variables.
        options: what each run asks for.

    Returns:
        The script, and the command that submits it.

    Raises:
        UserError: the options do not fit.
    """
    folder = output / "scripts"
    if any(c in str(value) for value in (output, sys.executable, *environment.values()) for c in '\n"'):
        raise UserError(f"{output} or one of nnU-Net's variables holds a quote or a line break: take other folders.")
    if kind == "lsf" and options.extra:
        raise UserError(f"--slurm-option {'='.join(next(iter(options.extra.items())))}: LSF has none; leave it out.")
    header = _sbatch_header if kind == "sbatch" else _lsf_header
    index = "SLURM_ARRAY_TASK_ID" if kind == "sbatch" else "LSB_JOBINDEX"
    script = folder / f"array.{kind}"
    lines = [
        "#!/bin/bash",
        *header(name, len(runs), folder, options),
        "set -euo pipefail",
        *(f"export {variable}={shlex.quote(value)}" for variable, value in environment.items()),
        "# Each task takes the run of its number, from where nnU-Net's files say that it is.",
        "runs=(",
        *(f"  [{number}]={shlex.quote(run.path)}" for number, run in enumerate(runs, 1)),
        ")",
        f"exec {shlex.quote(sys.executable)} -m nnunetv2_sam2_3dmed.experiments.one_run "
        f'{shlex.quote(str(output))} "${{runs[${index}]}}" {options.device}',
    ]
    write_text(script, "\n".join(lines) + "\n")
    (folder / "output").mkdir(exist_ok=True)
    return script, f"sbatch {shlex.quote(str(script))}" if kind == "sbatch" else f"bsub < {shlex.quote(str(script))}"


def _sbatch_header(name: str, tasks: int, folder: Path, options: ClusterOptions) -> list[str]:
    values = {
        "job-name": name,
        "array": f"1-{tasks}",
        "output": str(folder / "output" / "%A_%a.txt"),
        "time": str(options.minutes),
        "cpus-per-task": str(options.cpus),
        "mem": f"{options.memory_gb}G",
        "requeue": None,  # when it is preempted or its machine fails
    }
    if options.gpus:
        values["gpus-per-node"] = str(options.gpus)
    if options.partition:
        values["partition"] = options.partition
    values.update(options.extra)
    return [f"#SBATCH --{key}" + ("" if value is None else f"={shlex.quote(value)}") for key, value in values.items()]


def _lsf_header(name: str, tasks: int, folder: Path, options: ClusterOptions) -> list[str]:
    lines = [
        f'#BSUB -J "{name}[1-{tasks}]"',
        f'#BSUB -o "{folder / "output" / "%J_%I.txt"}"',
        f"#BSUB -W {options.minutes // 60}:{options.minutes % 60:02d}",
        f"#BSUB -n {options.cpus}",
        f'#BSUB -R "span[hosts=1] rusage[mem={options.memory_gb}G]"',
        "#BSUB -r",  # started again when its machine fails
    ]
    if options.gpus:
        lines.append(f'#BSUB -gpu "num={options.gpus}"')
    if options.partition:
        lines.append(f"#BSUB -q {options.partition}")
    return lines
