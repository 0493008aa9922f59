"""Comparison of the complete runs of each dataset with ``sam2_3dmed report``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_sam2_3dmed.experiments.one_run import resolve_command
from nnunetv2_sam2_3dmed.experiments.runs import RunState, TrainingRun
from nnunetv2_sam2_3dmed.experiments.specification import Method

COMMAND = "report"  # it takes the options of `sam2_3dmed compare`, writes the same files, and report.html


@dataclass(frozen=True)
class Coverage:
    """Complete methods and folds of a dataset.

    Attributes:
        dataset: full name.
        methods: those that have completed a fold, in order.
        folds: those that all of ``methods`` have.
        missing: paths of runs that are not done.
    """

    dataset: str
    methods: tuple[Method, ...]
    folds: tuple[int, ...]
    missing: tuple[str, ...]

    @property
    def possible(self) -> bool:
        """True if there is anything to compare."""
        return bool(self.methods and self.folds)

    def text(self) -> str:
        """Return one line for the user."""
        if not self.possible:
            return f"{self.dataset}: nothing to compare, no fold is complete for all methods that have any"
        return f"{self.dataset}: {len(self.methods)} methods on fold {', '.join(map(str, self.folds))}"


def coverage(dataset: str, runs: Sequence[TrainingRun], results: Path) -> Coverage:
    """Return the methods that have a complete fold, and the folds that all of them have.

    Args:
        dataset: full name.
        runs: of the experiment.
        results: ``nnUNet_results``.
    """
    here = [run for run in runs if run.dataset == dataset]
    done: dict[Method, set[int]] = {}
    for run in here:
        if run.state(results) is RunState.DONE:
            done.setdefault(run.method, set()).add(run.fold)
    methods = tuple(method for method in dict.fromkeys(run.method for run in here) if method in done)
    folds = tuple(sorted(set.intersection(*done.values()))) if done else ()
    missing = tuple(run.path for run in here if run.fold not in done.get(run.method, ()))
    return Coverage(dataset, methods, folds, missing)


def comparison_command(covered: Coverage, output: Path, reference: Method | None) -> list[str]:
    """Return the command as a user would type it.

    Args:
        covered: methods and folds to compare.
        output: the experiment's folder; the comparison goes to a folder of the dataset's name in it.
        reference: of the paired tests, if it is among the methods; None: the first method.
    """
    chosen = ("--reference", reference.key) if reference in covered.methods and reference is not None else ()
    return [
        *("sam2_3dmed", COMMAND, "-d", covered.dataset, "-f", *map(str, covered.folds)),
        *("-m", *(method.key for method in covered.methods)),
        *("-o", str(output / covered.dataset), *chosen),
    ]


def run_comparison(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the command, which prints to the terminal, and return its exit status."""
    command = [*resolve_command(argv[0]), *argv[1:]]
    sys.stdout.flush()
    return subprocess.run(command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL).returncode
