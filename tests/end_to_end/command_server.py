"""A process that has imported torch, nnU-Net and this package, and forks another one for each command.

Importing them takes as long as a tiny training. A forked process runs the console script itself, with its own
arguments, environment, working directory and process group.

Each line of standard input is a request as JSON, and each line of standard output an exit status.
"""

import json
import multiprocessing
import multiprocessing.context
import os
import runpy
import signal
import sys
from contextlib import suppress

import nnunetv2.evaluation.evaluate_predictions
import nnunetv2.experiment_planning.plan_and_preprocess_entrypoints
import nnunetv2.inference.predict_from_raw_data
import nnunetv2.run.run_training  # noqa: F401
import nnunetv2_sam2_3dmed.trainers.sam2_3dmed_trainers

import nnunetv2_sam2_3dmed.commands.main
import nnunetv2_sam2_3dmed.evaluation.compare
import nnunetv2_sam2_3dmed.interactive.session  # noqa: F401


def next_request() -> dict:
    """Wait for requests in this process; return one in a process of its own."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            return json.loads(line)
        _, status = os.waitpid(pid, 0)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # data loaders of a trainer that was killed
        print(os.waitstatus_to_exitcode(status), flush=True)
    raise SystemExit


def become(command: list[str], environment: dict[str, str], folder: str, log: str) -> None:
    """Give this process what a newly started command has."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY | os.O_TRUNC | os.O_CREAT)):
        opened = os.open(name, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.dup2(1, 2)
    if os.path.basename(command[0]) == "python":
        command = command[1:]
    sys.argv = command
    sys.path[0] = os.path.dirname(command[0])
    # nnU-Net asks for spawned workers, which would import everything again
    multiprocessing.context._concrete_contexts["spawn"] = multiprocessing.get_context("fork")
    # nnU-Net computes with as many threads, which spin while another test has the core: ten times the processor time
    multiprocessing.cpu_count = lambda: 1


if __name__ == "__main__":
    become(**next_request())
    runpy.run_path(sys.argv[0], run_name="__main__")
