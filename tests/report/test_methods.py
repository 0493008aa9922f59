from __future__ import annotations

from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.report.methods import COLOURS, describe_methods, short_labels

UNET, OURS = "nnUNetTrainer__nnUNetPlans__3d_fullres", "SAM2_3dMedTrainer__nnUNetPlans__3d"


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", "#15171a"])  # of report.css, light and dark
def test_colours_stand_out_from_both_pages(page):
    # WCAG 2.1, success criterion 1.4.11: graphics need 3 : 1
    assert {colour: contrast(colour, page) >= 3 for colour in COLOURS} == dict.fromkeys(COLOURS, True)
    assert page in (Path(__file__).parents[2] / "nnunetv2_sam2_3dmed/report/templates/report.css").read_text()


def test_labels_are_short_where_that_tells_methods_apart():
    assert short_labels([UNET, OURS, "mine"]) == ["nnUNetTrainer · 3d_fullres", "SAM2_3dMedTrainer · 3d", "mine"]
    assert short_labels([OURS, "Other__nnUNetPlans__3d"]) == ["SAM2_3dMedTrainer", "Other"]
    other_plans = "SAM2_3dMedTrainer__otherPlans__3d"
    assert short_labels([OURS, other_plans]) == [OURS, other_plans]


def test_results_folders_are_told_from_folders_of_predictions(tmp_path):
    for fold in (0, 1):
        (tmp_path / OURS / f"fold_{fold}" / "validation").mkdir(parents=True)
    (tmp_path / OURS / "plans.json").write_text("{}")
    (tmp_path / OURS / "fold_1" / "checkpoint_final.pth").touch()
    folds = [tmp_path / OURS / f"fold_{fold}" for fold in (0, 1)]
    ours, loose = describe_methods({OURS: [fold / "validation" for fold in folds], "loose": [tmp_path]})
    assert (ours.results_folder, ours.fold_folders) == (tmp_path / OURS, tuple(folds))
    assert ours.checkpoint == folds[1] / "checkpoint_final.pth"
    assert (loose.results_folder, loose.fold_folders, loose.checkpoint) == (None, (), None)
    assert len({ours.colour, loose.colour}) == len({ours.marker, loose.marker}) == 2
