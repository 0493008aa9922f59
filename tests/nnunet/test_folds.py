"""Folds over subjects, and folds that never validate against cases from annotation rounds."""

import json

import pytest
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet.folds import folds_without_validating, group_cases, grouped_folds, separated

CASES = [f"hippocampus_{number:03d}" for number in (1, 2, 3, 4, 6, 7, 8, 11, 12, 13)]


def test_consecutive_numbers_are_pairs():
    groups = group_cases(CASES, "pairs")
    numbers = [[int(case[-3:]) for case in cases] for cases in groups.values()]
    assert numbers == [[1, 2], [3, 4], [6], [7, 8], [11, 12], [13]]


def test_the_first_group_of_an_expression_is_the_subject():
    groups = group_cases(["p1_left", "p2_left", "p1_right"], r"^(p\d+)_")
    assert groups == {"p1": ["p1_left", "p1_right"], "p2": ["p2_left"]}


@pytest.mark.parametrize(
    "expression, message", [("(", "not a regular expression"), ("p", "no group"), ("(q)", "does not match the case")]
)
def test_expressions_that_cannot_work(expression, message):
    with pytest.raises(UserError, match=message):
        group_cases(["p1"], expression)


def test_every_case_is_validated_once_and_no_subject_is_separated():
    groups = group_cases(CASES, "pairs")
    folds = grouped_folds(groups)
    assert sorted(case for fold in folds for case in fold["val"]) == CASES
    assert all(sorted(fold["train"] + fold["val"]) == CASES for fold in folds)
    assert separated(folds, groups) == []
    assert grouped_folds(groups) == folds, "seeded"


def test_separated_subjects_are_found():
    folds = [{"train": ["a_1", "a_2", "b_1"], "val": ["b_2", "c_1"]}]
    assert separated(folds, group_cases(["a_1", "a_2", "b_1", "b_2", "c_1"], r"^(\w)_")) == ["b"]


def test_more_folds_than_subjects():
    with pytest.raises(UserError, match="7 folds cannot be made of 6 subjects"):
        grouped_folds(group_cases(CASES, "pairs"), 7)


FOLDS = [{"train": ["c", "a"], "val": ["b"]}, {"train": ["b", "n1"], "val": ["a", "c"]}]


def test_existing_folds_stay_as_they_are(tmp_path):
    file = tmp_path / "Dataset301_Tiny" / "splits_final.json"
    file.parent.mkdir()
    file.write_text(json.dumps(FOLDS))
    assert folds_without_validating(file, ["a", "b", "c", "n1", "n2"], ["n1", "n2"]) == FOLDS
    with pytest.raises(UserError, match="fold 1 in .* validates against c.*splits -d Dataset301_Tiny"):
        folds_without_validating(file, [], ["n1", "c"])
    for text in ('[{"train": []}]', '[{"train": [], "val": "a"}]', "{}", "[1]"):
        file.write_text(text)
        with pytest.raises(UserError, match="is no list of folds"):
            folds_without_validating(file, [], ["n1"])


def test_missing_folds_are_those_of_nnunet_over_the_cases_labelled_by_experts(tmp_path):
    experts = [f"e{number}" for number in range(7)]
    file = tmp_path / "splits_final.json"
    folds = folds_without_validating(file, [*experts, "n1"], ["n1"])
    assert folds == generate_crossval_split(experts) == json.loads(json.dumps(folds)) and not file.exists()
    with pytest.raises(UserError, match="4 cases labelled by experts are too few to draw 5 folds"):
        folds_without_validating(file, [*experts[:4], "n1"], ["n1"])
