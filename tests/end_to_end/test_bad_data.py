"""Data that cannot be trained with, through nnU-Net's own command."""

import json
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from tests.end_to_end.conftest import DATASET, TRAIN, TRAINER


@pytest.fixture
def cases(interrupted) -> Path:
    """The folder of preprocessed cases."""
    return interrupted.root / "nnUNet_preprocessed" / DATASET / "nnUNetPlans_3d_fullres"


def change(folder: Path, case: str, image: float | None = None, label: int | None = None) -> None:
    """Give a voxel of each slice of a case another value."""
    dataset = nnUNetDatasetBlosc2(str(folder), [case])
    data, seg, _, properties = dataset.load_case(case)
    data, seg = np.array(data[:]), np.array(seg[:])
    if image is not None:
        data[0, :, 15, 15] = image
    if label is not None:
        seg[0, :, 15, 15] = label
    for file in folder.glob(f"{case}*"):
        file.unlink()
    shape = data.shape
    nnUNetDatasetBlosc2.save_case(data, seg, properties, str(folder / case), chunks=shape, blocks=shape)


def test_nan_voxels_end_a_training_and_leave_its_checkpoint(interrupted, cases):
    fold = interrupted.results(DATASET, TRAINER) / "fold_0"
    before = {file.name: file.read_bytes() for file in fold.glob("*.pth")}
    assert "checkpoint_latest.pth" in before
    split = json.loads((cases.parent / "splits_final.json").read_text())[0]
    for case in split["train"]:  # whichever is drawn
        change(cases, case, image=float("nan"))
    out = interrupted.run(*TRAIN, TRAINER, "--c", status=1)
    assert "UserError: the loss of a training step of Dataset301_Tiny is nan, because the preprocessed image of" in out
    assert any(f"the case {case}" in out for case in split["train"]) and "has NaN or infinite voxels" in out
    assert {file.name: file.read_bytes() for file in fold.glob("*.pth*")} == before


def test_a_stray_label_is_named_by_the_training_and_by_the_planning(interrupted, cases):
    change(cases, "case_03", label=7)
    said = (
        "the segmentation of the case case_03 of Dataset301_Tiny holds the label 7, but dataset.json declares 0, 1, 2"
    )
    assert said in interrupted.run(*TRAIN, TRAINER, status=1)
    assert said in interrupted.run("sam2_3dmed", "plan", "-d", "301", status=2)
