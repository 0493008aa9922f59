"""A round from unlabelled images to a fine-tuned model, through the real commands."""

import csv
import json
import os

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.interactive.trained_model import PROMPTED
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from tests.end_to_end.conftest import DATASET, SHAPE, read_volume, write_volume
from tests.interactive.test_trained_model import promptable_checkpoint

NEW = ("new_1", "new_2", "new_3")
FINETUNE = (
    "sam2_3dmed",
    "annotate",
    "finetune",
    "-d",
    "301",
    "-f",
    "0",
    "-tr",
    "TinyTrainer_finetune",
    "-device",
    "cpu",
)


@pytest.fixture(scope="module")
def ranked(planned):
    """Three images with automatic predictions, ranked by a model of random weights."""
    root = planned.root
    content = promptable_checkpoint(root / "model.pth")
    content["init_args"]["trained_on"] = {"Dataset010_Colon": ["a"]}
    torch.save(content, root / "model.pth")
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:6, 6:22, 6:20] = 1
    for number, case in enumerate(NEW):
        for folder, name in (("images", f"{case}_0000.nii.gz"), ("predictions", f"{case}.nii.gz")):
            (root / folder).mkdir(exist_ok=True)
            array = labels if folder == "predictions" else np.random.default_rng(number).normal(size=SHAPE) + 2 * labels
            write_volume(array if folder == "predictions" else array.astype(np.float32), root / folder / name)
    planned.printed = planned.run(
        *("sam2_3dmed", "annotate", "rank", "-d", "301", "--round", "round_1", "-device", "cpu", "--no-preview"),
        *("--predictions", "predictions", "-i", "images", "--model", "model.pth"),
    )
    return planned


def test_a_round(ranked):
    root = ranked.root
    rows = list(csv.DictReader((root / "round_1" / "ranking.csv").read_text().splitlines()))
    assert {row["case"] for row in rows} == set(NEW) and {row["name"] for row in rows} == {"outer"}
    order = [float(row["case_disagreement"]) for row in rows]
    assert order == sorted(order, reverse=True) and all(0 <= value <= 1 for value in order)

    # one corrected, one confirmed, one left
    (root / "corrected").mkdir()
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[1:6, 6:22, 6:20] = 1
    mask[2:4, 10:16, 10:15] = 2
    write_volume(mask, root / "corrected" / "new_1.nii.gz")
    take = (
        *("sam2_3dmed", "annotate", "take", "-d", "301", "--round", "round_1", "--corrected", "corrected"),
        *("--confirmed", "new_2", "--annotator", "Ada"),
    )
    assert "new_2 had no prompt for inner" in ranked.run(*take, status=2)
    said = ranked.run(*take, "--partial")
    assert "took 2 of 3 cases (0 machine, 1 confirmed, 1 corrected)" in said
    raw, done = root / "nnUNet_raw" / DATASET, root / "nnUNet_preprocessed" / DATASET
    record = list(csv.DictReader((raw / "annotations.csv").read_text().splitlines()))
    assert {(row["case"], row["source"], row["annotator"]) for row in record} == {
        ("new_1", "corrected", "Ada"),
        ("new_2", "confirmed", "Ada"),
    }
    assert {row["model_sha256"] for row in record} == {sha256_of(root / "model.pth")}

    before = {file: file.stat().st_mtime_ns for file in (done / "nnUNetPlans_3d_fullres").iterdir()}
    died = (*FINETUNE, "--model", "model.pth", "--epochs", "2", "-np", "1")
    ranked.run(*died, status=9, TINY_TRAINER_DIES_AFTER_EPOCH="1")
    assert {file: file.stat().st_mtime_ns for file in before} == before
    for case in ("new_1", "new_2"):
        assert (done / "nnUNetPlans_3d_fullres" / f"{case}.b2nd").is_file()
        truth = read_volume(done / "gt_segmentations" / f"{case}.nii.gz")
        np.testing.assert_array_equal(truth, read_volume(raw / "labelsTr" / f"{case}.nii.gz"))
    for fold in json.loads((done / "splits_final.json").read_text()):
        assert not {"new_1", "new_2"} & {*fold["train"], *fold["val"]} and len(fold["val"]) == 2
    assert json.loads((done / "dataset.json").read_text())["numTraining"] == 12
    assert "has not ended, or was not validated: add --c" in ranked.run(*FINETUNE, status=2)

    ranked.run(*FINETUNE, "--c")
    fold = ranked.results(DATASET, "TinyTrainer_finetune", "3d_slices8") / "fold_0"
    log = "".join(file.read_text() for file in sorted(fold.glob("training_log*.txt")))
    assert f"all weights from {(root / 'model.pth').resolve()} (SAM2_PromptTrainer_noPretrain_tuned)" in log
    assert "learning rate 0.0002, 2 epochs" in log and log.count("Current learning rate") == 2
    trained = torch.load(fold / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    assert trained["init_args"]["finetuned"]["peak_lr"] == 2e-4
    assert trained["init_args"]["finetuned"]["cases"] == ["new_1", "new_2"] and trained["current_epoch"] == 2
    trained_on = json.loads((done / "splits_final.json").read_text())[0]["train"] + ["new_1", "new_2"]
    assert trained["init_args"]["trained_on"] == {"Dataset010_Colon": ["a"], DATASET: sorted(trained_on)}
    assert trained["init_args"]["unknown_start"] is False
    network = trained["init_args"][PROMPTED]["network"]
    assert (network["dropout"], network["fitted_windows"], network["image_size"]) == (0.0, True, 64)
    assert sorted(os.listdir(fold / "validation")) == sorted(
        [*(f"{case}.nii.gz" for case in _validated(done)), "prompts.json", "summary.json"]
    )


def _validated(done) -> list[str]:
    return json.loads((done / "splits_final.json").read_text())[0]["val"]
