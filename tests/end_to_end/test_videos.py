"""Videos from a folder to a trained model that segments a video, with nnU-Net's commands and ours."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.video.phantoms import write_phantoms
from nnunetv2_sam2_3dmed.video.png_masks import read_png_mask
from tests.end_to_end.conftest import PLAN, SHAPE, WALK, Workplace, read_volume, write_dataset

DATASET, TRAINER = "Dataset303_Endoscopy", "SAM2_PromptTrainer_noPretrain_tuned"
AUTOMATIC = "SAM2_3dMedTrainer_noPretrain_tuned"
FRAMES, SIDE = 10, 40


@pytest.fixture(scope="module")
def trained(workplace) -> Workplace:
    """One iteration on clips of five synthetic videos in colour; then validated."""
    write_phantoms(workplace.root / "endoscopy", "endoscopy", 5, frames=FRAMES, side=SIDE)
    said = workplace.run("sam2_3dmed", "videos", "endoscopy", "-d", "303", "--name", "Endoscopy")
    assert "5 videos of three channels, labels background 0, polyp 1" in said
    workplace.start("nnUNetv2_plan_and_preprocess", "-d", "303", "-c", "3d_fullres", "-npfp", "1", "-np", "1")
    assert "patch [8, 48, 48]" in workplace.run(*PLAN, "303")
    workplace.run(*WALK, "train", "303", f"3d_slices8:{TRAINER}")
    workplace.run("nnUNetv2_train", "303", "3d_slices8", "0", "-tr", TRAINER, "-device", "cpu", "--val")
    return workplace


@pytest.fixture(scope="module")
def fold(trained) -> Path:
    return trained.results(DATASET, TRAINER, "3d_slices8") / "fold_0"


def test_frames_are_neither_resampled_nor_reordered(trained):
    plans = json.loads((trained.root / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json").read_text())
    fullres = plans["configurations"]["3d_fullres"]
    assert plans["transpose_forward"] == [0, 1, 2] and fullres["spacing"] == [1.0, 1.0, 1.0]
    assert fullres["normalization_schemes"] == ["RGBTo01Normalization"] * 3


def test_the_validation_prompts_first_frames(fold):
    log = "".join(path.read_text() for path in fold.glob("training_log*.txt"))
    assert "ground truth box on the first frame of each object, propagated forward" in log
    assert "lie along the patient's axis" not in log
    (mask,) = (fold / "validation").glob("*.nii.gz")
    assert read_volume(mask).shape == (FRAMES, SIDE, SIDE)
    assert json.loads((fold / "validation" / "summary.json").read_text())["metric_per_case"]
    checkpoint = torch.load(fold / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    shown = checkpoint["init_args"]["prompted"]["shown_as"]
    assert shown["colour"] and shown["pictures"] and not shown["normals"]


def test_the_model_segments_a_video(trained, fold, tmp_path):
    """Prompted with a mask: after one iteration the model may see no object in a box."""
    folder, name = trained.root / "endoscopy", "synthetic_endoscopy_001"
    drawn = folder / "masks" / name / "00000.png"
    trained.run(
        *("sam2_3dmed", "segment", str(folder / "videos" / name), "-o", str(tmp_path / "masks"), "-device", "cpu"),
        *("--model", str(fold / "checkpoint_final.pth"), "--no-preview", "--mask", f"{drawn}@0"),
    )
    masks = [read_png_mask(file) for file in sorted((tmp_path / "masks").glob("*.png"))]
    assert len(masks) == FRAMES and all(mask.shape == (SIDE, SIDE) for mask in masks)
    assert np.isin(masks, [0, 1]).all()
    np.testing.assert_array_equal(masks[0], read_png_mask(drawn))


def test_volumes_and_videos_are_trained_together_at_their_rates(trained):
    labels = {"background": 0, "outer": 1, "inner": 2}
    write_dataset(trained.root / "nnUNet_raw" / "Dataset301_Tiny", 1, labels, {}, cases=5)
    trained.run("sam2_3dmed", "merge", "301", "303:3", "-d", "305", "--name", "All")
    trained.start("nnUNetv2_plan_and_preprocess", "-d", "305", "-c", "3d_fullres", "-npfp", "1", "-np", "1")
    trained.run(*PLAN, "305")
    trained.run(*WALK, "train", "305", f"3d_slices8:{TRAINER}", f"3d:{AUTOMATIC}")
    trained.run("nnUNetv2_train", "305", "3d_slices8", "0", "-tr", TRAINER, "-device", "cpu", "--val")
    for trainer, configuration in ((TRAINER, "3d_slices8"), (AUTOMATIC, "3d")):
        folder = trained.results("Dataset305_All", trainer, configuration) / "fold_0"
        log = "".join(path.read_text() for path in folder.glob("training_log*.txt"))
        # four cases of each in fold 0: 4 at rate 1 and 4 at rate 3
        assert "25.0% of the batches' cases are of Dataset301_Tiny: 4 at rate 1" in log
        assert "75.0% of the batches' cases are of Dataset303_Endoscopy: 4 at rate 3" in log
    folder = trained.results("Dataset305_All", TRAINER, "3d_slices8") / "fold_0" / "validation"
    shapes = {file.name.partition("_")[0]: read_volume(file).shape for file in folder.glob("*.nii.gz")}
    assert shapes == {"Tiny": SHAPE, "Endoscopy": (FRAMES, SIDE, SIDE)}
