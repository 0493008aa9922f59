import numpy as np
import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.windows import CT_WINDOWS, Window, choose_window

CT = np.array([-1000.0, 0.0, 50.0, 3000.0]).reshape(1, 2, 2)
MR = np.array([0.0, 0.0, 50.0, 3000.0]).reshape(1, 2, 2)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    # width and level in the MedSAM2 paper: 80/40, 400/40, 1800/400, 1500/-600, 400/40
    [("brain", 0, 80), ("abdomen", -160, 240), ("bone", -500, 1300), ("lung", -1350, 150), ("mediastinum", -160, 240)],
)
def test_the_windows_are_medsam2s(name, low, high):
    assert choose_window(CT, name) == (low, high)
    assert name in CT_WINDOWS


def test_level_and_width():
    assert choose_window(CT, (50, 350)) == (-125, 225)


def test_what_is_shown_of_ct_and_mr_by_default():
    assert choose_window(CT, "auto") == (-160, 240)
    assert choose_window(MR, "auto", modality="CT") == (-160, 240)
    assert choose_window(MR, "auto") == choose_window(MR, "percentile")
    assert choose_window(CT, "auto", modality="MR") == choose_window(CT, "percentile")


def test_percentiles_are_those_of_the_foreground():
    image = np.concatenate([np.zeros(5000), np.arange(1, 1002)]).reshape(1, 1, -1)
    # of 1 to 1001, the 0.5 percentile is the value at place 5, the 99.5 that at place 995
    assert choose_window(image, "percentile") == pytest.approx((6, 996))


@pytest.mark.parametrize("image", [np.zeros((1, 2, 2)), np.full((1, 2, 2), 7), np.full((1, 2, 2), -7.5)])
def test_an_image_of_one_value_still_has_a_window(image):
    window = choose_window(image, "percentile")
    assert window.high > window.low


def test_greys_run_from_0_to_255():
    values = np.array([-2000, -160, -60, 40, 240, 2000], dtype=np.int16)
    assert Window(-160, 240).grey(values).tolist() == [0, 0, 64, 128, 255, 255]


@pytest.mark.parametrize("window", ["liver", (40, 0), (40, -3), (np.nan, 400)])
def test_what_is_no_window_is_refused(window):
    with pytest.raises(UserError, match="window"):
        choose_window(CT, window)
