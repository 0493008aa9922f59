"""Two tiny datasets in nnU-Net's raw layout, and a way to run the real commands on them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.nnunet.environment import trainers_folder

SHAPE = (6, 34, 30)
TEST_TRAINERS = Path(__file__).parents[1] / "trainers_for_tests"


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
            # two of pytest's workers share the machine: threads that wait should not spin
            "OMP_WAIT_POLICY": "passive",
            "nnUNet_def_n_proc": "1",
            "nnUNet_n_proc_DA": "1",
            "nnUNet_npp": "1",
            "nnUNet_nps": "1",
            "SAM2_3dMed_weights": str(root / "weights"),
        }
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (root / name).mkdir(exist_ok=True)

    def run(self, *command: str, status: int = 0, cwd: Path | None = None, **environment: str) -> str:
        """Runs a console script of this Python's environment and returns what it printed."""
        script = Path(sys.executable).parent / command[0]
        # a file, not a pipe: the data loaders of a trainer that was killed live on and would keep a pipe open
        log = self.root / "output.txt"
        with log.open("w") as output:
            process = subprocess.Popen(
                [str(script), *command[1:]],
                env={**self.environment, **environment},
                cwd=cwd or self.root,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            returned = process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        printed = log.read_text()
        assert returned == status, f"{' '.join(command)}\n{printed[-4000:]}"
        return printed

    def results(self, dataset: str, trainer: str, configuration: str = "3d") -> Path:
        return self.root / "nnUNet_results" / dataset / f"{trainer}__nnUNetPlans__{configuration}"


DATASET = "Dataset301_Tiny"
TRAIN = ("nnUNetv2_train", "301", "3d", "0", "-device", "cpu", "-tr")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("nnunet"))


@pytest.fixture(scope="session")
def preprocessed_once(tmp_path_factory) -> Path:
    workplace = Workplace(tmp_path_factory.mktemp("preprocessed_once"))
    write_dataset(workplace.root / "nnUNet_raw" / DATASET, 1, {"background": 0, "outer": 1, "inner": 2}, {})
    workplace.run("nnUNetv2_plan_and_preprocess", "-d", "301", "-c", "3d_fullres", "-npfp", "1", "-np", "1")
    return workplace.root


@pytest.fixture(scope="module")
def preprocessed(preprocessed_once, tmp_path_factory) -> Workplace:
    """nnU-Net's own planning and preprocessing done; a copy for each module."""
    root = tmp_path_factory.mktemp("preprocessed")
    shutil.copytree(preprocessed_once, root, dirs_exist_ok=True)
    return Workplace(root)


@pytest.fixture(scope="module")
def planned(preprocessed) -> Workplace:
    printed = preprocessed.run(
        "sam2_3dmed", "plan", "-d", "301", "--image-size", "64", "--slices", "4", "--batch-size", "2"
    )
    assert "at 64 pixels" in printed
    return preprocessed


def write_dataset(folder: Path, channels: int, labels: dict, extra: dict, ignore: int | None = None) -> None:
    """Ten training cases and one test case of ``SHAPE`` voxels at 3 x 1 x 1 mm with two nested boxes."""
    rng = np.random.default_rng(0)
    for sub in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / sub).mkdir(parents=True)
    for index in range(11):
        label = np.zeros(SHAPE, dtype=np.uint8)
        y, x = rng.integers(4, 10, size=2)
        label[1:6, y : y + 16, x : x + 14] = 1
        label[2:4, y + 4 : y + 10, x + 4 : x + 9] = 2
        if ignore is not None:
            label[:, :3] = ignore
        split, name = ("Tr", f"case_{index:02d}") if index < 10 else ("Ts", "test_00")
        for channel in range(channels):
            image = rng.normal(size=label.shape) + 2.0 * label * (label < 3) * (1 - 2 * channel)
            write_volume(image.astype(np.float32), folder / f"images{split}" / f"{name}_{channel:04d}.nii.gz")
        if split == "Tr":
            write_volume(label, folder / "labelsTr" / f"{name}.nii.gz")
    dataset = {
        "channel_names": {str(c): "MRI" for c in range(channels)},
        "labels": labels,
        "numTraining": 10,
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
