"""What ``sam2_3dmed prompt-benchmark`` refuses before it loads a model; what it does is in end_to_end/test_prompts."""

import json

import pytest

from nnunetv2_sam2_3dmed.commands.main import main

DATASET = "Dataset301_Tiny"


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs the command and returns what it says."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name / DATASET).mkdir(parents=True)
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.setattr("nnunetv2_sam2_3dmed.nnunet_folders.dataset_name", lambda _: DATASET)
    dataset = {"labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}}
    (tmp_path / "raw" / DATASET / "dataset.json").write_text(json.dumps(dataset))

    def run(*words: str) -> str:
        assert main(["prompt-benchmark", "-d", "301", "-o", str(tmp_path / "out"), *words]) == 2
        return capsys.readouterr().err

    run.folder = tmp_path / "preprocessed" / DATASET
    return run


def test_folds_and_cases(refused):
    assert "train a model, which makes nnU-Net draw folds, or give `-f all`" in refused()
    (refused.folder / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))
    assert "the fold is '1', but must be one from 0 to 0, or all" in refused("-f", "1")
    assert "c is none of the 1 cases of fold 0" in refused("--cases", "c")
    assert "--clicks is 0" in refused("--clicks", "0")
