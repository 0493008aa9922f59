"""A checkpoint of nnU-Net serves the engine."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.orientation import LEFT
from nnunetv2_sam2_3dmed.images.volumes import volume_from_array
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.intensities import CT, ShownAs
from nnunetv2_sam2_3dmed.interactive.model import load_model
from nnunetv2_sam2_3dmed.interactive.trained_model import PROMPTED
from nnunetv2_sam2_3dmed.network.promptable_sam2 import build_promptable_sam2
from tests.prompt_training.conftest import SIZE

SHOWN = ShownAs(CT, -3.0, 2.0, mean=100.0, std=40.0, axis=2)


def promptable_checkpoint(file):
    """Write a ``SAM2_PromptTrainer_noPretrain_tuned`` checkpoint with random weights; return its content."""
    arguments = {"backbone": "sam2.1_hiera_tiny", "image_size": SIZE, "num_memories": 7, "dropout": 0.0}
    network = build_promptable_sam2(**arguments, fitted_windows=True)
    content = {
        "network_weights": network.state_dict(),
        "logging": {"mean_fg_dice": [np.float64(0.5)]},
        "init_args": {
            "plans": {"plans_name": "p"},
            "device": torch.device("cpu"),
            PROMPTED: {"network": {**arguments, "fitted_windows": True}, "shown_as": SHOWN.for_checkpoint()},
        },
        "trainer_name": "SAM2_PromptTrainer_noPretrain_tuned",
    }
    torch.save(content, file)
    return content


@pytest.fixture
def checkpoint(tmp_path):
    """A file as nnU-Net writes them; returns the file and its content."""
    file = tmp_path / "checkpoint_final.pth"
    return file, promptable_checkpoint(file)


def test_all_of_it_is_there(checkpoint):
    file, content = checkpoint
    model = load_model(file)
    assert not model.training and model.image_size == SIZE and model.shown_as == SHOWN
    for name, value in model.state_dict().items():
        assert torch.equal(value, content["network_weights"][name])
    # windows fitted to an image of 64 pixels: the second stage's grid is 8, the third's 4
    assert max(block.window_size for block in model.image_encoder.trunk.blocks) <= 8
    assert load_model(file, 96).image_size == 96


def test_images_are_shown_as_in_training_unless_asked_otherwise(checkpoint):
    session = InteractiveSession(checkpoint[0], "cpu", "float32")
    image = volume_from_array(np.arange(60.0).reshape(3, 4, 5), (1, 1, 1))
    session.set_image(image)
    assert session.window == (100 - 3 * 40, 100 + 2 * 40)
    assert session.learned_axis == 2 and session.image_size == SIZE
    session.set_image(image, window=(10, 40))
    assert session.window == (-10, 30)


@pytest.mark.parametrize(
    "reader, normals",
    [("NibabelIOWithReorient", (LEFT,)), ("SimpleITKIOWithReorient", (LEFT,)), ("SimpleITKIO", ()), ("NibabelIO", ())],
)
def test_of_models_that_did_not_note_an_axis_of_the_patient_the_reader_tells_it(checkpoint, reader, normals):
    file, content = checkpoint
    del content["init_args"][PROMPTED]["shown_as"]["normals"]
    content["init_args"]["plans"]["image_reader_writer"] = reader
    torch.save(content, file)
    assert load_model(file).shown_as == replace(SHOWN, normals=normals)


def test_weights_of_another_network_are_refused(checkpoint):
    file, content = checkpoint
    del content["network_weights"]["no_mem_embed"]
    torch.save(content, file)
    with pytest.raises(UserError, match="does not hold the weights of the network that it describes"):
        load_model(file)


def test_models_without_prompts_are_told_apart(checkpoint):
    file, content = checkpoint
    del content["init_args"][PROMPTED]
    torch.save(content, file)
    with pytest.raises(UserError, match="segments without prompts"):
        load_model(file)
