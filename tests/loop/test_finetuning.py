"""What is made ready before nnU-Net trains: only what is new is preprocessed, and nothing after a mistake."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from nnunetv2_sam2_3dmed.plans.planner import PlanOptions, add_configurations

from nnunetv2_sam2_3dmed.commands.env import trainers_folder
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.loop.finetuning import FinetuningRun
from nnunetv2_sam2_3dmed.loop.record import Annotation, write_record
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from nnunetv2_sam2_3dmed.prompting.finetuning import Finetuning
from tests.interactive.reference import phantom
from tests.loop.conftest import DATASET, read, write
from tests.plans.test_planner import make_plans
from tests.prompting.test_trained_model import promptable_checkpoint

FOLDS = [{"train": ["expert_02"], "val": ["expert_01"]}, {"train": ["expert_01"], "val": ["expert_02"]}]
RESAMPLING = {
    "data": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    "seg": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
}


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
def run(dataset, plans, folders, monkeypatch) -> FinetuningRun:
    """Two experts' cases that nnU-Net has preprocessed, and one that was taken since."""
    monkeypatch.setenv("nnUNet_extTrainer", trainers_folder())
    write(dataset.image("new_1"), phantom())
    write(dataset.label("new_1"), (phantom() > 600).astype(np.uint8))
    write_record(
        dataset.folder, {"new_1": Annotation("new_1", "corrected", "r", "m", "abc", "", "2026-01-01", "0.2", "0.9")}
    )
    done = folders / "nnUNet_preprocessed" / DATASET
    (done / "nnUNetPlans_3d_fullres").mkdir(parents=True)
    for name, content in (
        ("nnUNetPlans", plans),
        ("dataset", json.loads(dataset.json_file.read_text())),
        ("splits_final", FOLDS),
    ):
        (done / f"{name}.json").write_text(json.dumps(content))
    promptable_checkpoint(folders / "model.pth")
    return FinetuningRun(dataset, "3d_slices8", 0)


def test_made_ready(run, dataset, folders):
    done, model = folders / "nnUNet_preprocessed" / DATASET, folders / "model.pth"
    said = []
    point = run.prepare(str(model), 6, progress=said.append)
    assert (point.checkpoint, point.peak_lr, point.epochs) == (str(model), 2e-4, 6) and run.begun() == point
    assert said == ["preprocessed 1/1 new_1"]
    there = {file.name for file in (done / "nnUNetPlans_3d_fullres").iterdir()}
    assert there == {"new_1.b2nd", "new_1_seg.b2nd", "new_1.pkl"}  # nothing of the experts' was done again
    np.testing.assert_array_equal(read(done / "gt_segmentations" / "new_1.nii.gz"), read(dataset.label("new_1")))
    assert json.loads((done / "splits_final.json").read_text()) == [
        {"train": ["expert_02", "new_1"], "val": ["expert_01"]},
        {"train": ["expert_01", "new_1"], "val": ["expert_02"]},
    ]
    assert json.loads((done / "dataset.json").read_text())["numTraining"] == 3

    # the next round: nothing is new but what was corrected again, and the last checkpoint moves with its folder
    fold = run._folder(json.loads((done / "nnUNetPlans.json").read_text()))
    model.rename(fold / "checkpoint_final.pth")
    second = run.prepare(None, 15, progress=said.append)
    assert second.checkpoint == str(fold.with_name("round_1_fold_0") / "checkpoint_final.pth") and second.epochs == 15
    assert sha256_of(fold.with_name("round_1_fold_0") / "checkpoint_final.pth") == second.sha256
    assert Finetuning.read(fold.with_name("round_1_fold_0")) == point
    assert said[1:] == [f"the round before is now {fold.with_name('round_1_fold_0')}"]
    with pytest.raises(UserError, match="has not ended: add --continue"):
        run.prepare(None, 15)

    (fold / "finetune.json").unlink()
    fold.rmdir()
    later = dataset.label("new_1").stat().st_mtime + 100
    os.utime(dataset.label("new_1"), (later, later))
    os.utime(done / "nnUNetPlans_3d_fullres" / "new_1.pkl", (later - 1, later - 1))
    assert run.prepare(None, 15, progress=said.append).checkpoint == second.checkpoint
    assert said[-1] == "preprocessed 1/1 new_1"


def nothing_taken(run, folders):
    write_record(run.dataset.folder, {})


def image_gone(run, folders):
    run.dataset.image("new_1").unlink()


def validated_against(run, folders):
    file = folders / "nnUNet_preprocessed" / DATASET / "splits_final.json"
    file.write_text(json.dumps([{"train": ["expert_01"], "val": ["new_1"]}]))


def no_plans(run, folders):
    (folders / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json").unlink()


def other_slices(run, folders):
    return replace(run, configuration="3d")


def other_fold(run, folders):
    return replace(run, fold=2)


def other_trainer(run, folders):
    return replace(run, trainer="SAM2_PromptTrainer")


def unknown_trainer(run, folders):
    return replace(run, trainer="SAM2_PromptTrainer_fine")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nothing_taken, "run `sam2_3dmed loop take` first"),
        (image_gone, "but annotations.csv has the case new_1"),
        (validated_against, "fold 0 validates against new_1"),
        (no_plans, "run `nnUNetv2_plan_and_preprocess"),
        (other_slices, "use the configuration `3d_slices8`"),
        (other_fold, "the fold is 2, but must be one from 0 to 1"),
        (other_trainer, "takes no checkpoint to start from: leave -tr out"),
        (unknown_trainer, "finds no trainer SAM2_PromptTrainer_fine"),
    ],
)
def test_mistakes_are_said_before_anything_is_changed(run, folders, spoil, message):
    changed = spoil(run, folders) or run
    before = {path: path.stat().st_mtime_ns for path in folders.rglob("*")}
    with pytest.raises(UserError, match=message):
        changed.prepare(str(folders / "model.pth"), 6)
    assert {path: path.stat().st_mtime_ns for path in folders.rglob("*")} == before


def test_nothing_to_go_on_with(run):
    with pytest.raises(UserError, match="start it with `sam2_3dmed loop finetune`"):
        run.begun()
