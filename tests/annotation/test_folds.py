"""What came from rounds is validated against in no fold."""

import json

import pytest
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunetv2_sam2_3dmed.annotation.folds import experts_folds
from nnunetv2_sam2_3dmed.errors import UserError

FOLDS = [{"train": ["c", "a"], "val": ["b"]}, {"train": ["b", "n1"], "val": ["a", "c"]}]


def test_folds_that_there_are_stay_as_they_are(tmp_path):
    file = tmp_path / "Dataset301_Tiny" / "splits_final.json"
    file.parent.mkdir()
    file.write_text(json.dumps(FOLDS))
    assert experts_folds(file, ["a", "b", "c", "n1", "n2"], ["n1", "n2"]) == FOLDS
    with pytest.raises(UserError, match="fold 1 in .* validates against c.*splits -d Dataset301_Tiny"):
        experts_folds(file, [], ["n1", "c"])
    for text in ('[{"train": []}]', "{}", "[1]"):
        file.write_text(text)
        with pytest.raises(UserError, match="is no list of folds"):
            experts_folds(file, [], ["n1"])


def test_folds_that_there_are_not_are_those_of_nnunet_over_the_experts(tmp_path):
    experts = [f"e{number}" for number in range(7)]
    file = tmp_path / "splits_final.json"
    folds = experts_folds(file, [*experts, "n1"], ["n1"])
    assert folds == generate_crossval_split(experts) == json.loads(json.dumps(folds)) and not file.exists()
    with pytest.raises(UserError, match="4 cases by experts are too few to draw 5 folds"):
        experts_folds(file, [*experts[:4], "n1"], ["n1"])
