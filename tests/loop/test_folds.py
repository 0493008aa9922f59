"""What came from rounds is trained on in every fold, and validated against in none."""

import copy
import json

import pytest
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.loop.folds import extended, folds_with, write_folds

FOLDS = [{"train": ["c", "a"], "val": ["b"]}, {"train": ["b", "n1"], "val": ["a", "c"]}]


def test_only_the_training_part_grows():
    before = copy.deepcopy(FOLDS)
    after = extended(FOLDS, ["n2", "n1"])
    assert after == [{"train": ["c", "a", "n1", "n2"], "val": ["b"]}, {"train": ["b", "n1", "n2"], "val": ["a", "c"]}]
    assert before == FOLDS and extended(after, ["n1", "n2"]) == after


def test_a_case_that_is_validated_against_is_named():
    with pytest.raises(UserError, match="fold 1 validates against c, whose mask began as a machine's"):
        extended(FOLDS, ["n1", "c"])


def test_folds_that_there_are_not_are_those_of_nnunet_over_the_experts(tmp_path):
    experts = [f"e{number}" for number in range(7)]
    folds = folds_with(tmp_path / "splits_final.json", [*experts, "n1"], ["n1"])
    for fold, drawn in zip(folds, generate_crossval_split(experts), strict=True):
        assert fold == {"train": [*drawn["train"], "n1"], "val": drawn["val"]}
    write_folds(tmp_path / "splits_final.json", folds)
    assert json.loads((tmp_path / "splits_final.json").read_text()) == folds
    assert folds_with(tmp_path / "splits_final.json", [], ["n1"]) == folds
    with pytest.raises(UserError, match="4 cases by experts are too few to draw 5 folds"):
        folds_with(tmp_path / "none.json", [*experts[:4], "n1"], ["n1"])
