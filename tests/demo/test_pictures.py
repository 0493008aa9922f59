"""Reading cases for the pictures: orientation, slice axis, and one picture per test case."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnunetv2_sam2_3dmed.demo.pictures import method_folder, read_volume, write_pictures
from nnunetv2_sam2_3dmed.errors import UserError


def write_volume(path: Path, array: np.ndarray, spacing=(1.0, 1.0, 3.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = SimpleITK.GetImageFromArray(array)
    volume.SetSpacing(spacing)
    volume.SetDirection([float(value) for value in direction])
    SimpleITK.WriteImage(volume, str(path))


@pytest.fixture
def array() -> np.ndarray:
    return np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def test_a_volume_stored_back_to_front_is_shown_the_same_way(tmp_path, array):
    write_volume(tmp_path / "a.nii.gz", array)
    # MSD's files run to the right and to the front, where DICOM's run to the left and to the back
    write_volume(tmp_path / "b.nii.gz", array[:, ::-1, ::-1].copy(), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    for name in ("a", "b"):
        voxels, spacing = read_volume(tmp_path / f"{name}.nii.gz")
        assert np.array_equal(voxels, array)
        assert spacing == (3.0, 1.0, 1.0)


def test_the_coarsest_axis_becomes_the_slice_axis(tmp_path, array):
    write_volume(tmp_path / "sagittal.nii.gz", array, spacing=(4.0, 0.5, 0.75))
    voxels, spacing = read_volume(tmp_path / "sagittal.nii.gz")
    assert np.array_equal(voxels, np.moveaxis(array, 2, 0))
    assert spacing == (4.0, 0.75, 0.5)


def test_equal_spacing_keeps_axial_slices(tmp_path, array):
    write_volume(tmp_path / "iso.nii.gz", array, spacing=(1.0, 1.0, 1.0))
    assert np.array_equal(read_volume(tmp_path / "iso.nii.gz")[0], array)


@pytest.fixture
def dataset(tmp_path, array) -> Path:
    folder = tmp_path / "Dataset009_Spleen"
    for case in ("a", "b"):
        write_volume(folder / "imagesTs" / f"{case}_0000.nii.gz", array)
        for kind in ("truth", "predictions"):
            write_volume(tmp_path / kind / f"{case}.nii.gz", (array > 100).astype(np.uint8))
    description = {
        "labels": {"background": 0, "spleen": 1},
        "channel_names": {"0": "CT"},
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def test_one_picture_per_test_case(dataset, tmp_path):
    files = write_pictures(dataset, tmp_path / "truth", {"ours": tmp_path / "predictions"}, tmp_path / "pictures")
    assert files == [tmp_path / "pictures" / "a.png", tmp_path / "pictures" / "b.png"]
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG")


def test_a_missing_prediction_is_named(dataset, tmp_path):
    (tmp_path / "predictions" / "b.nii.gz").unlink()
    with pytest.raises(UserError, match=r"predictions/b\.nii\.gz does not exist"):
        write_pictures(dataset, tmp_path / "truth", {"ours": tmp_path / "predictions"}, tmp_path / "pictures")


def test_method_arguments():
    assert method_folder("nnU-Net=a/b=c") == ("nnU-Net", Path("a/b=c"))
    for text in ("nnU-Net", "=a", "nnU-Net="):
        with pytest.raises(argparse.ArgumentTypeError, match="expected NAME=FOLDER"):
            method_folder(text)
