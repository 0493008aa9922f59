"""Contents of the pictures, read back from their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.image import imread

from nnunetv2_sam2_3dmed.files import write_png
from nnunetv2_sam2_3dmed.images.overlays import (
    CLASS_COLOURS,
    CaseOverlay,
    choose_slices,
    draw_overlay,
    intensity_window,
    mean_foreground_dice,
)

GREY = 0.5  # the image's constant intensity, in the middle of its window
FILL = 0.35


def overlay(synthetic: bool = False) -> CaseOverlay:
    """Slices of 40 x 40 mm; class 1 is a square of 20 x 20 mm, which one method finds and one misses."""
    truth = np.zeros((6, 20, 40), dtype=np.uint8)
    truth[:, 5:15, 10:30] = 1
    image = np.zeros(truth.shape)
    predictions = {"found": truth, "missed": np.zeros_like(truth)}
    return CaseOverlay(
        "case_7", image, truth, predictions, (3.0, 2.0, 1.0), {1: "liver", 2: "cyst"}, (-1, 1), synthetic
    )


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """The file's pixels, and each panel's, (rows, columns, rows of pixels, columns of pixels, 3)."""
    case = overlay()
    path = tmp_path_factory.mktemp("pictures") / "case_7.png"
    write_png(path, draw_overlay(case), 110)
    pixels = imread(path)[..., :3]
    height, width = pixels.shape[:2]
    panels = []
    for axes in draw_overlay(case).axes:
        box = axes.get_position()
        rows = slice(round((1 - box.y1) * height) + 2, round((1 - box.y0) * height) - 2)
        panels.append(pixels[rows, round(box.x0 * width) + 2 : round(box.x1 * width) - 2])
    return [panels[row * 4 : row * 4 + 4] for row in range(3)]


def blend(colour: str) -> np.ndarray:
    rgb = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return FILL * rgb + (1 - FILL) * GREY


def centre(panel: np.ndarray) -> np.ndarray:
    return panel[panel.shape[0] // 2, panel.shape[1] // 2]


def test_image_and_missed_panels_are_plain_grey(picture):
    for row in picture:
        for panel in (row[0], row[3]):
            assert np.ptp(panel, axis=-1).max() == 0
            assert centre(panel) == pytest.approx(GREY, abs=0.01)


def test_truth_and_found_panels_show_the_class_where_it_is(picture):
    for row in picture:
        for panel in (row[1], row[2]):
            coloured = np.abs(panel - blend(CLASS_COLOURS[0])).max(axis=-1) < 0.01
            assert coloured[coloured.shape[0] // 2, coloured.shape[1] // 2]
            # the square covers a quarter of the slice; its contour takes a little of that
            assert coloured.mean() == pytest.approx(0.25, abs=0.03)
            assert centre(panel[: panel.shape[0] // 5]) == pytest.approx(GREY, abs=0.01)


def test_the_contour_has_the_full_colour(picture):
    full = np.array([int(CLASS_COLOURS[0][k : k + 2], 16) / 255 for k in (1, 3, 5)])
    contour = np.abs(picture[0][1] - full).max(axis=-1) < 0.02
    assert 0.005 < contour.mean() < 0.1


def test_panels_have_the_proportions_of_the_slice_in_millimetres(picture):
    height, width = picture[0][0].shape[:2]  # 20 voxels of 2 mm by 40 of 1 mm
    assert height / width == pytest.approx(1, abs=0.02)


def test_titles_and_legend():
    figure = draw_overlay(overlay(synthetic=True))
    titles = [axes.get_title() for axes in figure.axes[:4]]
    # class 2 is in no volume and counts 1; class 1 is found wholly (1), or missed (0)
    assert titles == ["image", "ground truth", "found\nmean Dice 1.00", "missed\nmean Dice 0.50"]
    assert "case_7" in figure.get_suptitle() and "synthetic data" in figure.get_suptitle()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["liver", "cyst"]
    assert "synthetic" not in draw_overlay(overlay(synthetic=False)).get_suptitle()


def test_mean_dice_by_hand():
    truth = np.array([[[1, 1, 1, 2, 0, 0]]])
    prediction = np.array([[[1, 1, 0, 2, 2, 2]]])
    # class 1: 2 * 2 / (3 + 2); class 2: 2 * 1 / (1 + 3)
    assert mean_foreground_dice(truth, prediction, [1, 2]) == pytest.approx((0.8 + 0.5) / 2)
    assert mean_foreground_dice(truth, prediction, [1, 2, 3]) == pytest.approx((0.8 + 0.5 + 1) / 3)


def test_slices_come_from_all_parts_of_the_foreground_and_favour_small_classes():
    truth = np.zeros((12, 4, 4), dtype=np.uint8)
    truth[2:11] = 1  # slices 2 to 10: parts 2-4, 5-7 and 8-10
    truth[3, 0, 0] = truth[6, 0, 0] = truth[10, 0, 0] = 2
    assert choose_slices(truth) == [3, 6, 10]
    assert choose_slices(truth, count=1) == [3]


def test_slices_of_little_or_no_foreground():
    truth = np.zeros((9, 2, 2), dtype=np.uint8)
    assert choose_slices(truth) == [4]
    truth[7, 0, 0] = 1
    assert choose_slices(truth) == [7]


def test_windows():
    image = np.arange(1001.0)
    assert intensity_window(image, is_ct=True) == (-160, 240)
    assert intensity_window(image, is_ct=False) == pytest.approx((5, 995))
    low, high = intensity_window(np.zeros(5), is_ct=False)
    assert low < high
