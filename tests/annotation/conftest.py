"""A dataset in nnU-Net's raw folder, and images beside it that nobody has labelled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.annotation.raw_dataset import RawDataset, open_dataset
from tests.interactive.reference import phantom

DATASET = "Dataset301_Tiny"
SHAPE = (7, 40, 48)  # of the phantom
MADE_BY = {"dataset": DATASET, "file_ending": ".nii.gz", "model": "/m.pt", "model_sha256": "abc"}


def write(path: Path, array: np.ndarray, origin: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 0.8, 3.0))
    image.SetOrigin((origin, 0.0, 0.0))
    image.SetDirection((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    sitk.WriteImage(image, str(path))
    return path


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def machine(number: int) -> np.ndarray:
    """The model's mask of a case: an organ, whose width depends on the case, and a lesion."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[2:5, 10:20, 10 : 20 + number] = 1
    mask[3, 12:14, 12:14] = 3
    return mask


def make_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's folders in ``root``, with a dataset of two cases."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (root / name).mkdir()
        monkeypatch.setenv(name, str(root / name))
    raw = root / "nnUNet_raw" / DATASET
    for case in ("expert_01", "expert_02"):
        write(raw / "imagesTr" / f"{case}_0000.nii.gz", phantom())
        write(raw / "labelsTr" / f"{case}.nii.gz", (phantom() > 700).astype(np.uint8))
    change_dataset(root, {})
    return root


def make_images(root: Path) -> Path:
    """Two images without labels in ``root``."""
    for number in (1, 2):
        write(root / "images" / f"new_{number}_0000.nii.gz", phantom() + number)
    return root / "images"


def change_dataset(folders: Path, changes: dict) -> None:
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "organ": 1, "lesion": 3, "ignore": 4},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        **changes,
    }
    (folders / "nnUNet_raw" / DATASET / "dataset.json").write_text(json.dumps(content))


@pytest.fixture
def folders(tmp_path, monkeypatch) -> Path:
    return make_folders(tmp_path, monkeypatch)


@pytest.fixture
def dataset(folders) -> RawDataset:
    return open_dataset("301")


@pytest.fixture
def images(folders) -> Path:
    return make_images(folders)
