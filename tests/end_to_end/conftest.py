"""Two tiny datasets in nnU-Net's raw layout, the real commands on them, and what several tests begin with."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.nnunet.environment import trainers_folder

SHAPE = (6, 34, 30)
TEST_TRAINERS = Path(__file__).parents[1] / "trainers_for_tests"
WORKERS = {"nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "1", "nnUNet_npp": "1", "nnUNet_nps": "1"}


class Workplace:
    """nnU-Net's folders inside a temporary one, and the commands run there."""

    def __init__(self, root: Path):
        self.root = root
        self.environment = {
            **os.environ,
            # torchrun looks for the console script itself
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            **{name: str(root / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")},
            "nnUNet_extTrainer": os.pathsep.join([trainers_folder(), str(TEST_TRAINERS)]),
            **WORKERS,
            "SAM2_3dMed_weights": str(root / "weights"),
        }
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (root / name).mkdir(exist_ok=True)

    def run(self, *command: str, status: int = 0, cwd: Path | None = None, **environment: str) -> str:
        """Run a console script of this Python's environment, in a process forked from one that has imported it.

        Returns:
            What it printed.
        """
        return self._run(_forked, command, status, cwd, environment)

    def start(self, *command: str, status: int = 0, cwd: Path | None = None, **environment: str) -> str:
        """Run a console script as a user does: in a new process, whose workers are spawned."""
        return self._run(_started, command, status, cwd, environment)

    def _run(self, launch, command, status, cwd, environment) -> str:
        words = [str(Path(sys.executable).parent / command[0]), *command[1:]]
        # a file, not a pipe: the data loaders of a trainer that was killed live on and would keep a pipe open
        log = self.root / "output.txt"
        returned = launch(words, {**self.environment, **environment}, cwd or self.root, log)
        printed = log.read_text()
        assert returned == status, f"{' '.join(command)}\n{printed[-4000:]}"
        return printed

    def results(self, dataset: str, trainer: str, configuration: str = "3d") -> Path:
        return self.root / "nnUNet_results" / dataset / f"{trainer}__nnUNetPlans__{configuration}"


def _started(words: list[str], environment: dict[str, str], folder: Path, log: Path) -> int:
    with log.open("w") as output:
        process = subprocess.Popen(
            words, env=environment, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        returned = process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return returned


def _forked(words: list[str], environment: dict[str, str], folder: Path, log: Path) -> int:
    request = {"command": words, "environment": environment, "folder": str(folder), "log": str(log)}
    server = _command_server()
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


@functools.cache
def _command_server() -> subprocess.Popen:
    """The server of this process, which ends with it."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.end_to_end.command_server"],
        env={**os.environ, **WORKERS},
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


DATASET = "Dataset301_Tiny"
TRAIN = ("nnUNetv2_train", "301", "3d", "0", "-device", "cpu", "-tr")
PLAN = ("sam2_3dmed", "plan", "--image-size", "64", "--slices", "4", "--batch-size", "2", "-d")
WALK = ("python", str(Path(__file__).with_name("walk_trainers.py")))
TRAINER = "TinyTrainer_tuned"  # of the training that is interrupted


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Workplace], None], start: Path | None = None):
    """The root of a workplace that is made once for all of pytest's processes.

    Args:
        factory: pytest's.
        name: of the workplace.
        make: runs the commands in it.
        start: the root of the workplace that it begins with a copy of.
    """
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # the folder that pytest-xdist's processes have in common
    root = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            partial = Path(tempfile.mkdtemp(dir=shared))
            make(copied(start, partial) if start else Workplace(partial))
            partial.rename(root)
    return root


def copied(root: Path, target: Path) -> Workplace:
    """A workplace of its own with what lies in another one; checkpoints, which are never changed in place, linked."""

    def copy(source: str, to: str) -> None:
        (os.link if source.endswith(".pth") else shutil.copyfile)(source, to)

    shutil.copytree(root, target, dirs_exist_ok=True, copy_function=copy)
    return Workplace(target)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("nnunet"))


@pytest.fixture(scope="session")
def preprocessed_once(tmp_path_factory) -> Path:
    def make(workplace: Workplace) -> None:
        write_dataset(workplace.root / "nnUNet_raw" / DATASET, 1, {"background": 0, "outer": 1, "inner": 2}, {})
        workplace.start("nnUNetv2_plan_and_preprocess", "-d", "301", "-c", "3d_fullres", "-npfp", "1", "-np", "1")

    return made_once(tmp_path_factory, "preprocessed_once", make)


@pytest.fixture(scope="session")
def planned_once(preprocessed_once, tmp_path_factory) -> Path:
    def make(workplace: Workplace) -> None:
        assert "at 64 pixels" in workplace.start(*PLAN, "301")

    return made_once(tmp_path_factory, "planned_once", make, preprocessed_once)


@pytest.fixture(scope="session")
def interrupted_once(planned_once, tmp_path_factory) -> Path:
    def make(workplace: Workplace) -> None:
        workplace.start(*TRAIN, TRAINER, status=9, TINY_TRAINER_DIES_AFTER_EPOCH="1")
        fold = workplace.results(DATASET, TRAINER) / "fold_0"
        assert (fold / "checkpoint_latest.pth").is_file() and not (fold / "checkpoint_final.pth").exists()

    return made_once(tmp_path_factory, "interrupted_once", make, planned_once)


@pytest.fixture(scope="module")
def preprocessed(preprocessed_once, tmp_path_factory) -> Workplace:
    """nnU-Net's own planning and preprocessing done; a copy for each module, as of all that follow."""
    return copied(preprocessed_once, tmp_path_factory.mktemp("preprocessed"))


@pytest.fixture(scope="module")
def planned(planned_once, tmp_path_factory) -> Workplace:
    """The configurations of SAM2-3dMed planned as well."""
    return copied(planned_once, tmp_path_factory.mktemp("planned"))


@pytest.fixture(scope="module")
def interrupted(interrupted_once, tmp_path_factory) -> Workplace:
    """A training of two epochs killed after the first, of which there are checkpoints."""
    return copied(interrupted_once, tmp_path_factory.mktemp("interrupted"))


def write_dataset(
    folder: Path, channels: int, labels: dict, extra: dict, ignore: int | None = None, cases: int = 10
) -> None:
    """Training cases and one test case of ``SHAPE`` voxels at 3 x 1 x 1 mm with two nested boxes."""
    rng = np.random.default_rng(0)
    for sub in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / sub).mkdir(parents=True)
    for index in range(cases + 1):
        label = np.zeros(SHAPE, dtype=np.uint8)
        y, x = rng.integers(4, 10, size=2)
        label[1:6, y : y + 16, x : x + 14] = 1
        label[2:4, y + 4 : y + 10, x + 4 : x + 9] = 2
        if ignore is not None:
            label[:, :3] = ignore
        split, name = ("Tr", f"case_{index:02d}") if index < cases else ("Ts", "test_00")
        for channel in range(channels):
            image = rng.normal(size=label.shape) + 2.0 * label * (label < 3) * (1 - 2 * channel)
            write_volume(image.astype(np.float32), folder / f"images{split}" / f"{name}_{channel:04d}.nii.gz")
        if split == "Tr":
            write_volume(label, folder / "labelsTr" / f"{name}.nii.gz")
    dataset = {
        "channel_names": {str(c): "MRI" for c in range(channels)},
        "labels": labels,
        "numTraining": cases,
        "file_ending": ".nii.gz",
        **extra,
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))


def write_volume(array: np.ndarray, path: Path) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 3.0))
    sitk.WriteImage(image, str(path))


def read_volume(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
