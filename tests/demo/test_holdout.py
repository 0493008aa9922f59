"""Held-out cases are never trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.demo.holdout import labelled_cases, make_holdout_task, split_cases
from nnunetv2_sam2_3dmed.errors import UserError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An MSD task of 12 cases, an unlabelled one and macOS's leftovers; files hold their own names."""
    task = tmp_path / "source" / "Task09_Spleen"
    for kind in ("imagesTr", "labelsTr", "imagesTs"):
        (task / kind).mkdir(parents=True)
    for number in range(12):
        for kind in ("imagesTr", "labelsTr"):
            (task / kind / f"spleen_{number}.nii.gz").write_text(f"{kind} {number}")
            (task / kind / f"._spleen_{number}.nii.gz").write_text("")
    (task / "imagesTr" / "spleen_99.nii.gz").write_text("no label")
    (task / "imagesTs" / "spleen_50.nii.gz").write_text("no truth is published")
    (task / "dataset.json").write_text(json.dumps({"name": "Spleen", "modality": {"0": "CT"}, "numTraining": 12}))
    return task


@pytest.mark.parametrize("held_out, cases", [(1, None), (4, None), (4, 5), (6, 6)])
def test_no_case_is_in_both_parts(held_out, cases):
    names = [f"case_{number:02d}" for number in range(12)]
    training, test = split_cases(names, held_out, cases)
    assert not set(training) & set(test)
    assert len(test) == held_out
    assert len(training) == (12 - held_out if cases is None else cases)
    assert set(training) | set(test) <= set(names)


def test_the_held_out_cases_depend_on_the_seed_alone():
    names = [f"case_{number:02d}" for number in range(40)]
    test = split_cases(names, 4)[1]
    assert split_cases(names, 4, cases=7)[1] == test
    assert split_cases(names, 4, seed=1)[1] != test
    assert test != names[:4]  # chosen at random, not the first


def test_too_few_training_cases():
    with pytest.raises(UserError, match="4 training cases remain of 8"):
        split_cases([str(number) for number in range(8)], held_out=4)


def test_only_labelled_cases_count(source):
    assert labelled_cases(source) == sorted(f"spleen_{number}.nii.gz" for number in range(12))


def test_the_task_has_the_chosen_files_and_says_so(source, tmp_path):
    task = make_holdout_task(tmp_path / "data", source, held_out=3, cases=6)
    names = {folder: {path.name for path in (task / folder).iterdir()} for folder in ("imagesTr", "imagesTs")}
    assert len(names["imagesTr"]) == 6 and len(names["imagesTs"]) == 3
    assert not names["imagesTr"] & names["imagesTs"]
    for split in ("Tr", "Ts"):
        for name in names[f"images{split}"]:
            # the truth of a held-out case comes from the published training labels
            assert (task / f"images{split}" / name).read_text() == (source / "imagesTr" / name).read_text()
            assert (task / f"labels{split}" / name).read_text() == (source / "labelsTr" / name).read_text()
    description = json.loads((task / "dataset.json").read_text())
    assert description["numTraining"] == 6 and description["numTest"] == 3
    assert {Path(entry["image"]).name for entry in description["training"]} == names["imagesTr"]
    assert {Path(entry).name for entry in description["test"]} == names["imagesTs"]
    assert description["modality"] == {"0": "CT"}


@pytest.mark.parametrize("missing", ["dataset.json", "labelsTr"])
def test_a_folder_that_is_no_task(source, missing):
    (source / missing).rename(source.parent / missing)
    with pytest.raises(UserError, match=f"has no {missing}"):
        labelled_cases(source)


def test_a_folder_of_another_name(tmp_path):
    with pytest.raises(UserError, match="named like Task09_Spleen"):
        labelled_cases(tmp_path / "Dataset009_Spleen")
