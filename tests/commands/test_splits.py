import json

import pytest

from nnunetv2_sam2_3dmed.commands.main import main

DATASET = "Dataset304_Pairs"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A preprocessed dataset of five subjects with two cases each."""
    for variable in ("nnUNet_raw", "nnUNet_results"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    # nnU-Net reads the variable once, when it is imported
    monkeypatch.setattr("nnunetv2_sam2_3dmed.nnunet_folders.dataset_name", lambda name: DATASET)
    folder = tmp_path / DATASET
    (folder / "gt_segmentations").mkdir(parents=True)
    for number in range(1, 11):
        (folder / "gt_segmentations" / f"case_{number:02d}.nii.gz").touch()
    (folder / "dataset.json").write_text(json.dumps({"file_ending": ".nii.gz"}))
    return folder


def test_pairs_stay_together(folder, capsys):
    assert main(["splits", "-d", "304", "--group-by", "pairs"]) == 0
    folds = json.loads((folder / "splits_final.json").read_text())
    assert len(folds) == 5 and all(len(fold["val"]) == 2 and len(fold["train"]) == 8 for fold in folds)
    for fold in folds:
        first, second = (int(case[-2:]) for case in fold["val"])
        assert first % 2 == 1 and second == first + 1
    assert "10 cases of 5 subjects" in capsys.readouterr().out


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
