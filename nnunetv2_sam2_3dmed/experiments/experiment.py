"""An experiment from its YAML file to its tables."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.begun import check_begun
from nnunetv2_sam2_3dmed.experiments.checks import (
    check_configuration,
    check_datasets,
    check_folds,
    check_network,
    check_seeded_names,
)
from nnunetv2_sam2_3dmed.experiments.comparison import comparison_command, coverage, run_comparison
from nnunetv2_sam2_3dmed.experiments.devices import Device
from nnunetv2_sam2_3dmed.experiments.display import Display
from nnunetv2_sam2_3dmed.experiments.local import LocalRunner
from nnunetv2_sam2_3dmed.experiments.progress import Watcher
from nnunetv2_sam2_3dmed.experiments.records import log_file, log_tail, read_record
from nnunetv2_sam2_3dmed.experiments.runs import RunState, TrainingRun, list_runs
from nnunetv2_sam2_3dmed.experiments.seeds import seed_scores, write_seeds
from nnunetv2_sam2_3dmed.experiments.specification import Specification
from nnunetv2_sam2_3dmed.files import read_json, write_text
from nnunetv2_sam2_3dmed.locks import held
from nnunetv2_sam2_3dmed.nnunet.environment import EXT_TRAINER, NNUNET_FOLDERS, search_path
from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder


@dataclass(frozen=True)
class Experiment:
    """A checked experiment.

    Attributes:
        specification: content of the YAML file.
        datasets: full names.
        runs: all of them, in order.
        output: folder for logs, records and comparisons.
        results: ``nnUNet_results``.
        environment: nnU-Net's variables for every command.
    """

    specification: Specification
    datasets: tuple[str, ...]
    runs: tuple[TrainingRun, ...]
    output: Path
    results: Path
    environment: dict[str, str]

    @property
    def unfinished(self) -> list[TrainingRun]:
        """Runs that are not done."""
        return [run for run in self.runs if run.state(self.results) is not RunState.DONE]

    def plan(self, device: str) -> str:
        """Return all commands, as a user would type them."""
        exports = [f"export {name}={shlex.quote(value)}" for name, value in self.environment.items()]
        commands = [shlex.join(run.command(device)) for run in self.runs]
        return "\n".join([*exports, *commands]) + "\n"


def prepare(specification: Specification, output: Path | None) -> Experiment:
    """Check everything that can be checked; nothing is written into the output folder.

    Raises:
        UserError: something is missing or does not fit.
    """
    results = nnunet_folder("nnUNet_results").absolute()
    output = (results / f"experiment_{specification.name}" if output is None else output).absolute()
    datasets = check_datasets(specification)
    for dataset in datasets:
        data = [check_configuration(dataset, method) for method in specification.methods]
        for folder in dict.fromkeys(data):
            check_folds(dataset, specification.folds, folder)
    from nnunetv2_sam2_3dmed.training.names import find_trainer

    found = {name: find_trainer(name) for name in dict.fromkeys(method.trainer for method in specification.methods)}
    for name in found:
        check_seeded_names(name, specification.seeds)
    runs = list_runs(specification, datasets)
    for dataset in datasets:
        for method in specification.methods:
            repetitions = [method.seeded(seed) for seed in specification.seeds or (None,)]
            own = [run for run in runs if run.dataset == dataset and run.method in repetitions]
            trained = all(run.state(results) is not RunState.WAITING for run in own)
            check_network(dataset, method, found[method.trainer], trained)
    for run in runs:
        check_begun(run, results)
    environment = {name: str(nnunet_folder(name).absolute()) for name in NNUNET_FOLDERS if os.environ.get(name)}
    environment[EXT_TRAINER] = search_path()
    return Experiment(specification, tuple(datasets), tuple(runs), output, results, environment)


def run_experiment(experiment: Experiment, devices: Sequence[Device]) -> bool:
    """Train what is not done on this machine and compare the results.

    Returns:
        True if everything is complete and was compared.

    Raises:
        UserError: another experiment is using the output folder.
    """
    with only_one(experiment.output):
        write_plan(experiment, devices[0].kind)
        run_here(experiment, devices)
        return compare_datasets(experiment)


def run_here(experiment: Experiment, devices: Sequence[Device]) -> None:
    """Run everything that is not done on this machine, and show it."""
    runner = LocalRunner(experiment.runs, experiment.output, experiment.results, devices, experiment.environment)
    watcher = Watcher(experiment.results, experiment.output)
    with Display(experiment.specification, experiment.runs, len(devices)) as display:
        runner.run(
            lambda: display.show(watcher.look(experiment.runs, runner.running, runner.failed)),
            lambda run: display.say(failure_text(experiment, run)),
        )


def failure_text(experiment: Experiment, run: TrainingRun) -> str:
    """Return why a run failed, and the end of its log."""
    log = log_file(experiment.output, run.path)
    failure = read_record(experiment.output, run.path).failure or "did not start"
    return f"FAILED {run.path}: {failure}; the end of its log {log}:\n{log_tail(log)}"


def compare_datasets(experiment: Experiment) -> bool:
    """Compare what is complete, and print what is missing.

    Returns:
        True if everything is complete and was compared.
    """
    specification = experiment.specification
    reference = specification.reference
    if reference is not None and specification.seeds:
        reference = reference.seeded(specification.seeds[0])
    complete = True
    scores: list[pd.DataFrame] = []
    for dataset in experiment.datasets:
        covered = coverage(dataset, experiment.runs, experiment.results)
        print(f"\n{covered.text()}")
        for path in covered.missing:
            failure = read_record(experiment.output, path).failure
            print(f"  missing: {path}{f' ({failure}, see {log_file(experiment.output, path)})' if failure else ''}")
        complete = complete and not covered.missing
        if not covered.possible:
            continue
        if reference is not None and reference not in covered.methods:
            print(f"  the reference {reference.key} is missing: tests are against {covered.methods[0].key}")
        argv = comparison_command(covered, experiment.output, reference)
        print(f"  $ {shlex.join(argv)}")
        if run_comparison(argv, experiment.environment) != 0:
            print(f"  the comparison of {dataset} failed")
            complete = False
        elif specification.seeds:
            comparison = read_json(experiment.output / dataset / "comparison.json")
            scores.append(seed_scores(comparison, specification.methods, specification.seeds))
    if scores:
        write_seeds(experiment.output, pd.concat(scores))
        print(f"\nspread over seeds: {experiment.output / 'seeds.md'}")
    return complete


def print_failures(experiment: Experiment) -> None:
    """Print the end of the log of each run whose last attempt failed."""
    for run in experiment.unfinished:
        if read_record(experiment.output, run.path).failure:
            print(f"\n{failure_text(experiment, run)}")


@contextmanager
def only_one(output: Path) -> Iterator[int]:
    """Keep a second experiment out of the output folder.

    Yields:
        The file descriptor of the lock, which a child process that inherits it holds too.

    Raises:
        UserError: another one is using it.
    """
    with held(output / ".lock") as lock:
        if lock is None:
            raise UserError(f"another experiment is using {output}: wait for it, or give another folder with -o.")
        yield lock


def write_plan(experiment: Experiment, device: str) -> None:
    """Write ``plan.txt``."""
    write_text(experiment.output / "plan.txt", experiment.plan(device))
