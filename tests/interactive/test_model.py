import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive.model import choose_device, load_model
from tests.interactive.reference import SIZE, TINY


@pytest.fixture
def file(weights, tmp_path):
    path = tmp_path / f"{TINY}.pt"
    torch.save({"model": weights}, path)
    return path


def test_all_of_a_checkpoint_arrives(file, weights):
    model = load_model(file, SIZE)
    assert not model.training and model.image_size == SIZE
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_an_installed_one_is_found_by_its_name(file, monkeypatch):
    monkeypatch.setenv("SAM2_3dMed_weights", str(file.parent))
    assert load_model(TINY, SIZE).image_size == SIZE
    with pytest.raises(UserError, match="MedSAM2_latest.pt are not in .* install them with"):
        load_model("MedSAM2_latest", SIZE)


def test_what_cannot_be_loaded_is_refused(file, weights, tmp_path):
    with pytest.raises(UserError, match="model is 'sam3'"):
        load_model("sam3")
    with pytest.raises(UserError, match="there is no file"):
        load_model(tmp_path / "missing.pt")
    with pytest.raises(UserError, match="image_size is 500"):
        load_model(file, 500)
    with pytest.raises(UserError, match="image_size is 0"):
        load_model(file, 0)
    lacking = {name: value for name, value in weights.items() if "point_embeddings" not in name}
    torch.save({"model": lacking}, tmp_path / "lacking.pt")
    with pytest.raises(UserError, match="lacks sam_prompt_encoder.point_embeddings.0.weight, .* and 1 more"):
        load_model(tmp_path / "lacking.pt", SIZE)


def test_a_model_that_was_trained_here_is_refused_with_what_to_do_instead(tmp_path, make_network):
    content = {"network_weights": make_network().state_dict(), "_best_ema": np.float64(0.5), "current_epoch": 3}
    torch.save(content, tmp_path / "checkpoint_final.pth")
    with pytest.raises(UserError, match="segments without prompts.*--mask PREDICTION"):
        load_model(tmp_path / "checkpoint_final.pth", SIZE)


def test_devices():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UserError, match="device is 'gpu'"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA GPU here: use `cpu`"):
            choose_device("cuda")


def test_a_cuda_device_has_a_number_and_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (
        choose_device("auto") == choose_device("cuda") == choose_device(torch.device("cuda")) == torch.device("cuda", 1)
    )
    assert choose_device("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(UserError, match="device is 'cuda:2', but the last CUDA device here is 1"):
        choose_device("cuda:2")
