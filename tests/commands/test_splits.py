import json

import pytest

from nnunetv2_sam2_3dmed.annotation.record import Annotation, write_record
from nnunetv2_sam2_3dmed.commands.main import main
from tests.faults import file_size_limit

DATASET = "Dataset304_Pairs"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A preprocessed dataset of five subjects with two cases each."""
    for variable in ("nnUNet_raw", "nnUNet_results"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    # nnU-Net reads the variable once, when it is imported
    monkeypatch.setattr("nnunetv2_sam2_3dmed.nnunet.folders.dataset_name", lambda name: DATASET)
    folder = tmp_path / DATASET
    (folder / "gt_segmentations").mkdir(parents=True)
    for number in range(1, 11):
        (folder / "gt_segmentations" / f"case_{number:02d}.nii.gz").touch()
    (folder / "dataset.json").write_text(
        json.dumps({"file_ending": ".nii.gz", "labels": {"background": 0, "organ": 1}})
    )
    return folder


def test_pairs_stay_together(folder, capsys):
    assert main(["splits", "-d", "304", "--group-by", "pairs"]) == 0
    folds = json.loads((folder / "splits_final.json").read_text())
    assert len(folds) == 5 and all(len(fold["val"]) == 2 and len(fold["train"]) == 8 for fold in folds)
    for fold in folds:
        first, second = (int(case[-2:]) for case in fold["val"])
        assert first % 2 == 1 and second == first + 1
    assert "10 cases of 5 subjects" in capsys.readouterr().out
    assert main(["splits", "-d", "304", "--group-by", "pairs", "--folds", "2", "--force"]) == 0
    assert sorted(len(fold["val"]) for fold in json.loads((folder / "splits_final.json").read_text())) == [4, 6]


def test_an_existing_file_is_looked_at_and_replaced_only_by_force(folder, capsys):
    old = [{"train": ["case_01", "case_04"], "val": ["case_02", "case_03"]}]
    (folder / "splits_final.json").write_text(json.dumps(old))
    assert main(["splits", "-d", "304", "--group-by", "pairs", "--check"]) == 0
    assert "separates 2 subjects" in capsys.readouterr().out
    assert main(["splits", "-d", "304", "--group-by", "pairs"]) == 2
    assert "--force" in capsys.readouterr().err
    assert json.loads((folder / "splits_final.json").read_text()) == old
    assert main(["splits", "-d", "304", "--group-by", "pairs", "--force"]) == 0
    assert json.loads((folder / "splits_final.before.json").read_text()) == old
    assert main(["splits", "-d", "304", "--group-by", "pairs", "--check"]) == 0
    assert "keeps every subject in one fold" in capsys.readouterr().out


def test_cases_from_rounds_are_never_validated_against(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    # case_10 is of the same subject as case_09, case_11 and case_12 of none of the experts', case_20 of none at all
    recorded = ("case_10", "case_11", "case_12", "case_20")
    write_record(tmp_path / "raw" / DATASET, {case: Annotation(case, "machine", *[""] * 9) for case in recorded})
    for case in recorded[:3]:
        (folder / "gt_segmentations" / f"{case}.nii.gz").touch()
    drawn = [{"train": ["case_01"], "val": ["case_02", "case_11"]}]
    (folder / "splits_final.json").write_text(json.dumps(drawn))
    assert main(["splits", "-d", "304", "--group-by", "pairs", "--force"]) == 0
    said = capsys.readouterr().out
    assert "validates against 1 cases from rounds, for example case_11" in said
    assert "3 cases are from rounds and only trained on" in said and "1 cases of annotations.csv are left out" in said
    folds = json.loads((folder / "splits_final.json").read_text())
    assert sorted(case for fold in folds for case in fold["val"]) == [f"case_{number:02d}" for number in range(1, 10)]
    for fold in folds:
        assert {"case_11", "case_12"} <= set(fold["train"])
        assert ("case_10" in fold["train"]) == ("case_09" in fold["train"])


def test_a_full_disk_leaves_the_older_folds(folder, capsys):
    old = json.dumps([{"train": [f"case_{k:02d}" for k in range(3, 11)], "val": ["case_01", "case_02"]}])
    (folder / "splits_final.json").write_text(old)
    there = {file.name for file in folder.iterdir()}
    with file_size_limit(0):
        assert main(["splits", "-d", "304", "--group-by", "pairs", "--force"]) == 2
    assert "cannot be written: File too large." in capsys.readouterr().err
    assert (folder / "splits_final.json").read_text() == old and {file.name for file in folder.iterdir()} == there
    with file_size_limit(len(old)):  # the copy fits, the new file does not
        assert main(["splits", "-d", "304", "--group-by", "pairs", "--force"]) == 2
    assert (folder / "splits_final.json").read_text() == old
