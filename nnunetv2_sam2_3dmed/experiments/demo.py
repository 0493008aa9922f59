"""nnU-Net and SAM2-3dMed on one small task in one folder: data, preparation, and an experiment on fold 0."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.demo_task import TASK_NAME, count_cases
from nnunetv2_sam2_3dmed.experiments.devices import find_devices
from nnunetv2_sam2_3dmed.experiments.experiment import only_one, prepare, run_experiment
from nnunetv2_sam2_3dmed.experiments.one_run import run_command, stopped_by_signals
from nnunetv2_sam2_3dmed.experiments.records import ATTEMPT, log_tail
from nnunetv2_sam2_3dmed.experiments.specification import read_specification
from nnunetv2_sam2_3dmed.files import read_json, write_text
from nnunetv2_sam2_3dmed.nnunet.environment import EXT_TRAINER, NNUNET_FOLDERS, trainers_folder

PREPARED = "sam2_3dmed_demo.json"  # the command lines that are done; also says that a folder is a demo's

EXPERIMENT = """\
name: demo
datasets: [{number}]
folds: [0]
methods:
  - {{trainer: nnUNetTrainer_{minutes}minutes, configuration: 3d_fullres, name: nnU-Net}}
  # from random weights; with those of SAM 2 (sam2_3dmed weights) take SAM2_3dMedTrainer_{minutes}minutes
  - {{trainer: SAM2_3dMedTrainer_noPretrain_tuned_{minutes}minutes, configuration: 3d, name: SAM2-3dMed}}
"""

NEXT = """
Next, on a dataset of your own (here number 9), with nnU-Net's three folders set as you have them,
after `eval "$(sam2_3dmed env)"` and `sam2_3dmed weights sam2.1_hiera_tiny`:
  nnUNetv2_plan_and_preprocess -d 9 -c 3d_fullres
  sam2_3dmed plan -d 9
  nnUNetv2_train 9 3d 0 -tr SAM2_3dMedTrainer"""


@dataclass(frozen=True)
class DemoOptions:
    """Options of the demo.

    Attributes:
        output: folder that everything goes into, absolute.
        data: task folder of the Medical Segmentation Decathlon (MSD), absolute; None for the synthetic task.
        minutes: of training per method.
        device: ``cpu`` or ``cuda``.
        cases: at most so many cases; None for all, or 24 synthetic ones.
    """

    output: Path
    data: Path | None = None
    minutes: int = 2
    device: str = "cpu"
    cases: int | None = None

    @property
    def task(self) -> str:
        """MSD's folder name, such as Task90_SyntheticCT."""
        return self.data.name if self.data else TASK_NAME

    @property
    def dataset_id(self) -> int:
        """nnU-Net's number for the task."""
        return int(self.task.removeprefix("Task").split("_")[0])


@dataclass(frozen=True)
class PreparationCommand:
    """A command that prepares the data.

    Attributes:
        title: one line for the terminal.
        argv: the command as a user types it in the output folder.
        makes: what it makes, as glob patterns in the output folder, removed before it runs anew.
    """

    title: str
    argv: tuple[str, ...]
    makes: tuple[str, ...]


def run_demo(options: DemoOptions, say: Callable[[str], object] = partial(print, flush=True)) -> bool:
    """Run the demo, or what is left of it.

    Returns:
        True if both trainings are complete and were compared.

    Raises:
        UserError: the options do not fit, the output folder is somebody else's, or the preparation failed.
    """
    commands = preparation(options, count_cases(options.data, options.cases))
    output = options.output
    claim_folder(output)
    environment = demo_environment(output)
    say(f"The commands below run in {output}, after")
    for name, value in environment.items():
        say(f"  export {name}={shlex.quote(value)}")
    os.environ.update(environment)  # for everything that this process starts
    with stopped_by_signals(), only_one(output) as lock:
        run_preparation(commands, output, say, lock)
        file = output / "demo.yaml"
        write_text(file, EXPERIMENT.format(number=options.dataset_id, minutes=options.minutes))
        experiment = prepare(read_specification(file), output / "experiment")
        device = "cuda:0" if options.device == "cuda" else "cpu"
        command = f"sam2_3dmed experiment demo.yaml -o experiment --devices {device}"
        say(f"\n[{len(commands) + 1}/{len(commands) + 1}] train both methods and compare them on fold 0\n  $ {command}")
        for run in experiment.runs:
            say(f"    {shlex.join(run.command(options.device))}")
        complete = run_experiment(experiment, find_devices([device], int(options.device == "cuda")))
    report = output / "experiment" / experiment.datasets[0] / "report.html"
    if report.is_file():
        say(f"\nReport: {report}\n{NEXT}")
    return complete


