"""Several datasets in one: cases, labels, folds, rates, and what becomes of images of different kinds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.orientation import view_along
from nnunetv2_sam2_3dmed.images.volumes import read_volume, volume_from_array
from nnunetv2_sam2_3dmed.interactive.intensities import RGB, ShownAs
from nnunetv2_sam2_3dmed.interactive.slices import show
from nnunetv2_sam2_3dmed.merging import datasets as merging
from nnunetv2_sam2_3dmed.merging.datasets import as_picture, merge, missing_classes, open_parts, plan_merging
from nnunetv2_sam2_3dmed.merging.labels import merge_labels
from nnunetv2_sam2_3dmed.nnunet import folders
from nnunetv2_sam2_3dmed.nnunet.sources import KEY, Sources, sources_of

ORGAN = {"background": 0, "liver": 1, "spleen": 2}


@pytest.fixture
def raw(tmp_path, monkeypatch) -> Path:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name).mkdir()

    def known(name: str) -> str:  # nnU-Net reads the variables once, when it is imported
        names = [folder.name for folder in (tmp_path / "nnUNet_raw").glob("Dataset*")]
        return next(one for one in names if name in (one, str(int(one[7:10]))))

    monkeypatch.setattr(folders, "dataset_name", known)
    monkeypatch.setattr(merging, "dataset_name", known)
    return tmp_path / "nnUNet_raw"


def dataset(
    raw: Path,
    name: str,
    labels: dict,
    channels: list[str],
    spacing=(3.0, 1.0, 1.0),
    direction=None,
    cases: int = 5,
    **more,
) -> dict[str, np.ndarray]:
    """Write a dataset; the pixels of its first channel by case."""
    rng = np.random.default_rng(int(name[7:10]))
    values = sorted({v for value in labels.values() for v in (value if isinstance(value, list) else [value])})
    found = {}
    for number in range(cases):
        case = f"c{number}"
        for channel, kind in enumerate(channels):
            pixels = (
                rng.integers(0, 256, (4, 6, 7)).astype(np.uint8)
                if kind == "rgb_to_0_1"
                else rng.integers(-1000, 1000, (4, 6, 7)).astype(np.int16)
            )
            found.setdefault(case, pixels)
            write(raw / name / "imagesTr" / f"{case}_{channel:04d}.nii.gz", pixels, spacing, direction)
        label = rng.choice(values, (4, 6, 7)).astype(np.uint8)
        write(raw / name / "labelsTr" / f"{case}.nii.gz", label, spacing, direction)
    content = {
        "channel_names": {str(k): kind for k, kind in enumerate(channels)},
        "labels": labels,
        "file_ending": ".nii.gz",
        "numTraining": cases,
        **more,
    }
    (raw / name / "dataset.json").write_text(json.dumps(content))
    return found


def write(file: Path, array: np.ndarray, spacing, direction=None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1])
    if direction is not None:
        image.SetDirection(np.asarray(direction, dtype=float).reshape(-1).tolist())
    sitk.WriteImage(image, str(file))


def read(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


# ---- labels


def test_classes_of_one_name_are_one_class():
    merged = merge_labels([("A", {"labels": ORGAN}), ("B", {"labels": {"background": 0, "tumour": 1, "liver": 2}})])
    assert merged.declared == {"background": 0, "liver": 1, "spleen": 2, "tumour": 3} and merged.order is None
    assert merged.numbers == [{0: 0, 1: 1, 2: 2}, {0: 0, 1: 3, 2: 1}]


def test_regions_are_made_of_the_merged_values():
    regions = {"labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, "regions_class_order": [1, 2]}
    merged = merge_labels([("A", {"labels": {"background": 0, "core": 1}}), ("B", regions)])
    # core is 1 in both; the rest of B's region has no name of its own
    assert merged.declared == {"background": 0, "core": 1, "whole": [1, 2], "ignore": 3}
    assert merged.numbers == [{0: 0, 1: 1}, {0: 0, 1: 2, 2: 1, 3: 3}]
    assert merged.order == [1, 2]


# ---- datasets of one kind


def test_images_of_one_kind_are_linked_and_labels_renumbered(raw):
    first = dataset(raw, "Dataset001_A", ORGAN, ["CT"])
    dataset(raw, "Dataset002_B", {"background": 0, "tumour": 1, "liver": 2}, ["CT"])
    plan = plan_merging("Dataset003_All", open_parts([("1", 1), ("2", 40)]))
    assert not plan.pictures and missing_classes(plan) == {"Dataset001_A": ["tumour"], "Dataset002_B": ["spleen"]}
    merge(plan, raw / "Dataset003_All")
    image = raw / "Dataset003_All" / "imagesTr" / "A_c0_0000.nii.gz"
    assert image.is_symlink() and (raw / "Dataset003_All" / "labelsTr" / "A_c0.nii.gz").is_symlink()
    np.testing.assert_array_equal(read(image), first["c0"])
    old, new = (
        read(raw / name / "labelsTr" / f"{case}.nii.gz")
        for name, case in (("Dataset002_B", "c4"), ("Dataset003_All", "B_c4"))
    )
    np.testing.assert_array_equal(new, np.array([0, 3, 1])[old])
    sources = sources_of(json.loads((raw / "Dataset003_All" / "dataset.json").read_text()))
    assert sources.repeated(["A_c0", "B_c4"]) == ["A_c0", *["B_c4"] * 40] and not sources.pictures


def test_a_case_is_validated_in_the_fold_of_its_own_dataset(raw):
    for name in ("Dataset001_A", "Dataset002_B"):
        dataset(raw, name, ORGAN, ["CT"])
    folds = [{"train": ["c1", "c2"], "val": ["c0"]}, {"train": ["c0"], "val": ["c1", "c2"]}]
    for name in ("Dataset001_A", "Dataset002_B"):
        file = raw.parent / "nnUNet_preprocessed" / name / "splits_final.json"
        file.parent.mkdir()
        file.write_text(json.dumps(folds if name == "Dataset001_A" else folds[::-1]))
    merge(plan_merging("Dataset003_All", open_parts([("1", 1), ("2", 1)])), raw / "Dataset003_All")
    written = json.loads((raw.parent / "nnUNet_preprocessed" / "Dataset003_All" / "splits_final.json").read_text())
    assert written[0] == {"train": ["A_c1", "A_c2", "B_c0"], "val": ["A_c0", "B_c1", "B_c2"]}
    file.write_text(json.dumps([*folds, folds[0]]))
    with pytest.raises(UserError, match="Dataset002_B has 3 folds, but Dataset001_A 2"):
        plan_merging("Dataset003_All", open_parts([("1", 1), ("2", 1)]))


def test_without_splits_the_folds_are_those_that_nnunet_would_draw(raw):
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    for name in ("Dataset001_A", "Dataset002_B"):
        dataset(raw, name, ORGAN, ["CT"])
    plan = plan_merging("Dataset003_All", open_parts([("1", 1), ("2", 1)]))
    drawn = generate_crossval_split([f"c{number}" for number in range(5)])
    for fold, own in zip(plan.folds, drawn, strict=True):
        assert fold["val"] == [f"{prefix}_{case}" for prefix in "AB" for case in own["val"]]


# ---- datasets of several kinds


def test_volumes_and_videos_become_pictures_of_the_same_grid(raw):
    ct = dataset(raw, "Dataset001_CT", ORGAN, ["CT"])
    video = Sources(videos=True, pictures=True).noted()
    colours = dataset(
        raw, "Dataset002_Endo", {"background": 0, "polyp": 1}, ["rgb_to_0_1"] * 3, (1.0, 1.0, 1.0), **{KEY: video}
    )
    plan = plan_merging("Dataset003_All", open_parts([("1", 1), ("2", 40)]))
    merge(plan, raw / "Dataset003_All")
    folder = raw / "Dataset003_All"
    content = json.loads((folder / "dataset.json").read_text())
    assert content["channel_names"] == {str(channel): "rgb_to_0_1" for channel in range(3)}
    sources = sources_of(content)
    assert sources.pictures and sources.is_video("Endo_c0") and not sources.is_video("CT_c0")
    # the abdomen window, 40 +- 200
    expected = np.rint(np.clip((ct["c0"] + 160) / 400, 0, 1) * 255)
    for channel in range(3):
        picture = sitk.ReadImage(str(folder / "imagesTr" / f"CT_c0_{channel:04d}.nii.gz"))
        np.testing.assert_allclose(sitk.GetArrayFromImage(picture), expected, atol=1)
        assert picture.GetSpacing() == (1.0, 1.0, 1.0)
    np.testing.assert_array_equal(read(folder / "imagesTr" / "Endo_c0_0000.nii.gz"), colours["c0"])
    old = read(raw / "Dataset002_Endo" / "labelsTr" / "c0.nii.gz")
    np.testing.assert_array_equal(read(folder / "labelsTr" / "Endo_c0.nii.gz"), old * 3)
    labels = sitk.ReadImage(str(folder / "labelsTr" / "CT_c0.nii.gz"))
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(labels), read(raw / "Dataset001_CT" / "labelsTr" / "c0.nii.gz")
    )
    assert labels.GetSpacing() == (1.0, 1.0, 1.0)


def test_grey_videos_among_colours_are_repeated(raw):
    noted = {KEY: Sources(videos=True, pictures=True).noted()}
    grey = dataset(raw, "Dataset001_Echo", {"background": 0, "lv": 1}, ["rgb_to_0_1"], (1.0, 1.0, 1.0), **noted)
    dataset(raw, "Dataset002_Endo", {"background": 0, "polyp": 1}, ["rgb_to_0_1"] * 3, (1.0, 1.0, 1.0), **noted)
    merge(plan_merging("Dataset003_All", open_parts([("1", 1), ("2", 1)])), raw / "Dataset003_All")
    for channel in range(3):
        file = raw / "Dataset003_All" / "imagesTr" / f"Echo_c3_{channel:04d}.nii.gz"
        np.testing.assert_array_equal(read(file), grey["c3"])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_come_first_and_are_seen_as_before(axis):
    rng = np.random.default_rng(0)
    direction = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    volume = volume_from_array(rng.integers(1, 300, (4, 5, 6)).astype(np.int16), (1.0, 2.0, 3.0), direction=direction)
    picture = as_picture(volume, axis)
    grey = volume_from_array(show(volume, "auto", None).window.grey(volume.array), volume.spacing, direction=direction)
    before = grey.view(axis).of(grey.array)
    after = view_along(picture.direction, 0).of(picture.array)
    np.testing.assert_array_equal(after, before)
    assert picture.spacing == (1.0, 1.0, 1.0) and picture.array.dtype == np.uint8


def test_a_model_of_pictures_is_shown_a_ct_as_its_training_was(raw):
    dataset(raw, "Dataset001_CT", ORGAN, ["CT"], cases=1)
    volume = read_volume(raw / "Dataset001_CT" / "imagesTr" / "c0_0000.nii.gz")
    shown = show(volume, "auto", ShownAs(RGB, 0.0, 1.0, pictures=True))
    np.testing.assert_array_equal(shown.window.grey(volume.array), as_picture(volume, 0).array)
    assert show(volume, "auto", ShownAs(RGB, 0.0, 1.0)).window == (0.0, 255.0)


# ---- mistakes


def test_what_cannot_be_merged(raw):
    dataset(raw, "Dataset001_A", ORGAN, ["CT"])
    dataset(raw, "Dataset002_B", ORGAN, ["T1", "T2"])
    with pytest.raises(UserError, match="Dataset002_B have 2 channels, but pictures are made of one"):
        plan_merging("Dataset003_All", open_parts([("1", 1), ("2", 1)]))
    with pytest.raises(UserError, match="Dataset001_A is named twice"):
        open_parts([("1", 1), ("Dataset001_A", 3)])
    dataset(raw, "Dataset004_C", ORGAN, ["CT"])
    merge(plan_merging("Dataset003_All", open_parts([("1", 1), ("4", 1)])), raw / "Dataset003_All")
    with pytest.raises(UserError, match="Dataset003_All was merged itself"):
        open_parts([("1", 1), ("3", 1)])
    plan = plan_merging("Dataset003_All", open_parts([("1", 1), ("4", 1)]))
    with pytest.raises(UserError, match="exists already"):
        merge(plan, raw / "Dataset003_All")


def test_an_undeclared_label_stops_and_the_same_call_goes_on(raw):
    dataset(raw, "Dataset001_A", ORGAN, ["CT"])
    dataset(raw, "Dataset002_B", {"background": 0, "tumour": 1}, ["CT"])
    label = raw / "Dataset002_B" / "labelsTr" / "c2.nii.gz"
    good = read(label)
    write(label, good * 5, (3.0, 1.0, 1.0))
    plan = plan_merging("Dataset003_All", open_parts([("1", 1), ("2", 1)]))
    with pytest.raises(UserError, match="c2.nii.gz has the label 5"):
        merge(plan, raw / "Dataset003_All")
    assert not (raw / "Dataset003_All" / "dataset.json").exists()
    turned = plan_merging("Dataset003_All", open_parts([("2", 1), ("1", 1)]))
    assert turned.labels.declared != plan.labels.declared
    with pytest.raises(UserError, match="was begun with other labels"):
        merge(turned, raw / "Dataset003_All")
    write(label, good, (3.0, 1.0, 1.0))
    merge(plan, raw / "Dataset003_All")
    assert len(list((raw / "Dataset003_All" / "labelsTr").iterdir())) == 10


def test_two_cases_of_one_name(raw):
    for name in ("Dataset001_A", "Dataset002_A_c0"):
        dataset(raw, name, ORGAN, ["CT"])
    for folder, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        place = raw / "Dataset001_A" / folder
        (place / f"c0{ending}").rename(place / f"c0_c1{ending}")
    with pytest.raises(UserError, match="Dataset001_A and Dataset002_A_c0 would both have the case A_c0_c1"):
        plan_merging("Dataset003_All", open_parts([("1", 1), ("2", 1)]))


@pytest.mark.parametrize(
    "words, says",
    [
        (("1",), "only 1 is to be merged"),
        (("1", "2:0"), "the rate of 2 is '0'"),
        (("1", "2:often"), "the rate of 2 is 'often'"),
    ],
)
def test_mistakes_on_the_command_line(raw, words, says, capsys):
    assert main(["merge", *words, "-d", "3", "--name", "All"]) == 2
    assert says in capsys.readouterr().err


def test_the_command(raw, capsys):
    dataset(raw, "Dataset001_A", ORGAN, ["CT"])
    dataset(raw, "Dataset002_B", {"background": 0, "liver": 1}, ["CT"])
    assert main(["merge", "1", "2:3", "-d", "3", "--name", "All"]) == 0
    told = capsys.readouterr()
    assert "Dataset002_B: 5 cases at rate 3, 75.0% of what is drawn" in told.out
    assert "Dataset002_B has no label for spleen" in told.err
    assert (raw / "Dataset003_All" / "dataset.json").is_file()
