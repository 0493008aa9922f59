"""Cases and their files; labels, regions, spacing and ignored voxels, through files that SimpleITK wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.cases import CaseEvaluator, ComparedCase, find_predictions, share_cases
from nnunetv2_sam2_3dmed.evaluation.labels import foreground_classes, ignore_label

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")


def evaluate(truth: Path, prediction: Path, dataset_json: dict, reader: BaseReaderWriter | None = None) -> dict:
    evaluator = CaseEvaluator(
        foreground_classes(dataset_json), ignore_label(dataset_json), reader or SimpleITKIO(), tolerance_mm=1
    )
    return evaluator(ComparedCase("case", truth, {"method": prediction})).scores["method"]


ONE_CLASS = {"labels": {"background": 0, "organ": 1}}


@pytest.mark.parametrize("reader", [SimpleITKIO(), NibabelIO()])
@pytest.mark.parametrize(("axis", "spacing_mm"), [(0, 5.0), (1, 2.0), (2, 1.0)])
def test_spacing_is_in_the_order_of_the_array(tmp_path, write_labels, reader, axis, spacing_mm):
    truth = np.zeros((4, 6, 8))
    truth[1, 2, 3] = 1
    spacing = (5.0, 2.0, 1.0)
    scores = evaluate(
        write_labels(tmp_path / "truth.nii.gz", truth, spacing),
        write_labels(tmp_path / "prediction.nii.gz", np.roll(truth, 1, axis), spacing),
        ONE_CLASS,
        reader,
    )
    assert scores["organ"].hd95_mm == pytest.approx(spacing_mm)


def test_two_dimensional_images_are_compared_by_their_contours(tmp_path, write_labels):
    truth, prediction = np.zeros((20, 20)), np.zeros((20, 20))
    truth[2:11, 2:11] = 1
    prediction[5:8, 5:8] = 1  # its contour lies 3 voxels inside the truth's
    scores = evaluate(
        write_labels(tmp_path / "truth.nii.gz", truth, (2, 2)),
        write_labels(tmp_path / "prediction.nii.gz", prediction, (2, 2)),
        ONE_CLASS,
    )
    assert scores["organ"].nsd == 0
    assert 6 <= scores["organ"].hd95_mm <= 6 * 2**0.5
    assert scores["organ"].dice == 2 * 9 / (9 + 81)


@pytest.mark.parametrize(("axis", "spacing_mm"), [(0, 3.0), (1, 1.0)])
def test_spacing_of_two_dimensional_images_is_in_the_order_of_the_array(tmp_path, write_labels, axis, spacing_mm):
    gt = np.zeros((8, 9))
    gt[3, 4] = 1
    scores = evaluate(
        write_labels(tmp_path / "gt.nii.gz", gt, (3, 1)),
        write_labels(tmp_path / "prediction.nii.gz", np.roll(gt, 1, axis), (3, 1)),
        ONE_CLASS,
    )
    # two neighbouring pixels: the far corners are one pixel away
    assert scores["organ"].hd95_mm == pytest.approx(spacing_mm)


def test_voxels_with_the_ignore_label_do_not_count(tmp_path, write_labels):
    dataset_json = {"labels": {"background": 0, "organ": 1, "ignore": 2}}
    truth, prediction = np.zeros((4, 6, 6)), np.zeros((4, 6, 6))
    truth[1:3, 1:3, 1:3] = 1
    truth[:, :, 4:] = 2
    prediction[1:3, 1:3, 1:] = 1  # reaches into what nobody annotated
    truth_file = write_labels(tmp_path / "truth.nii.gz", truth)
    prediction_file = write_labels(tmp_path / "prediction.nii.gz", prediction)
    scores = evaluate(truth_file, prediction_file, dataset_json)
    assert list(scores) == ["organ"]
    # 8 true voxels, 12 predicted ones among the annotated, 20 in all
    assert scores["organ"].dice == 2 * 8 / (8 + 12)
    assert evaluate(truth_file, prediction_file, ONE_CLASS)["organ"].dice == 2 * 8 / (8 + 20)


def test_regions_join_their_labels(tmp_path, write_labels):
    dataset_json = {
        "labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3},
        "regions_class_order": [1, 2],
    }
    truth = np.zeros((4, 6, 6))
    truth[1:3, 1:5, 1:5] = 1
    truth[1:3, 2:4, 2:4] = 2
    scores = evaluate(
        write_labels(tmp_path / "truth.nii.gz", truth),
        write_labels(tmp_path / "prediction.nii.gz", truth > 0),  # all of it labelled 1
        dataset_json,
    )
    assert list(scores) == ["whole", "core"]
    assert scores["whole"].dice == 1
    assert scores["core"].failed


def test_classes_keep_their_names():
    labels = {"background": 0, "anterior": 1, "posterior": 2, "ignore": 3}
    assert foreground_classes({"labels": labels}) == {"anterior": (1,), "posterior": (2,)}
    assert ignore_label({"labels": labels}) == 3
    assert ignore_label(ONE_CLASS) is None


@pytest.mark.parametrize(
    ("name", "true_value", "other"),
    [
        ("shape", "(4, 6, 8)", {"labels": np.ones((4, 6, 7))}),
        ("spacing", "(5.0, 2.0, 1.0)", {"spacing": (1.0, 2.0, 5.0)}),
        ("origin", "(0.0, 0.0, 0.0)", {"origin": (0.0, 0.0, 5.5)}),  # z, of 5 mm
        ("direction", "(1.0, 0.0, 0.0", {"direction": (-1, 0, 0, 0, -1, 0, 0, 0, 1)}),
    ],
)
@pytest.mark.parametrize("reader", [SimpleITKIO(), NibabelIO()])
def test_another_voxel_grid_is_refused(tmp_path, write_labels, reader, name, true_value, other):
    grid = {"labels": np.ones((4, 6, 8)), "spacing": (5.0, 2.0, 1.0)}
    truth = write_labels(tmp_path / "truth.nii.gz", **grid)
    prediction = write_labels(tmp_path / "prediction.nii.gz", **{**grid, **other})
    with pytest.raises(UserError) as error:
        evaluate(truth, prediction, ONE_CLASS, reader)
    assert f"{prediction} has {name} (" in str(error.value)
    assert str(truth) in str(error.value)
    if isinstance(reader, SimpleITKIO):  # nibabel's axes point the other way, in RAS
        assert true_value in str(error.value)


def test_rounding_in_the_header_is_accepted(tmp_path, write_labels):
    labels = np.ones((4, 6, 8))
    truth = write_labels(tmp_path / "truth.nii.gz", labels, (5, 0.7, 0.7), origin=(-300, 80, 12))
    prediction = write_labels(tmp_path / "prediction.nii.gz", labels, (5, 0.7001, 0.7), origin=(-300.001, 80, 12))
    assert evaluate(truth, prediction, ONE_CLASS)["organ"].dice == 1


def test_an_unreadable_file_is_named(tmp_path, write_labels):
    truth = write_labels(tmp_path / "truth.nii.gz", np.ones((4, 6, 8)))
    broken = tmp_path / "prediction.nii.gz"
    broken.write_bytes(b"not an image")
    with pytest.raises(UserError, match=f"{broken} cannot be read"):
        evaluate(truth, broken, ONE_CLASS)


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
    assert shared.cases[0].gt == truth / "b.nii.gz"
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
