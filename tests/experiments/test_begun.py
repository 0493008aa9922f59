"""Runs of earlier calls that do not belong into the same table any more."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.begun import check_begun
from nnunetv2_sam2_3dmed.experiments.one_run import Outcome, train_one
from nnunetv2_sam2_3dmed.experiments.runs import RunState
from tests.experiments.conftest import write_checkpoint, write_summary

SPLITS = [{"train": ["c", "d"], "val": ["a", "b"]}, {"train": ["a"], "val": ["d"]}, {"train": ["a"], "val": ["b", "c"]}]
CONFIGURATION = {
    "patch_size": [16, 64, 64],
    "batch_size": 2,
    "spacing": [1.0, 0.5, 0.5],
    "architecture": {"network_class_name": "a.Net", "arch_kwargs": {"image_size": 64}, "_kw_requires_import": []},
}
PLANS = {"plans_name": "nnUNetPlans", "configurations": {"base": CONFIGURATION, "3d": {"inherits_from": "base"}}}


def write(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


@pytest.fixture
def dataset(results, run, tmp_path) -> Path:
    """The preprocessed dataset; a training of fold 2 was begun and its results folder has nnU-Net's plans."""
    folder = tmp_path / "preprocessed" / run.dataset
    write(folder / "dataset.json", {"file_ending": ".nii.gz", "labels": {"background": 0, "organ": 1}})
    write(folder / "splits_final.json", SPLITS)
    write(folder / "nnUNetPlans.json", PLANS)
    write(run.folder(results).parent / "plans.json", PLANS)
    write_checkpoint(run.folder(results) / "checkpoint_latest.pth")
    return folder


def finish(run, results, cases) -> None:
    write_checkpoint(run.folder(results) / "checkpoint_final.pth")
    write_summary(run.folder(results), cases=cases)
    assert run.state(results) is RunState.DONE


def test_what_fits(dataset, run, results):
    check_begun(run, results)
    finish(run, results, ["c", "b"])
    check_begun(run, results)
    # what other configurations have become is nothing to this one
    write(dataset / "nnUNetPlans.json", {**PLANS, "configurations": {**PLANS["configurations"], "2d": {}}})
    check_begun(run, results)


@pytest.mark.parametrize("cases", [["a", "b"], ["b"], ["a", "b", "c"], []])
def test_a_validation_on_other_cases(dataset, run, results, cases):
    finish(run, results, cases)
    with pytest.raises(UserError, match=f"fold_2 held out {len(cases)} cases, expected the 2 that fold 2 in .*rename"):
        check_begun(run, results)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("patch_size", [16, 96, 96]),
        ("batch_size", 4),
        ("spacing", [1.0, 0.7, 0.7]),
        ("architecture", {**CONFIGURATION["architecture"], "arch_kwargs": {"image_size": 96}}),
    ],
)
def test_other_plans(dataset, run, results, key, value):
    plans = deepcopy(PLANS)
    plans["configurations"]["base"][key] = value
    write(dataset / "nnUNetPlans.json", plans)
    with pytest.raises(UserError, match=f"nnUNetPlans__3d was trained with another {key} than .*: rename"):
        check_begun(run, results)
    (run.folder(results) / "checkpoint_latest.pth").unlink()  # then nothing goes on from it
    check_begun(run, results)


@pytest.mark.usefixtures("fake_training")
def test_a_training_that_was_interrupted_on_other_cases(dataset, run, results, tmp_path, monkeypatch):
    (run.folder(results) / "checkpoint_latest.pth").unlink()
    monkeypatch.setenv("FAKE_DATASETS", run.dataset)
    assert train_one(run, tmp_path / "out", "cpu") is Outcome.DONE
    (run.folder(results) / "validation" / "summary.json").unlink()
    assert run.state(results) is RunState.TRAINED
    check_begun(run, results)
    write(dataset / "splits_final.json", SPLITS[::-1])
    with pytest.raises(UserError, match="held out 2 cases, expected the 2 .*; 2 are in only one .* such as a: "):
        check_begun(run, results)
    # going on does not write the note anew
    assert train_one(run, tmp_path / "out", "cpu") is Outcome.DONE
    (run.folder(results) / "validation" / "summary.json").unlink()
    with pytest.raises(UserError, match="held out 2 cases"):
        check_begun(run, results)
