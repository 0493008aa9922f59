"""A grey level means the same for a user's image as for nnU-Net's normalised one."""

import numpy as np
import pytest
import torch
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.normalization import default_normalization_schemes as nnunet
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.orientation import view_along
from nnunetv2_sam2_3dmed.interactive.intensities import ShownAs, shown_as
from nnunetv2_sam2_3dmed.prompt_training.stacks import StackMaker
from nnunetv2_sam2_3dmed.training.targets import TargetMaker

STATISTICS = {"mean": 100.0, "std": 40.0, "percentile_00_5": -40.0, "percentile_99_5": 180.0}


def plans(scheme: str, channels: int = 1, masked: bool = False) -> PlansManager:
    configuration = {"normalization_schemes": [scheme], "use_mask_for_norm": [masked], "architecture": {}}
    return PlansManager(
        {
            "plans_name": "p",
            "dataset_name": "Dataset001_X",
            "transpose_forward": [2, 0, 1],
            "foreground_intensity_properties_per_channel": {"0": STATISTICS},
            "configurations": {"3d": configuration},
        }
    )


def made(scheme: str, channels: int = 1, masked: bool = False, ends=(-3.0, 3.0)) -> ShownAs:
    manager = plans(scheme, channels, masked)
    return shown_as(manager, manager.get_configuration("3d"), ends, channels)


@pytest.mark.parametrize(
    "scheme, ends",
    [
        ("CTNormalization", (-3.0, 3.0)),
        ("ZScoreNormalization", (-3.0, 3.0)),
        ("RescaleTo01Normalization", (0.0, 1.0)),
        ("NoNormalization", (-190.0, 350.0)),  # three standard deviations of 90 around 80
    ],
)
def test_the_window_shows_what_training_showed(scheme, ends):
    array = np.zeros((6, 10, 12), dtype=np.float32)  # nnU-Net takes the box around all that is not 0
    array[1:, 2:, 3:] = np.random.default_rng(0).normal(80, 90, size=(5, 8, 9))
    shown = made(scheme, ends=ends)
    data, seg, box = crop_to_nonzero(array[None], None)
    normalised = getattr(nnunet, scheme)(False, STATISTICS).run(data[0].copy(), seg[0])
    trained = np.clip((normalised - shown.low) / (shown.high - shown.low), 0, 1) * 255
    prompted = shown.window(array).grey(array)[tuple(slice(*ends) for ends in box)]
    assert np.abs(trained - prompted).max() <= 0.51  # grey levels are whole
    assert 0 < np.median(prompted) < 255
    assert shown.axis == 2


def test_masked_z_scores_are_those_of_the_body():
    array = np.zeros((4, 6, 6), dtype=np.float32)
    array[1:3, 1:5, 1:5] = np.random.default_rng(0).uniform(300, 500, size=(2, 4, 4))
    array[1, 1, 1] = 0  # in the box, outside of the body
    body = array[array > 0]
    window = made("ZScoreNormalization", masked=True).window(array)
    assert window.low == pytest.approx(body.mean() - 3 * body.std(), rel=1e-4)
    assert window.high == pytest.approx(body.mean() + 3 * body.std(), rel=1e-4)


def test_it_survives_a_checkpoint():
    shown = made("CTNormalization")
    assert ShownAs(**shown.for_checkpoint()) == shown
    assert shown.low == -3.0 and shown.high == pytest.approx(2.0)  # nnU-Net clips at 180


def test_what_cannot_be_prompted_is_said():
    with pytest.raises(UserError, match="have 2 channels"):
        made("CTNormalization", channels=2)
    with pytest.raises(UserError, match="normalised by OwnNormalization"):
        made("OwnNormalization")


def test_zeros_around_the_body_are_black_in_both():
    array = np.zeros((6, 12, 12), dtype=np.float32)
    array[1:5, 2:10, 2:10] = np.random.default_rng(0).normal(100, 30, size=(4, 8, 8))
    array[1:5, 2:5, 2:5] = 0  # a corner of the box, outside of the body
    array[2, 7, 7] = 0  # inside of it
    shown = made("ZScoreNormalization")
    data, seg, box = crop_to_nonzero(array[None], None)
    normalised = torch.from_numpy(nnunet.ZScoreNormalization(False, {}).run(data[0].copy(), seg[0]))
    stacks = StackMaker(TargetMaker([1], None), shown, [0, 1, 2])(
        normalised[None, None], torch.from_numpy(seg)[None].float(), [view_along(np.eye(3), 0)]
    )
    session_sees = shown.window(array).grey(array)
    session_sees[shown.outside(array)] = 0
    assert np.abs(stacks.grey[0].numpy() * 255 - session_sees[tuple(slice(*ends) for ends in box)]).max() <= 0.51
    assert session_sees[1, 3, 3] == 0 < session_sees[2, 7, 7]
    assert made("ZScoreNormalization").outside(array[1:5, 5:10, 5:10]) is None
