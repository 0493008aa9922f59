"""A checkpoint of nnU-Net serves the engine."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra import initialize_config_module
from sam2.build_sam import build_sam2_video_predictor

from nnunetv2_sam2_3dmed.commands.main import main
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


def promptable_checkpoint(file, **changes):
    """Write a ``SAM2_PromptTrainer_noPretrain_tuned`` checkpoint with random weights; return its content."""
    arguments = {"backbone": "sam2.1_hiera_tiny", "image_size": SIZE, "num_memories": 7, "dropout": 0.0}
    arguments |= {"fitted_windows": True, **changes}
    network = build_promptable_sam2(**arguments)
    content = {
        "network_weights": network.state_dict(),
        "logging": {"mean_fg_dice": [np.float64(0.5)]},
        "init_args": {
            "plans": {"plans_name": "p"},
            "device": torch.device("cpu"),
            PROMPTED: {"network": arguments, "shown_as": SHOWN.for_checkpoint()},
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


# ---- for SAM 2's own code


def test_sam2_loads_an_exported_model_and_encodes_as_it_does(tmp_path):
    file, exported = tmp_path / "checkpoint_final.pth", tmp_path / "exported.pt"
    promptable_checkpoint(file, fitted_windows=False)
    assert main(["weights", str(file), "--export", str(exported)]) == 0
    # it raises where a tensor is missing or too much
    with initialize_config_module("sam2", version_base="1.2"):
        official = build_sam2_video_predictor(
            "configs/sam2.1/sam2.1_hiera_t.yaml",
            str(exported),
            device="cpu",
            hydra_overrides_extra=[f"++model.image_size={SIZE}"],
        )
    image = torch.rand(1, 3, SIZE, SIZE)
    with torch.no_grad():
        features, ours = (model.forward_image(image)["vision_features"] for model in (official, load_model(file)))
    assert torch.equal(features, ours)


def test_an_exported_model_can_be_installed_and_says_what_sam2_must_be_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SAM2_3dMed_weights", str(tmp_path / "weights"))
    file, exported = tmp_path / "checkpoint_final.pth", tmp_path / "mine.pt"
    promptable_checkpoint(file, several_candidates=False, num_memories=6)
    assert main(["weights", str(file), "--export", str(exported)]) == 0
    said = capsys.readouterr().out
    for part in ("image_size to that", "window_spec", "multimask_output_in_sam to false", "6 memories"):
        assert part in said
    assert main(["weights", str(file), "--export", str(exported)]) == 2, "not replaced without --force"
    promptable_checkpoint(file)
    assert main(["weights", str(file), "--export", str(exported), "--force"]) == 0
    assert main(["weights", str(exported), "--as", "sam2.1_hiera_tiny"]) == 0
    assert (tmp_path / "weights" / "sam2.1_hiera_tiny.pt").is_file()


def test_other_models_and_names_are_not_exported(checkpoint, tmp_path, capsys):
    file, content = checkpoint
    assert main(["weights", str(file), "--export", str(tmp_path / "mine.pth")]) == 2
    assert main(["weights", str(file), "--export", str(tmp_path / "mine.pt"), "--as", "sam2.1_hiera_tiny"]) == 2
    del content["init_args"][PROMPTED]
    torch.save(content, file)
    assert main(["weights", str(file), "--export", str(tmp_path / "mine.pt")]) == 2
    assert "can be exported" in capsys.readouterr().err and not (tmp_path / "mine.pt").exists()
