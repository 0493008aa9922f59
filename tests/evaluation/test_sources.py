from __future__ import annotations

from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.sources import find_predictions, share_cases


def folder(path: Path, *cases: str) -> Path:
    path.mkdir(parents=True)
    for case in cases:
        (path / f"{case}.nii.gz").touch()
    return path


def test_folds_are_pooled_and_other_files_left_out(tmp_path):
    first, second = folder(tmp_path / "fold_0", "a", "c"), folder(tmp_path / "fold_1", "b")
    (first / "summary.json").touch()
    (first / "a.npz").touch()
    (first / "._a.nii.gz").touch()  # as macOS leaves on foreign disks
    assert find_predictions([first, second], ".nii.gz") == {
        "a": first / "a.nii.gz",
        "b": second / "b.nii.gz",
        "c": first / "c.nii.gz",
    }


def test_the_same_case_in_two_folds_is_refused(tmp_path):
    folders = [folder(tmp_path / "fold_0", "a"), folder(tmp_path / "fold_all", "a")]
    with pytest.raises(UserError, match="two predictions of one method for one case"):
        find_predictions(folders, ".nii.gz")


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_predictions_is_refused(tmp_path, exists):
    if exists:
        folder(tmp_path / "empty")
    with pytest.raises(UserError, match="empty holds no predictions"):
        find_predictions([tmp_path / "empty"], ".nii.gz")


def test_only_shared_cases_are_compared_and_the_rest_is_reported(tmp_path):
    methods = {"x": [folder(tmp_path / "x", "b", "a", "c")], "y": [folder(tmp_path / "y", "b", "c", "d")]}
    truth = folder(tmp_path / "truth", "a", "b", "c", "d", "e")
    shared = share_cases(methods, truth, ".nii.gz")
    assert [case.name for case in shared.cases] == ["b", "c"]
    assert shared.cases[0].truth == truth / "b.nii.gz"
    assert shared.cases[0].predictions == {m: tmp_path / m / "b.nii.gz" for m in methods}
    assert shared.missing == {"x": ["d"], "y": ["a"]}


def test_no_shared_case_is_refused(tmp_path):
    methods = {"x": [folder(tmp_path / "x", "a", "b")], "y": [folder(tmp_path / "y", "c")]}
    with pytest.raises(UserError, match=r"no case was predicted by all methods \(cases of x: 2, y: 1\)"):
        share_cases(methods, tmp_path, ".nii.gz")


def test_a_case_without_truth_is_refused(tmp_path):
    methods = {"x": [folder(tmp_path / "x", "a", "b")]}
    truth = folder(tmp_path / "truth", "a")
    with pytest.raises(UserError, match=r"truth/b\.nii\.gz does not exist"):
        share_cases(methods, truth, ".nii.gz")
