import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.checkpoints import CHECKPOINTS
from nnunetv2_sam2_3dmed.prompt_evaluation.dataset_run import DatasetRun, resolution_warnings
from nnunetv2_sam2_3dmed.prompt_evaluation.protocols import protocols
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import RawCase


def test_sam2_at_another_resolution_than_its_own_is_said():
    large = CHECKPOINTS["sam2_hiera_large"].sha256
    (warning,) = resolution_warnings("sam2_hiera_large", large, 512)
    assert "trained on images of 1024 pixels and is measured on 512: set the image size to 1024" in warning
    assert "image_size in an experiment's file" in warning  # prompt-experiment has no option for it
    assert resolution_warnings("sam2_hiera_large", large, 1024) == []
    assert resolution_warnings("MedSAM2_latest", "0" * 64, 512) == []  # fine-tuned at 512


def run_of(dataset_json: dict, cases: list[RawCase]) -> DatasetRun:
    content = {"labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz", **dataset_json}
    return DatasetRun("Dataset301_Test", content, cases, [protocols(1)["box"]], "model.pt", "float32", None, ["all"])


def test_videos_are_not_prompted_as_volumes(tmp_path):
    cases = [RawCase(name, tmp_path / "image.nii.gz", tmp_path / "label.nii.gz") for name in ("a", "b")]
    merged = [{"dataset": "Dataset020_Echo", "rate": 1, "videos": True, "cases": ["b"]}]
    for noted, name in (({"videos": True}, "a"), ({"merged": merged}, "b")):
        with pytest.raises(UserError, match=f"^{name} of Dataset301_Test is a video.*--videos"):
            run_of({"sam2_3dmed": noted}, cases).measure(None, tmp_path / "out", [], print)
    assert not (tmp_path / "out").exists()