def claim_folder(output: Path) -> None:
    """Make the output folder, or check that it is an earlier demo's, since the preparation deletes what it made.

    Raises:
        UserError: the folder has other things in it.
    """
    in_use = output.exists() and (not output.is_dir() or any(output.iterdir()))
    if in_use and not (output / PREPARED).is_file():
        raise UserError(f"{output} is not empty and not from an earlier demo: name another folder with -o.")
    output.mkdir(parents=True, exist_ok=True)
    if not in_use:
        write_text(output / PREPARED, "[]\n")


def demo_environment(output: Path) -> dict[str, str]:
    """Return nnU-Net's variables: its folders inside ``output``, our trainers, two processes."""
    return {
        **{name: str(output / name) for name in NNUNET_FOLDERS},
        EXT_TRAINER: trainers_folder(),
        "nnUNet_def_n_proc": "2",
        # each process that predicting starts has to import torch first, which is slow on few cores
        "nnUNet_npp": "1",
        "nnUNet_nps": "1",
        "nnUNet_compile": "f",
        "nnUNet_wandb_enabled": "0",
        "PYTHONUNBUFFERED": "1",
    }


def preparation(options: DemoOptions, cases: int) -> list[PreparationCommand]:
    """Return the commands from the data to nnU-Net's plans.

    Args:
        options: with absolute paths.
        cases: number of cases.
    """
    number = str(options.dataset_id)
    dataset = f"Dataset{options.dataset_id:03d}_*"
    source = () if options.data is None else ("--data", str(options.data))
    # what a CPU needs to get anywhere in minutes; a GPU takes the defaults
    small = ("--image-size", "128", "--slices", "6", "--batch-size", "2") if options.device == "cpu" else ()
    return [
        PreparationCommand(
            f"{'make synthetic CT data' if options.data is None else f'take {options.task}'}: {cases} cases",
            ("python", "-m", "nnunetv2_sam2_3dmed.experiments.demo_task", "data", *source, "--cases", str(cases)),
            (f"data/{options.task}",),
        ),
        PreparationCommand(
            "convert to nnU-Net's format",
            ("nnUNetv2_convert_MSD_dataset", "-i", f"data/{options.task}"),
            # nnU-Net refuses a number that any of its folders knows
            tuple(f"{folder}/{dataset}" for folder in NNUNET_FOLDERS),
        ),
        PreparationCommand(
            "nnU-Net's fingerprint, plans and preprocessing (both methods train on these data)",
            ("nnUNetv2_plan_and_preprocess", "-d", number, "-c", "3d_fullres", "-npfp", "2", "-np", "2"),
            (f"nnUNet_preprocessed/{dataset}",),
        ),
        PreparationCommand(
            "add the configuration `3d` of SAM2-3dMed to nnU-Net's plans",
            ("sam2_3dmed", "plan", "-d", number, *small),
            (f"nnUNet_results/{dataset}",),  # trained with other plans
        ),
    ]


def run_preparation(
    commands: Sequence[PreparationCommand], output: Path, say: Callable[[str], object], lock: int
) -> None:
    """Run the commands that are not done, in order; after one that runs, all others run too.

    Args:
        commands: in order.
        output: where they run.
        say: prints one text.
        lock: file descriptor of the folder's lock, which a command holds too that outlives this process.

    Raises:
        UserError: a command failed; the message has the end of its log.
    """
    done = read_json(output / PREPARED)
    if not isinstance(done, list):  # of a demo that kept its state in another way
        done = []
    for number, command in enumerate(commands):
        say(f"\n[{number + 1}/{len(commands) + 1}] {command.title}\n  $ {shlex.join(command.argv)}")
        if done[number : number + 1] == [list(command.argv)]:
            say("  done before")
            continue
        done = done[:number]
        write_text(output / PREPARED, json.dumps(done, indent=1) + "\n")
        for pattern in (pattern for later in commands[number:] for pattern in later.makes):
            for path in output.glob(pattern):
                shutil.rmtree(path)
        log = output / "logs" / f"preparation_{number + 1}.log"
        log.parent.mkdir(exist_ok=True)
        start = monotonic()
        with log.open("w") as printed:
            printed.write(f"{ATTEMPT}{shlex.join(command.argv)}\n")
            printed.flush()
            status = run_command(command.argv, printed, pass_fds=(lock,), folder=output)
        if status != 0:
            print(log_tail(log), file=sys.stderr)
            raise UserError(
                f"{shlex.join(command.argv)} failed with exit status {status}: see the end of its log {log} above."
            )
        done.append(list(command.argv))
        write_text(output / PREPARED, json.dumps(done, indent=1) + "\n")
        say(f"  done in {monotonic() - start:.0f} s")
