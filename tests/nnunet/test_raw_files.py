import json

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.utilities.utils import create_lists_from_splitted_dataset_folder

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet.raw_files import cases_in, check_training_files, warning_of_not_finite

NAME = "Dataset001_A"


@pytest.fixture
def raw(tmp_path, monkeypatch):
    for variable in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    folder = tmp_path / "raw" / NAME
    for name in ("imagesTr/a_0000", "imagesTr/b_0000", "labelsTr/a", "labelsTr/b"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5), np.int16)), str(folder / f"{name}.nii.gz"))
    (folder / "labelsTr" / "._a.nii.gz").write_bytes(b"left by macOS")
    (folder / "dataset.json").write_text(
        json.dumps({"file_ending": ".nii.gz", "labels": {"background": 0, "organ": 1}})
    )
    return folder


@pytest.mark.parametrize("name", ["imagesTr/b_0000.nii.gz", "labelsTr/a.nii.gz"])
def test_files_that_nnunet_has_filled_with_zeros_are_named(raw, name):
    check_training_files(NAME)
    content = (raw / name).read_bytes()
    (raw / name).write_bytes(content[:-9])
    with pytest.raises(UserError, match=rf"{name} is incomplete.*run `nnUNetv2_plan_and_preprocess -d {NAME}"):
        check_training_files(NAME)


def test_a_twin_is_named(raw):
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5), np.int16)), str(raw / "labelsTr" / "b.nii"))
    with pytest.raises(UserError, match="labelsTr/b.nii.gz has b.nii beside it"):
        check_training_files(NAME)


def test_images_whose_nan_itk_makes_0_are_named(raw, monkeypatch):
    assert warning_of_not_finite(NAME) is None
    values = np.ones((3, 4, 5), np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(raw / "imagesTr" / "a_0000.nii.gz"))
    assert warning_of_not_finite(NAME) is None
    values[1, 2, 3] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(values), str(raw / "imagesTr" / "b_0000.nii.gz"))
    assert warning_of_not_finite(NAME).startswith(f"b_0000.nii.gz in imagesTr of {NAME} hold NaN")
    monkeypatch.delenv("nnUNet_raw")
    assert warning_of_not_finite(NAME) is None


def test_without_raw_files_there_is_nothing_to_look_at(raw, monkeypatch):
    check_training_files("Dataset002_B")
    monkeypatch.delenv("nnUNet_raw")
    check_training_files(NAME)


def test_cases_are_those_of_nnunet(tmp_path):
    for name in ("b_1_0000", "b_1_0001", "a_0001", "a_0000", "a_b_0000", "B_0000", "10_0000", "9_0000"):
        (tmp_path / f"{name}.nii.gz").touch()
    theirs = [list(case) for case in create_lists_from_splitted_dataset_folder(str(tmp_path), ".nii.gz")]
    assert [[str(file) for file in files] for files in cases_in(tmp_path, ".nii.gz").values()] == theirs
    for name in ("._a_0000.nii.gz", "a.nii.gz", "a_00000.nii.gz", "a_0000.nii", "_0000.nii.gz"):
        (tmp_path / name).touch()
    assert [[str(file) for file in files] for files in cases_in(tmp_path, ".nii.gz").values()] == theirs
