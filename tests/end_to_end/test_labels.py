"""Commands from planning to the comparison, from random weights."""

import json

import numpy as np
import pytest
import torch

from tests.end_to_end.conftest import DATASET, SHAPE, TRAIN, TRAINER, read_volume


def test_before_planning_the_trainer_says_what_to_do(preprocessed):
    out = preprocessed.run(*TRAIN, TRAINER, status=1)
    assert "the configuration '3d' is not in nnUNetPlans of Dataset301_Tiny" in out
    assert "sam2_3dmed plan -d Dataset301_Tiny" in out
    assert not preprocessed.results(DATASET, TRAINER).exists()


@pytest.fixture(scope="module")
def trained(interrupted):
    """Killed after the first of two epochs, then continued, validated with probabilities."""
    out = interrupted.start(*TRAIN, TRAINER, "--c", "--npz")
    assert "Epoch 1" in out and "Epoch 0" not in out
    return interrupted


def test_training_is_logged_plotted_and_validated(trained):
    fold = trained.results(DATASET, TRAINER) / "fold_0"
    log = "".join(path.read_text() for path in fold.glob("training_log*.txt"))
    for part in ("'segmentation':", "'srpp':", "'boundary':", "Pseudo dice"):
        assert log.count(part) >= 2, part
    checkpoint = torch.load(fold / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    for key in ("train_loss_segmentation", "train_loss_srpp", "train_loss_boundary", "mean_fg_dice"):
        assert len(checkpoint["logging"][key]) == 2
    assert (fold / "progress.png").stat().st_size > 10_000
    assert not list(fold.glob("*.partial"))
    cases = json.loads((fold / "validation" / "summary.json").read_text())["metric_per_case"]
    assert len(cases) == 2
    probabilities = np.load(next((fold / "validation").glob("*.npz")))["probabilities"]
    assert probabilities.shape == (3, *SHAPE)


def test_predictions_are_the_same_by_either_command_and_from_any_folder(trained, tmp_path):
    images = str(trained.root / "nnUNet_raw" / DATASET / "imagesTs")
    predict = ("-i", images, "-device", "cpu", "-f", "0", "-npp", "1", "-nps", "1")
    trained.start("nnUNetv2_predict", *("-d", "301", "-c", "3d", "-tr", TRAINER, "-o", str(tmp_path / "a")), *predict)
    model = str(trained.results(DATASET, TRAINER))
    trained.run("nnUNetv2_predict_from_modelfolder", "-m", model, "-o", str(tmp_path / "b"), *predict, cwd=tmp_path)
    first, second = (read_volume(tmp_path / name / "test_00.nii.gz") for name in "ab")
    assert first.shape == SHAPE and np.array_equal(first, second)
    for name, options in (("c", ()), ("d", ("--windows", "1"))):
        trained.run("sam2_3dmed", "predict", "-m", model, "-o", str(tmp_path / name), *options, *predict, cwd=tmp_path)
    batched, single = (read_volume(tmp_path / name / "test_00.nii.gz") for name in "cd")
    # where the CPU has bfloat16, larger batches are rounded differently
    assert batched.shape == single.shape == SHAPE and np.mean(batched == first) > 0.98


def test_compared_with_nnunet(trained):
    trained.run("nnUNetv2_train", "301", "3d_fullres", "0", "-device", "cpu", "-tr", "TinyTrainer_nnUNet")
    baseline, ours = "TinyTrainer_nnUNet__nnUNetPlans__3d_fullres", f"{TRAINER}__nnUNetPlans__3d"
    table = trained.run("sam2_3dmed", "compare", "-d", "301", "-f", "0", "-m", baseline, ours)
    assert baseline in table and ours in table and "NSD" in table
    summary = trained.results(DATASET, TRAINER) / "fold_0" / "validation" / "summary.json"
    nnunet = json.loads(summary.read_text())["mean"]
    output = trained.root / "nnUNet_results" / DATASET / "comparison_fold_0"
    per_case = (output / "per_case.csv").read_text().splitlines()
    columns = per_case[0].split(",")
    rows = [dict(zip(columns, line.split(","))) for line in per_case[1:]]
    # where no mask is empty, our mean Dice is nnU-Net's own
    for label, name in (("1", "outer"), ("2", "inner")):
        values = [float(r["dice"]) for r in rows if r["method"] == ours and r["class"] == name]
        assert len(values) == 2
        assert np.mean(values) == pytest.approx(nnunet[label]["Dice"], abs=1e-6)


def test_the_plan_survives_nnunet_s_own_planning(trained):
    plans = trained.root / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json"
    before = json.loads(plans.read_text())["configurations"]["3d"]
    trained.run("nnUNetv2_plan_experiment", "-d", "301")
    assert json.loads(plans.read_text())["configurations"]["3d"] == before


def test_the_search_finds_picklable_trainers_from_two_folders(workplace, tmp_path):
    code = (
        "import pickle, sys\n"
        "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find\n"
        "for name in ('SAM2_3dMedTrainer', 'SAM2_3dMedTrainer_noPretrain_tuned_5epochs', 'nnUNetTrainer_2minutes'):\n"
        "    found = find(name)\n"
        "    assert found.__module__.startswith('nnunetv2_sam2_3dmed.training'), found.__module__\n"
        "    assert pickle.loads(pickle.dumps(found)) is found\n"
    )
    (tmp_path / "find_trainers.py").write_text(code)
    for folder in (workplace.root, tmp_path):
        workplace.run("python", str(tmp_path / "find_trainers.py"), cwd=folder)


def test_configurations_that_cannot_work_stop_at_once(trained):
    out = trained.run(*("nnUNetv2_train", "301", "3d_fullres", "0"), "-tr", "SAM2_3dMedTrainer", status=1)
    assert "was planned for PlainConvUNet" in out
