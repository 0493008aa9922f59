"""Preparation of a fine-tuning: only new cases are preprocessed, and nothing after a mistake."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nnunetv2_sam2_3dmed.plans.planner import PlanOptions, add_configurations

from nnunetv2_sam2_3dmed.annotation import finetuning, preprocessing
from nnunetv2_sam2_3dmed.annotation.finetuning import FinetuningRun
from nnunetv2_sam2_3dmed.annotation.preprocessing import FILES
from nnunetv2_sam2_3dmed.annotation.raw_dataset import RawDataset, open_dataset
from nnunetv2_sam2_3dmed.annotation.record import LOCK, Annotation, locked, voxels_sha256, write_record
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from nnunetv2_sam2_3dmed.nnunet.environment import trainers_folder
from nnunetv2_sam2_3dmed.prompt_training.finetuning import Finetuning
from tests.annotation.conftest import DATASET, change_dataset, read, write
from tests.interactive.reference import phantom
from tests.plans.test_planner import make_plans

FOLDS = [{"train": ["expert_02"], "val": ["expert_01"]}, {"train": ["expert_01"], "val": ["expert_02"]}]
CASES = "nnUNetPlans_3d_fullres"
RESAMPLING = {
    "data": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    "seg": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
}


@pytest.fixture
def dataset(folders) -> RawDataset:
    """With labels that can be planned: none is left out."""
    change_dataset(folders, {"labels": {"background": 0, "organ": 1, "lesion": 2, "ignore": 3}})
    return open_dataset("301")


@pytest.fixture
def plans(dataset) -> dict:
    made = make_plans(normalization="ZScoreNormalization")
    made.update(
        dataset_name=DATASET,
        transpose_forward=[0, 1, 2],
        image_reader_writer="SimpleITKIO",
        foreground_intensity_properties_per_channel={"0": {}},
    )
    made["configurations"]["3d_fullres"].update(
        preprocessor_name="DefaultPreprocessor",
        spacing=[3.0, 0.8, 0.5],
        use_mask_for_norm=[False],
        **{f"resampling_fn_{kind}": "resample_data_or_seg_to_shape" for kind in RESAMPLING},
        **{f"resampling_fn_{kind}_kwargs": arguments for kind, arguments in RESAMPLING.items()},
    )
    content = json.loads(dataset.json_file.read_text())
    add_configurations(made, content, PlanOptions(image_size=64, slices=4, patch_size=(24, 20)))
    return made


@pytest.fixture
def run(dataset, plans, folders, promptable_file, monkeypatch) -> FinetuningRun:
    """Two experts' cases that nnU-Net has preprocessed, and one that was taken since."""
    monkeypatch.setenv("nnUNet_extTrainer", trainers_folder())
    write(dataset.image("new_1"), phantom())
    correct(dataset, phantom() > 600)
    done = folders / "nnUNet_preprocessed" / DATASET
    (done / CASES).mkdir(parents=True)
    for case in ("expert_01", "expert_02"):
        for ending in FILES:
            (done / CASES / f"{case}{ending}").touch()
    (done / LOCK).touch()
    for name, content in (
        ("nnUNetPlans", plans),
        ("dataset", json.loads(dataset.json_file.read_text())),
        ("splits_final", FOLDS),
    ):
        (done / f"{name}.json").write_text(json.dumps(content))
    os.link(promptable_file, folders / "model.pth")
    return FinetuningRun(dataset, "3d_slices8", 0)


def correct(dataset, mask: np.ndarray) -> None:
    """As ``take`` leaves a corrected mask of new_1."""
    write(dataset.label("new_1"), mask.astype(np.uint8))
    row = Annotation(
        *("new_1", "corrected", "r", "id", "m", "abc", "", "2026-01-01", "0.2", "0.9", voxels_sha256(mask))
    )
    write_record(dataset.folder, {"new_1": row})


def ended(fold: Path, model: Path) -> None:
    """A fine-tuning in the folder of a fold, that led to ``model``."""
    (fold / "validation").mkdir(parents=True, exist_ok=True)
    (fold / "validation" / "summary.json").touch()
    model.rename(fold / "checkpoint_final.pth")


