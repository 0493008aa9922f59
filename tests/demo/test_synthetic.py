"""The synthetic task: reproducible, laid out as MSD's tasks are, and hard in the ways it claims to be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from nnunetv2_sam2_3dmed.demo.phantom import LESION, SMOOTH_ORGAN, SPECKLED_ORGAN, Phantom
from nnunetv2_sam2_3dmed.demo.synthetic import TASK_NAME, make_synthetic_task, synthetic_case


@pytest.fixture(scope="module")
def cases() -> list[Phantom]:
    return [synthetic_case(index) for index in range(28)]


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Path:
    return make_synthetic_task(tmp_path_factory.mktemp("data"), cases=5, test_cases=2)


def test_a_seed_and_a_number_fix_a_case(cases):
    again = synthetic_case(3)
    assert np.array_equal(again.image, cases[3].image)
    assert np.array_equal(again.label, cases[3].label)
    assert again.spacing == cases[3].spacing
    assert synthetic_case(3, seed=1).image.tobytes() != cases[3].image.tobytes()
    assert len({case.label.tobytes() for case in cases}) == len(cases)


def test_two_runs_write_the_same_bytes(task, tmp_path):
    again = make_synthetic_task(tmp_path, cases=5, test_cases=2)
    files = sorted(path.relative_to(task) for path in task.rglob("*.*"))
    assert len(files) == 1 + 2 * 7  # dataset.json, and an image and a label per case
    for file in files:
        assert (again / file).read_bytes() == (task / file).read_bytes(), file


def test_slices_are_the_first_and_coarsest_axis(cases):
    for case in cases:
        assert 18 <= case.image.shape[0] <= 22 and case.image.shape[1:] == (64, 64)
        assert case.spacing[0] == 3.0
        assert case.spacing[1] == case.spacing[2] == pytest.approx(1.2, abs=0.07)


def test_attenuation_is_that_of_the_tissues(cases):
    for case in cases:
        inside = {value: ndimage.binary_erosion(case.label == value) for value in (SMOOTH_ORGAN, SPECKLED_ORGAN)}
        smooth, speckled = case.image[inside[SMOOTH_ORGAN]], case.image[inside[SPECKLED_ORGAN]]
        assert case.image[:, :4, :4].mean() == pytest.approx(-1000, abs=5)
        assert np.median(smooth) == pytest.approx(110, abs=5)
        # close to soft tissue (40) on average, and told from it by its texture
        assert speckled.mean() == pytest.approx(50, abs=10)
        assert speckled.std() > 2 * smooth.std()
        assert case.image.max() > 300  # bone


def test_lesions_are_dark_and_wholly_inside_the_smooth_organ(cases):
    for case in cases:
        lesion = case.label == LESION
        if not lesion.any():
            continue
        rim = ndimage.binary_dilation(lesion) & ~lesion
        assert set(np.unique(case.label[rim])) == {SMOOTH_ORGAN}
        organ = ndimage.binary_erosion(case.label == SMOOTH_ORGAN)
        assert case.image[lesion].mean() < case.image[organ].mean() - 25


def test_four_of_five_cases_have_lesions(cases):
    present = [bool((case.label == LESION).any()) for case in cases]
    assert present == [(index + 1) % 5 != 0 for index in range(28)]


def test_organs_change_gradually_from_slice_to_slice(cases):
    for case in cases:
        organ = np.isin(case.label, (SMOOTH_ORGAN, LESION))
        filled = np.flatnonzero(organ.sum(axis=(1, 2)) > 100)
        assert len(filled) >= 6 and np.array_equal(filled, np.arange(filled[0], filled[-1] + 1))
        for low, high in zip(filled[:-1], filled[1:]):
            assert (organ[low] & organ[high]).sum() > 0.9 * min(organ[low].sum(), organ[high].sum())


def test_files_hold_the_case(task):
    case = synthetic_case(0)
    image = SimpleITK.ReadImage(str(task / "imagesTr" / "synthetic_001.nii.gz"))
    label = SimpleITK.ReadImage(str(task / "labelsTr" / "synthetic_001.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), case.image)
    assert np.array_equal(SimpleITK.GetArrayFromImage(label), case.label)
    assert image.GetSpacing() == pytest.approx(tuple(reversed(case.spacing)), abs=1e-6)
    assert label.GetSpacing() == image.GetSpacing()


def test_nnunet_converts_the_task(task, tmp_path, monkeypatch):
    from nnunetv2.dataset_conversion.convert_MSD_dataset import convert_msd_dataset

    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    convert_msd_dataset(str(task), num_processes=1)

    dataset = tmp_path / "nnUNet_raw" / "Dataset090_SyntheticCT"
    description = json.loads((dataset / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "smooth organ": 1, "speckled organ": 2, "lesion": 3}
    assert description["channel_names"] == {"0": "CT"}  # by which nnU-Net chooses its CT normalisation
    assert description["numTraining"] == len(list((dataset / "imagesTr").iterdir())) == 5
    assert sorted(path.name for path in (dataset / "imagesTs").iterdir()) == [
        "synthetic_006_0000.nii.gz",
        "synthetic_007_0000.nii.gz",
    ]
    assert "synthetic" in description["name"].lower() and "synthetic" in description["description"].lower()
    assert task.name == TASK_NAME
