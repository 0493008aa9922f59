"""What is said of models that may know the cases they are measured on."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_sam2_3dmed.network.checkpoints import CHECKPOINTS
from nnunetv2_sam2_3dmed.prompt_training.training_cases import PUBLIC_WEIGHTS, training_warnings

DATASET = "Dataset009_Spleen"
SPLITS = [{"train": ["c", "d"], "val": ["a", "b"]}]


@pytest.fixture
def said(tmp_path):
    """Of a checkpoint of nnU-Net."""

    def said(fold, names, splits=SPLITS, dataset=DATASET) -> list[str]:
        file = tmp_path / "checkpoint_final.pth"
        plans = {"dataset_name": dataset}
        torch.save({"network_weights": {}, "init_args": {"plans": plans, "fold": fold}}, file)
        return training_warnings(file, "0" * 64, DATASET, names, splits)

    return said


def test_a_checkpoint_of_nnunet_knows_its_cases(said):
    assert said(0, ["a", "b"]) == []
    assert said(0, ["a", "d"])[0].startswith("1 of these 2 cases (d) are not among the validation cases of fold 0")
    assert "trained on all cases of Dataset009_Spleen" in said("all", ["a"])[0]
    assert "some of these cases may be its training cases" in said(1, ["a"])[0]
    assert "some of these cases may be its training cases" in said(0, ["a"], splits=None)[0]
    assert said(0, ["c"], dataset="Dataset010_Colon") == []


def test_published_weights_may_have_seen_anything_but_sam2s(tmp_path):
    file = tmp_path / "weights.pt"
    torch.save({"model": {}}, file)
    assert training_warnings(file, "0" * 64, DATASET, ["a"], SPLITS) == [PUBLIC_WEIGHTS]
    official = CHECKPOINTS["sam2.1_hiera_large"].sha256
    assert official is not None and training_warnings(file, official, DATASET, ["a"], SPLITS) == []