def test_made_ready(run, dataset, folders):
    done, model = folders / "nnUNet_preprocessed" / DATASET, folders / "model.pth"
    splits = (done / "splits_final.json").read_bytes()
    said = []
    point = run.prepare(str(model), 6, progress=said.append)
    assert (point.checkpoint, point.peak_lr, point.epochs) == (str(model), 2e-4, 6) and run.begun() == point
    assert point.cases == ["new_1"] and (done / "splits_final.json").read_bytes() == splits
    assert said == ["preprocessed 1/1 new_1"]
    sizes = {file.name: file.stat().st_size for file in (done / CASES).iterdir()}
    assert {name for name, size in sizes.items() if size} == {f"new_1{ending}" for ending in FILES}
    assert len(sizes) == 9 and sum(file.is_dir() for file in done.iterdir()) == 2  # no other file, no other folder
    np.testing.assert_array_equal(read(done / "gt_segmentations" / "new_1.nii.gz"), read(dataset.label("new_1")))
    assert json.loads((done / "dataset.json").read_text())["numTraining"] == 3

    # the next round: nothing is new, and the last checkpoint moves with its folder
    fold = run._folder(json.loads((done / "nnUNetPlans.json").read_text()))
    ended(fold, model)
    second = run.prepare(None, 15, progress=said.append)
    assert second.checkpoint == str(fold.with_name("round_1_fold_0") / "checkpoint_final.pth") and second.epochs == 15
    assert sha256_of(fold.with_name("round_1_fold_0") / "checkpoint_final.pth") == second.sha256
    assert Finetuning.read(fold.with_name("round_1_fold_0")) == point
    assert said[1:] == [f"the previous round is now {fold.with_name('round_1_fold_0')}"]
    with pytest.raises(UserError, match="has not ended, or was not validated: add --c"):
        run.prepare(None, 15)


def test_a_case_of_a_subject_that_the_fold_validates_is_left_out(run, folders):
    """As `sam2_3dmed splits --group-by` draws folds after a round."""
    file = folders / "nnUNet_preprocessed" / DATASET / "splits_final.json"
    folds = json.loads(file.read_text())
    folds[1 - run.fold]["train"].append("new_1")
    file.write_text(json.dumps(folds))
    said = []
    assert run.prepare(str(folders / "model.pth"), 6, progress=said.append).cases == []
    assert "cases from rounds that splits_final.json leaves out of fold 0 are not trained on: new_1" in said
    shutil.rmtree(folders / "nnUNet_results")
    folds[run.fold]["train"].append("new_1")
    file.write_text(json.dumps(folds))
    assert run.prepare(str(folders / "model.pth"), 6).cases == ["new_1"]


def test_only_another_label_is_preprocessed_again(run, dataset, folders):
    model, said = str(folders / "model.pth"), []
    into = folders / "nnUNet_preprocessed" / DATASET / CASES

    def prepared() -> list[str]:
        said.clear()
        shutil.rmtree(folders / "nnUNet_results", ignore_errors=True)
        run.prepare(model, 6, progress=said.append)
        return said

    assert prepared() == ["preprocessed 1/1 new_1"]
    later = dataset.label("new_1").stat().st_mtime + 100
    os.utime(dataset.label("new_1"), (later, later))  # as after a copy
    assert prepared() == []
    (into / "new_1_seg.b2nd").unlink()
    assert prepared() == ["preprocessed 1/1 new_1"]
    correct(dataset, phantom() > 800)
    os.utime(dataset.label("new_1"), (1, 1))
    assert prepared() == ["preprocessed 1/1 new_1"]
    np.testing.assert_array_equal(read(into.parent / "gt_segmentations" / "new_1.nii.gz"), phantom() > 800)


def test_killed_while_files_are_replaced(run, dataset, folders, monkeypatch):
    model = str(folders / "model.pth")
    into = folders / "nnUNet_preprocessed" / DATASET / CASES

    def killed_at_labels(source, target):
        if str(target).endswith("_seg.b2nd"):
            raise KeyboardInterrupt
        os.replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(preprocessing, "os", SimpleNamespace(replace=killed_at_labels))
        with pytest.raises(KeyboardInterrupt):
            run.prepare(model, 6)
    assert (into / "new_1.b2nd").is_file() and not (into / "new_1.pkl").exists()
    said = []
    run.prepare(model, 6, progress=said.append)
    assert said == ["preprocessed 1/1 new_1"] and (into / "new_1.pkl").is_file()


def test_folds_are_drawn_of_the_experts_before_anything_new_is_there(run, dataset, folders, monkeypatch):
    done = folders / "nnUNet_preprocessed" / DATASET
    (done / "splits_final.json").unlink()
    experts = [f"expert_{number:02d}" for number in range(1, 7)]
    for case in experts:
        write(dataset.image(case), phantom())
        write(dataset.label(case), (phantom() > 700).astype(np.uint8))
        for ending in FILES:
            (done / CASES / f"{case}{ending}").touch()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning, "preprocess_new", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.prepare(str(folders / "model.pth"), 6)
    folds = json.loads((done / "splits_final.json").read_text())
    assert len(folds) == 5 and sorted(case for fold in folds for case in fold["val"]) == experts


