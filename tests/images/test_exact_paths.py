"""The file that is named is read, whatever lies beside it and however its name ends."""

from __future__ import annotations

import shutil
import tempfile

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.segmentations import read_segmentation
from nnunetv2_sam2_3dmed.images.exact_paths import check_no_twin, exactly
from nnunetv2_sam2_3dmed.images.volumes import read_volume
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import read_header

SMALL, LARGE = np.zeros((2, 3, 4), np.uint8), np.full((5, 6, 7), 9, np.uint8)
NAMES = ("a.nii", "a.nii.gz", "A.NII", "A.NII.GZ", "b.c.nii.gz", "b.c.nii")


@pytest.fixture
def twins(tmp_path):
    """Each plain file has the small image, each compressed one the large."""
    for name in NAMES:
        large = name.lower().endswith(".gz")
        made = tmp_path / f"made{'.nii.gz' if large else '.nii'}"
        sitk.WriteImage(sitk.GetImageFromArray(LARGE if large else SMALL), str(made))
        made.rename(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_neither_of_two_files_of_one_name_is_read_for_the_other(twins, name):
    expected = LARGE if name.lower().endswith(".gz") else SMALL
    np.testing.assert_array_equal(read_volume(twins / name).array, expected)
    assert read_header(twins / name).shape == expected.shape
    for reader in (SimpleITKIO(), NibabelIO()):
        np.testing.assert_array_equal(read_segmentation(twins / name, reader).labels, expected)


def test_the_content_says_what_is_compressed(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(LARGE), str(tmp_path / "a.nii"))
    sitk.WriteImage(sitk.GetImageFromArray(LARGE), str(tmp_path / "b.nii.gz"))
    shutil.move(tmp_path / "a.nii", tmp_path / "plain.nii.gz")
    shutil.move(tmp_path / "b.nii.gz", tmp_path / "packed.nii")
    shutil.copy(tmp_path / "packed.nii", tmp_path / "Mixed.Nii.gz")
    for name in ("plain.nii.gz", "packed.nii", "Mixed.Nii.gz"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, LARGE)
        np.testing.assert_array_equal(read_segmentation(tmp_path / name, NibabelIO()).labels, LARGE)


def test_no_link_is_made_without_need_and_none_stays(twins, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    with exactly(twins / "a.nii") as path:
        assert path == twins / "a.nii"
    with exactly(twins / "a.nii.gz") as path:
        assert path != twins / "a.nii.gz" and path.resolve() == (twins / "a.nii.gz").resolve()
    assert set(tmp_path.iterdir()) == before


def test_a_twin_is_not_written(tmp_path):
    (tmp_path / "a.nii").touch()
    (tmp_path / "b.nii.gz").touch()
    for name, other in (("a.nii.gz", "a.nii"), ("b.nii", "b.nii.gz")):
        with pytest.raises(UserError, match=f"{name} would lie beside {other}"):
            check_no_twin(tmp_path / name)
    for name in ("a.nii", "c.nii.gz", "a.nrrd", "a.mha"):
        check_no_twin(tmp_path / name)
