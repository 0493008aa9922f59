"""The demo's task: synthetic CT is reproducible, laid out as MSD's tasks are, and hard in the ways it claims to be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.demo_task import (
    TASK_NAME,
    count_cases,
    labelled_cases,
    link_task,
    make_synthetic_task,
    synthetic_case,
)
from nnunetv2_sam2_3dmed.experiments.phantom import LESION, SMOOTH_ORGAN, SPECKLED_ORGAN, Phantom


@pytest.fixture(scope="module")
def cases() -> list[Phantom]:
    return [synthetic_case(index) for index in range(28)]


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Path:
    return make_synthetic_task(tmp_path_factory.mktemp("data"), cases=7)


def test_a_seed_and_a_number_fix_a_case(cases):
    again = synthetic_case(3)
    assert np.array_equal(again.image, cases[3].image)
    assert np.array_equal(again.label, cases[3].label)
    assert again.spacing == cases[3].spacing
    assert synthetic_case(3, seed=1).image.tobytes() != cases[3].image.tobytes()
    assert len({case.label.tobytes() for case in cases}) == len(cases)


def test_two_runs_write_the_same_bytes(task, tmp_path):
    again = make_synthetic_task(tmp_path, cases=7)
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
    assert description["numTraining"] == len(list((dataset / "imagesTr").iterdir())) == 7
    assert not any((dataset / "imagesTs").iterdir())
    assert "synthetic" in description["name"].lower() and "synthetic" in description["description"].lower()
    assert task.name == TASK_NAME


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An MSD task of 12 cases, an unlabelled one and macOS's leftovers; files hold their own names."""
    task = tmp_path / "source" / "Task09_Spleen"
    for kind in ("imagesTr", "labelsTr", "imagesTs"):
        (task / kind).mkdir(parents=True)
    for number in range(12):
        for kind in ("imagesTr", "labelsTr"):
            (task / kind / f"spleen_{number}.nii.gz").write_text(f"{kind} {number}")
            (task / kind / f"._spleen_{number}.nii.gz").write_text("")
    (task / "imagesTr" / "spleen_99.nii.gz").write_text("no label")
    (task / "imagesTs" / "spleen_50.nii.gz").write_text("no ground truth is published")
    (task / "dataset.json").write_text(json.dumps({"name": "Spleen", "modality": {"0": "CT"}, "numTraining": 12}))
    return task


def test_only_labelled_cases_count(source):
    assert labelled_cases(source) == sorted(f"spleen_{number}.nii.gz" for number in range(12))


def test_the_number_of_cases(source):
    assert [count_cases(None, cases) for cases in (None, 6, 40)] == [24, 6, 40]
    assert [count_cases(source, cases) for cases in (None, 6, 40)] == [12, 6, 12]
    assert count_cases(None, 5) == 5
    with pytest.raises(UserError, match="--cases 4, expected at least 5"):
        count_cases(None, 4)
    with pytest.raises(UserError, match="--cases 4, expected at least 5"):
        count_cases(source, 4)
    for file in sorted((source / "labelsTr").glob("spleen*"))[4:]:
        file.unlink()
    with pytest.raises(UserError, match="Task09_Spleen has 4 labelled cases, expected at least 5"):
        count_cases(source, None)


def test_the_linked_task_has_the_chosen_files_and_says_so(source, tmp_path):
    task = link_task(tmp_path / "data", source, 6)
    names = {path.name for path in (task / "imagesTr").iterdir()}
    assert len(names) == 6 and names < set(labelled_cases(source))
    assert names != set(labelled_cases(source)[:6])  # drawn at random
    for name in names:
        for kind in ("imagesTr", "labelsTr"):
            assert (task / kind / name).read_text() == (source / kind / name).read_text()
    description = json.loads((task / "dataset.json").read_text())
    assert (description["numTraining"], description["numTest"], description["test"]) == (6, 0, [])
    assert {Path(entry["image"]).name for entry in description["training"]} == names
    assert all(Path(entry["image"]).name == Path(entry["label"]).name for entry in description["training"])
    assert description["modality"] == {"0": "CT"}
    again = link_task(tmp_path / "again", source, 6)
    assert {path.name for path in (again / "imagesTr").iterdir()} == names


@pytest.mark.parametrize("missing", ["dataset.json", "labelsTr"])
def test_a_folder_that_is_no_task(source, missing):
    (source / missing).rename(source.parent / missing)
    with pytest.raises(UserError, match=f"has no {missing}"):
        labelled_cases(source)


def test_a_folder_of_another_name(tmp_path):
    with pytest.raises(UserError, match="named like Task09_Spleen"):
        labelled_cases(tmp_path / "Dataset009_Spleen")