def test_a_model_that_knows_the_validation_cases(run, folders):
    file = folders / "known.pth"
    content = torch.load(folders / "model.pth", weights_only=False)
    content["init_args"] |= {"plans": {"plans_name": "p", "dataset_name": DATASET}, "fold": 1}
    torch.save(content, file)
    with pytest.raises(
        UserError,
        match=r"may have been trained on the validation cases \(1 of these 1 cases \(expert_01\).*--seen-validation",
    ):
        run.prepare(str(file), 6)
    assert "expert_01" in run.prepare(str(file), 6, seen_validation=True).seen_validation

    # a round on the same fold later, it still knows them
    content["init_args"] |= {"fold": 0, "finetuned": vars(run.begun())}
    torch.save(content, file)
    shutil.rmtree(folders / "nnUNet_results")
    with pytest.raises(UserError, match="may have been trained on the validation cases"):
        run.prepare(str(file), 6)


def test_one_at_a_time(run, folders):
    with (
        locked(folders / "nnUNet_preprocessed" / DATASET),
        pytest.raises(UserError, match="another `sam2_3dmed annotate` is changing"),
    ):
        run.prepare(str(folders / "model.pth"), 6)


def nothing_taken(run, folders):
    write_record(run.dataset.folder, {})


def image_gone(run, folders):
    run.dataset.image("new_1").unlink()


def validated_against(run, folders):
    file = folders / "nnUNet_preprocessed" / DATASET / "splits_final.json"
    file.write_text(json.dumps([{"train": ["expert_01"], "val": ["new_1"]}]))


def no_plans(run, folders):
    (folders / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json").unlink()


def label_edited(run, folders):
    write(run.dataset.label("new_1"), (phantom() > 500).astype(np.uint8))


def image_of_another_size(run, folders):
    write(run.dataset.image("new_1"), phantom()[1:])


def expert_of_another_size(run, folders):
    write(run.dataset.image("expert_01"), phantom()[1:])


def expert_not_preprocessed(run, folders):
    (folders / "nnUNet_preprocessed" / DATASET / CASES / "expert_02.pkl").unlink()


def older_nnunet(run, folders):
    (folders / "nnUNet_preprocessed" / DATASET / CASES / "expert_02.npz").touch()


def other_slices(run, folders):
    return replace(run, configuration="3d")


def other_fold(run, folders):
    return replace(run, fold=2)


def other_trainer(run, folders):
    return replace(run, trainer="SAM2_PromptTrainer")


def trainer_with_a_length(run, folders):
    return replace(run, trainer="SAM2_PromptTrainer_finetune_20epochs")


def unknown_trainer(run, folders):
    return replace(run, trainer="SAM2_PromptTrainer_fine")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nothing_taken, "run `sam2_3dmed annotate take` first"),
        (image_gone, "but annotations.csv has the case new_1"),
        (validated_against, "fold 0 in .* validates against new_1"),
        (label_edited, "new_1.nii.gz is not the label that annotations.csv records"),
        (image_of_another_size, "new_1 cannot be prompted"),
        (expert_of_another_size, "expert_01 cannot be prompted"),
        (expert_not_preprocessed, "expert_02.pkl, but the fold has the case expert_02"),
        (older_nnunet, "holds .npz files of an older nnU-Net"),
        (no_plans, "run `nnUNetv2_plan_and_preprocess"),
        (other_slices, "use the configuration `3d_slices8`"),
        (other_fold, "the fold is 2, but must be one from 0 to 1"),
        (other_trainer, "takes no checkpoint to start from: leave -tr out"),
        (trainer_with_a_length, "_20epochs has a length of its own, .* give --epochs"),
        (unknown_trainer, "the trainer is 'SAM2_PromptTrainer_fine"),
    ],
)
def test_mistakes_are_said_before_anything_is_changed(run, folders, spoil, message):
    changed = spoil(run, folders) or run
    before = {path: path.stat().st_mtime_ns for path in folders.rglob("*")}
    with pytest.raises(UserError, match=message):
        changed.prepare(str(folders / "model.pth"), 6)
    assert {path: path.stat().st_mtime_ns for path in folders.rglob("*")} == before


def test_nothing_to_go_on_with(run):
    with pytest.raises(UserError, match="start it with `sam2_3dmed annotate finetune`"):
        run.begun()
