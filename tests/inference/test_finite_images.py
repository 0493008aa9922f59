"""Images with NaN or infinite voxels are told by name, and do not stop the others."""

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.inference.finite_images import FiniteImages, is_finite
from tests.inference.test_predictor import Counting, predictor_for


def image(value: float = 0.0) -> torch.Tensor:
    made = torch.zeros(2, 3, 4, 5)
    made[1, 2, 3, 4] = value
    return made


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_voxel_is_enough(value):
    assert is_finite(image(3e38)) and not is_finite(image(value))


def test_others_are_predicted_and_the_names_come_last(tmp_path, capsys):
    file = tmp_path / "c.npy"
    np.save(file, image(float("inf")).numpy())
    cases = [
        {"data": image(), "ofile": "out/a"},
        {"data": image(float("nan")), "ofile": "out/b"},
        {"data": str(file), "ofile": "out/c"},
        {"data": image(1.0), "ofile": "out/d"},
    ]
    images = FiniteImages(cases)
    assert [case["ofile"] for case in images] == ["out/a", "out/d"]
    assert not file.exists()
    assert "b is not predicted" in capsys.readouterr().out
    with pytest.raises(UserError, match="^b, c is not predicted, because it has NaN"):
        images.check()


def test_nothing_is_said_where_nothing_is_wrong(tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, image().numpy())
    images = FiniteImages([{"data": str(file), "ofile": "out/a"}])
    assert len(list(images)) == 1 and file.exists()  # nnU-Net reads and removes it
    images.check()


def test_results_that_are_returned_are_not_counted_wrong():
    with pytest.raises(UserError, match="image number 1 is not predicted"):
        list(FiniteImages([{"data": image(), "ofile": None}, {"data": image(float("nan")), "ofile": None}]))


def test_the_predictor_refuses_one_image_at_a_time():
    predictor = predictor_for(Counting())
    predictor.list_of_parameters = [predictor.network.state_dict()]
    data = torch.zeros(1, 4, 24, 20)
    assert torch.isfinite(predictor.predict_logits_from_preprocessed_data(data)).all()
    data[0, 1, 2, 3] = float("nan")
    with pytest.raises(UserError, match="the image is not predicted, because it has NaN"):
        predictor.predict_logits_from_preprocessed_data(data)
