from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunetv2_sam2_3dmed.evaluation.scores import DICE, HD95
from nnunetv2_sam2_3dmed.images.overlays import CaseOverlay, draw_overlay
from nnunetv2_sam2_3dmed.report import gallery
from nnunetv2_sam2_3dmed.report.gallery import (
    ComparedFiles,
    choose_cases,
    chosen_by_case,
    label_names,
    overlay_picture,
    wrapped,
)
from nnunetv2_sam2_3dmed.report.methods import describe_methods


def test_labels_are_named_by_their_class_or_by_all_their_regions():
    assert label_names({"liver": (1,), "cyst": (2,)}) == {1: "liver", 2: "cyst"}
    assert label_names({"tumour": (1, 2, 3), "core": (2, 3), "active": (3,)}) == {
        1: "tumour",
        2: "tumour, core",
        3: "tumour, core, active",
    }


def test_labels_are_broken_at_spaces_and_after_underscores():
    assert wrapped("nnUNetTrainer · 3d", 20) == "nnUNetTrainer · 3d"
    assert wrapped("SAM2_3dMedTrainer_noSRPP · 3d", 20) == "SAM2_3dMedTrainer_\nnoSRPP · 3d"


@pytest.fixture
def drawn(tmp_path, monkeypatch, make_comparison):
    """Draw a case of these label maps, (8, 24, 24); return the drawn arrays and their titles."""

    def draw(truth: np.ndarray, **predictions: np.ndarray) -> tuple[CaseOverlay, list[str]]:
        def write(name: str, voxels: np.ndarray) -> Path:
            file = tmp_path / name / "case_0.nii.gz"
            file.parent.mkdir(parents=True)
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(file))
            return file

        image = np.arange(truth.size, dtype=np.float32).reshape(truth.shape)
        write("raw/imagesTr", image).rename(tmp_path / "raw/imagesTr/case_0_0000.nii.gz")
        write("truth", truth)
        # in the other order, so that the picture's must be that of the methods
        files = {name: {"case_0": write(name, labels)} for name, labels in reversed(predictions.items())}
        case = ComparedFiles(SimpleITKIO(), ".nii.gz", tmp_path / "raw", tmp_path / "truth", files, {1: "organ"}, False)
        comparison = make_comparison({"first": {"organ": [0.25]}, "second": {"organ": [0.75]}}, cases=["case_0"])
        seen = []

        def watched(overlay):
            seen.append((overlay, draw_overlay(overlay)))
            return seen[-1][1]

        monkeypatch.setattr(gallery, "draw_overlay", watched)
        assert overlay_picture(comparison, describe_methods(comparison.methods), "case_0", case) is not None
        overlay, figure = seen[0]
        return overlay, [axes.get_title() for axes in figure.axes[: 2 + len(predictions)]]

    return draw


def labels(*slices: int, value: int = 1) -> np.ndarray:
    volume = np.zeros((8, 24, 24), np.uint8)
    volume[list(slices), 4:20, 4:20] = value
    return volume


def test_each_method_is_drawn_in_the_column_that_names_it(drawn):
    truth, first, second = labels(2, 3, 4), labels(2, 3), labels(4, 5)
    first[7] = 9  # no class
    overlay, titles = drawn(truth, first=first, second=second)
    assert titles == ["image", "ground truth", "first\nDice 0.250", "second\nDice 0.750"]
    np.testing.assert_array_equal(overlay.gt, truth)
    assert list(overlay.predictions) == ["first", "second"]
    np.testing.assert_array_equal(overlay.predictions["first"], labels(2, 3))
    np.testing.assert_array_equal(overlay.predictions["second"], second)
    assert overlay.slices == [2, 3, 4]


def test_of_an_empty_truth_the_slices_are_those_of_the_predictions(drawn):
    overlay, _ = drawn(labels(), first=labels(0), second=labels(6, 7))
    assert overlay.slices == [0, 6, 7]  # not 4, the middle


def test_files_that_lie_elsewhere_are_shown_voxel_by_voxel(tmp_path):
    """The header of the truth says that x and y run the other way, as that of a prediction on its image does not."""
    labels = np.zeros((4, 6, 8), np.uint8)
    labels[1:3, 1:3, 1:4] = 1
    for folder, direction in (("truth", (-1, 0, 0, 0, -1, 0, 0, 0, 1)), ("ours", (1, 0, 0, 0, 1, 0, 0, 0, 1))):
        (tmp_path / folder).mkdir()
        image = SimpleITK.GetImageFromArray(labels)
        image.SetDirection(direction)
        SimpleITK.WriteImage(image, str(tmp_path / folder / "case.nii.gz"))
    predictions = {"ours": {"case": tmp_path / "ours" / "case.nii.gz"}}
    files = ComparedFiles(SimpleITKIO(), ".nii.gz", None, tmp_path / "truth", predictions, {1: "organ"}, True)
    truth, found, *_ = files.labels("case")
    assert truth.any()
    np.testing.assert_array_equal(found["ours"], truth)


def chosen(comparison, method="m"):
    return [(c.why, c.case, round(c.dice, 6)) for c in choose_cases(comparison, method)]


def test_best_median_and_worst_by_foreground_mean(make_comparison):
    # means over the two classes: 0.75, 0.5, 0.9, 0.2, 0.6
    comparison = make_comparison({"m": {"a": [0.9, 0.4, 0.8, 0.4, 0.6], "b": [0.6, 0.6, 1.0, None, 0.6]}})
    assert chosen(comparison) == [("best", "case_2", 0.9), ("median", "case_4", 0.6), ("worst", "case_3", 0.2)]


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ([0.5], [("best", "case_0", 0.5)]),
        ([0.5, 0.7], [("best", "case_1", 0.7), ("worst", "case_0", 0.5)]),
        # of an even number, the better of the two in the middle
        ([0.1, 0.2, 0.3, 0.4], [("best", "case_3", 0.4), ("median", "case_2", 0.3), ("worst", "case_0", 0.1)]),
        # ties: by name
        ([0.5, 0.5, 0.5], [("best", "case_0", 0.5), ("median", "case_1", 0.5), ("worst", "case_2", 0.5)]),
    ],
)
def test_few_cases_and_ties(make_comparison, dice, expected):
    assert chosen(make_comparison({"m": {"a": dice}})) == expected


def test_a_case_that_several_methods_chose_is_shown_once(make_comparison):
    comparison = make_comparison({"x": {"a": [0.9, 0.5, 0.1]}, "y": {"a": [0.8, 0.1, 0.5]}})
    reasons = chosen_by_case(comparison, describe_methods(comparison.methods))
    assert reasons == {
        "case_0": ["best of x", "best of y"],
        "case_1": ["median of x", "worst of y"],
        "case_2": ["median of y", "worst of x"],
    }


def test_scores_of_classes_and_their_mean(make_comparison):
    comparison = make_comparison({"m": {"a": [0.8, 0.6], "b": [0.4, None]}})
    assert comparison.class_names == ["a", "b", "foreground mean"]
    assert comparison.case_scores("m", DICE) == pytest.approx([0.6, 0.3])
    assert comparison.case_scores("m", HD95, "a") == pytest.approx([2, 4])
    np.testing.assert_allclose(comparison.case_scores("m", HD95), [4, np.nan])
    assert make_comparison({"m": {"a": [0.5]}}).class_names == ["a"]
