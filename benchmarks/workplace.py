"""nnU-Net's folders of one experiment, beside the user's own, and trainings in them, several at a time."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from queue import SimpleQueue
from statistics import mean
from typing import Any, NamedTuple

from equal_time import DATASET

from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.locks import held
from nnunetv2_sam2_3dmed.nnunet.checkpoints import load_checkpoint
from nnunetv2_sam2_3dmed.nnunet.environment import search_path
from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder
from nnunetv2_sam2_3dmed.nnunet.folds import FILE, Folds

TRAINERS = Path(__file__).parent / "trainers"
SUMMARY = Path("validation") / "summary.json"
FACTS = "training_facts.json"


class Training(NamedTuple):
    """One training of ``nnUNetv2_train``."""

    trainer: str
    configuration: str
    fold: int


def threads(device: str, jobs: int) -> dict[str, str]:
    """Return the environment variables with which each of some jobs on a CPU takes its share of the cores."""
    if device != "cpu":
        return {}
    cores = str(max((os.cpu_count() or 1) // jobs, 1))
    return {"OMP_NUM_THREADS": cores, "nnUNet_def_n_proc": cores}


def keep_to(file: Path, content: Any, option: str = "-o") -> None:
    """Write what all in an experiment's folder depends on.

    Args:
        file: in the folder.
        content: for JSON.
        option: with which a script is given another folder.

    Raises:
        SystemExit: the folder was begun with something else.
    """
    text = json.dumps(content, indent=1)
    if file.is_file() and json.loads(file.read_text()) != json.loads(text):
        sys.exit(f"{file} says something else than this experiment: give another folder with {option}.")
    write_text(file, text)


class Workplace:
    """Folders with links to the user's preprocessed cases, and with their own folds, plans, weights and results.

    Args:
        folder: of everything.
        device: of the trainings.
        jobs: number of trainings at a time; on a CPU each has its own share of the cores.
    """

    def __init__(self, folder: Path, device: str, jobs: int = 1):
        self.folder, self.device, self.jobs = folder.resolve(), device, jobs
        self.commands: list[str] = []
        self.environment = {
            **os.environ,
            "nnUNet_preprocessed": str(self.folder / "preprocessed"),
            "nnUNet_results": str(self.folder / "results"),
            # the benchmarks' trainers first: their module keeps to the number of threads
            "nnUNet_extTrainer": os.pathsep.join([str(TRAINERS), search_path()]),
            **threads(device, jobs),
        }

    @property
    def preprocessed(self) -> Path:
        """The dataset's own folder of plans and folds."""
        return self.folder / "preprocessed" / DATASET

    def link(self) -> list[str]:
        """Link what is large and copy what is not; return the names of the cases."""
        source = nnunet_folder("nnUNet_preprocessed") / DATASET
        self.preprocessed.mkdir(parents=True, exist_ok=True)
        for file in source.iterdir():
            own = self.preprocessed / file.name
            if own.exists() or file.name == FILE:
                continue
            if file.suffix == ".json" and file.is_file():
                own.write_bytes(file.read_bytes())
            else:
                own.symlink_to(file)
        labels = (self.preprocessed / "nnUNetPlans_3d_fullres").glob("*_seg.b2nd")
        return sorted(file.name.removesuffix("_seg.b2nd") for file in labels)

    def begin(self, folds: Folds, **settings: Any) -> None:
        """Write ``splits_final.json``, and all that results in the folder depend on.

        Raises:
            SystemExit: the folder was begun with other folds or settings.
        """
        keep_to(self.preprocessed / FILE, folds)
        keep_to(self.folder / "settings.json", {**settings, "device": self.device, "jobs": self.jobs})

    def with_all_cores(self) -> Workplace:
        """Return the same folders for one command at a time, with all cores; both remember the commands of both."""
        one = copy(self)
        one.jobs = 1
        one.environment = self.environment | threads(self.device, 1)
        return one

    def __call__(self, *command: str, done: bool = False, go_on: bool = False) -> None:
        """Run a command, with ``--c`` to go on, unless it is done; it is remembered in any case."""
        self.commands.append(shlex.join(command).replace(str(self.folder), "FOLDER"))
        if done:
            return
        words = [*command, *(["--c"] if go_on else [])]
        print("$", shlex.join(words), flush=True)
        script = str(Path(sys.executable).parent / words[0])
        subprocess.run(
            [script, *words[1:]], env=self.environment, check=True, stdout=subprocess.DEVNULL, close_fds=False
        )

    def fold_folder(self, training: Training) -> Path:
        trainer, configuration, fold = training
        return self.folder / "results" / DATASET / f"{trainer}__nnUNetPlans__{configuration}" / f"fold_{fold}"

    def train(self, training: Training, keep: bool = False) -> None:
        """Train and validate to the end, unless that was done.

        Args:
            training: to run or to go on with.
            keep: the final checkpoint; without it, only what is read from it stays, as disks are small.
        """
        folder = self.fold_folder(training)
        trainer, configuration, fold = training
        command = ("nnUNetv2_train", "4", configuration, str(fold), "-tr", trainer, "-device", self.device)
        self(*command, done=(folder / SUMMARY).is_file(), go_on=folder.exists())
        final = folder / "checkpoint_final.pth"
        if final.is_file():
            epochs = load_checkpoint(final)["logging"]["mean_fg_dice"]
            facts = {"epochs": len(epochs), "pseudo_dice": [round(float(value), 4) for value in epochs]}
            write_text(folder / FACTS, json.dumps(facts))
        (folder / "checkpoint_best.pth").unlink(missing_ok=True)
        if not keep:
            final.unlink(missing_ok=True)

    def train_all(self, trainings: Sequence[Training], keep: bool = False) -> None:
        """Run trainings in their order, :attr:`jobs` of them at a time; see :meth:`train`.

        Raises:
            SystemExit: some have failed; the others were run.
        """
        with self.share_cores() as pool, self._alone():
            running = {training: pool.submit(self.train, training, keep) for training in trainings}
            failed = [f"{training}: {error}" for training, one in running.items() if (error := one.exception())]
        if failed:
            sys.exit("\n".join([*failed, "the same command goes on."]))

    @contextmanager
    def share_cores(self) -> Iterator[ThreadPoolExecutor]:
        """Yield a pool of :attr:`jobs` threads; on a CPU each, and what it starts, has its own cores."""
        shares: SimpleQueue[set[int]] = SimpleQueue()
        cores = sorted(os.sched_getaffinity(0)) if self.device == "cpu" and hasattr(os, "sched_getaffinity") else []
        for job in range(self.jobs):
            shares.put(set(cores[job :: self.jobs]))

        def take() -> None:
            if share := shares.get():
                os.sched_setaffinity(0, share)  # of this thread, and of the processes that it starts

        with ThreadPoolExecutor(self.jobs, initializer=take) as pool:
            try:
                yield pool
            except BaseException:  # such as Ctrl-C: what waits is not started
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder, which trainings of an earlier call may still be writing to.

        Raises:
            SystemExit: another process has it.
        """
        with held(self.folder / "lock") as lock:
            if lock is None:
                sys.exit(f"another process is training in {self.folder}: wait, or end it.")
            os.set_inheritable(lock, True)
            yield

    def facts(self, training: Training) -> dict:
        """Return the number of epochs of a training that has ended, and its pseudo Dice."""
        return json.loads((self.fold_folder(training) / FACTS).read_text())

    def dice(self, training: Training) -> dict[str, float]:
        """Return nnU-Net's validation Dice of each case, the mean over its classes."""
        summary = json.loads((self.fold_folder(training) / SUMMARY).read_text())
        return {
            Path(case["reference_file"]).name.removesuffix(".nii.gz"): mean(m["Dice"] for m in case["metrics"].values())
            for case in summary["metric_per_case"]
        }
