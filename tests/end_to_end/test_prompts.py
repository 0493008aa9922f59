"""A model that takes prompts: trained and validated with nnU-Net's commands, prompted and measured with ours."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.images.orientation import SUPERIOR
from tests.end_to_end.conftest import DATASET, SHAPE, WALK, read_volume

TRAINER = "SAM2_PromptTrainer_noPretrain_tuned"


@pytest.fixture(scope="module")
def prompted(planned):
    """One iteration on stacks of eight slices, of which the volumes have six; then validated.

    In float32: a hardly trained network is undecided in many voxels, where rounding to bfloat16, which differs between
    processes, would decide.
    """
    plans = planned.root / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json"
    content = json.loads(plans.read_text())
    content["configurations"]["3d_slices8"]["architecture"]["arch_kwargs"]["precision"] = "float32"
    plans.write_text(json.dumps(content))
    planned.run(*WALK, "train", "301", f"3d_slices8:{TRAINER}")
    planned.run("nnUNetv2_train", "301", "3d_slices8", "0", "-tr", TRAINER, "-device", "cpu", "--val")
    return planned


@pytest.fixture(scope="module")
def fold(prompted) -> Path:
    return prompted.results(DATASET, TRAINER, "3d_slices8") / "fold_0"


def test_validation_is_nnunets_and_says_that_it_was_prompted(prompted, fold):
    log = "".join(path.read_text() for path in fold.glob("training_log*.txt"))
    assert "train_loss terms {'pixels':" in log and "Pseudo dice" in log
    assert "Validation with prompts: ground truth box on the middle slice of each object" in log
    # noted before the training, and again by --val
    assert log.count("Slices of the training cases lie along the patient's axis inferior-superior.") >= 2
    checkpoint = torch.load(fold / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    assert checkpoint["init_args"]["prompted"]["shown_as"]["normals"] == (SUPERIOR,)
    splits = json.loads((prompted.root / "nnUNet_preprocessed" / DATASET / "splits_final.json").read_text())
    assert checkpoint["init_args"]["trained_on"] == {DATASET: sorted(splits[0]["train"])}
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == 2 and set(summary["mean"]) == {"1", "2"}
    masks = [read_volume(path) for path in sorted((fold / "validation").glob("*.nii.gz"))]
    assert all(mask.shape == SHAPE and np.isin(mask, [0, 1, 2]).all() for mask in masks)


def test_nnunets_prediction_points_to_segment(prompted, tmp_path):
    images = str(prompted.root / "nnUNet_raw" / DATASET / "imagesTs")
    said = prompted.run(
        *("nnUNetv2_predict", "-d", "301", "-c", "3d_slices8", "-tr", TRAINER, "-f", "0", "-device", "cpu"),
        *("-i", images, "-o", str(tmp_path / "out"), "-npp", "1", "-nps", "1"),
        status=1,
    )
    assert "nnUNetv2_predict has no prompts: use `sam2_3dmed segment" in said


def test_segment_takes_the_checkpoint(prompted, fold, tmp_path):
    image = prompted.root / "nnUNet_raw" / DATASET / "imagesTs" / "test_00_0000.nii.gz"
    checkpoint = str(fold / "checkpoint_final.pth")
    printed = prompted.run(
        *("sam2_3dmed", "segment", str(image), "-o", str(tmp_path / "a.nii.gz"), "--model", checkpoint),
        *("--box", "3,6,6:3,20,20", "-device", "cpu", "--no-preview"),
    )
    intensities = read_volume(image)
    mean, deviation = intensities.mean(), intensities.std()
    shown = re.search(r"shown from (\S+) to (\S+)", printed)
    assert shown is not None
    # nnU-Net's z-scores
    assert [float(end) for end in shown.groups()] == pytest.approx([mean - 3 * deviation, mean + 3 * deviation], 1e-4)
    assert read_volume(tmp_path / "a.nii.gz").shape == SHAPE


def test_benchmark_and_comparison(prompted, fold, tmp_path):
    out = tmp_path / "prompts"
    printed = prompted.run(
        *("sam2_3dmed", "prompt-benchmark", "-d", "301", "-f", "0", "-o", str(out), "-device", "cpu"),
        *("--model", str(fold / "checkpoint_final.pth"), "--protocols", "box", "1_mask", "--precision", "float32"),
    )
    assert "# Prompts on Dataset301_Tiny" in printed and "**Not comparable**" in printed
    # these are validation cases of the fold
    assert json.loads((out / "prompt_benchmark.json").read_text())["warnings"] == []
    rows = list(csv.DictReader((out / "per_case.csv").read_text().splitlines()))
    assert {row["class"] for row in rows} == {"outer", "inner"}
    # the validation prompted the same boxes of the same cases
    masks = sorted((fold / "validation").glob("*.nii.gz"))
    assert len(masks) == 2
    for mask in masks:
        assert np.mean(read_volume(out / "box" / mask.name) == read_volume(mask)) > 0.98
    compared = prompted.run(
        *("sam2_3dmed", "compare", "-d", "301", "-o", str(tmp_path / "c"), "--processes", "1"),
        *("-m", f"box={out / 'box'}", f"mask={out / '1_mask'}"),
    )
    assert "box was prompted from the ground truth (box on the middle slice)" in compared
