import pytest
import torch

from nnunetv2_sam2_3dmed.commands import weights
from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.network.sam2_modules import BACKBONES, build_sam2_base


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM2_3dMed_weights", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def brought(tmp_path):
    path = tmp_path / "from_a_stick.pt"
    torch.save({"model": build_sam2_base("sam2_hiera_tiny", 64).state_dict()}, path)
    return path


def test_a_file_is_installed_under_the_name_of_its_backbone(folder, brought, capsys):
    assert main(["weights", str(brought)]) == 0
    assert [p.name for p in folder.iterdir()] == ["sam2_hiera_tiny.pt"]
    assert (folder / "sam2_hiera_tiny.pt").read_bytes() == brought.read_bytes()


def test_an_installed_one_is_replaced_only_by_force(folder, brought, capsys):
    assert main(["weights", str(brought)]) == 0
    assert main(["weights", str(brought)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["weights", str(brought), "--force"]) == 0


def test_a_broken_file_leaves_nothing_behind(folder, brought, capsys):
    brought.write_bytes(brought.read_bytes()[:1000])
    assert main(["weights", str(brought)]) == 2
    assert f"{brought} (1000 bytes) cannot be read" in capsys.readouterr().err
    assert not folder.exists() or list(folder.iterdir()) == []


def test_a_download_is_checked_against_what_was_asked_for(folder, brought, capsys, monkeypatch):
    addresses = []

    def fetch(address, path):
        addresses.append(address)
        path.write_bytes(brought.read_bytes())

    monkeypatch.setattr(weights, "download", fetch)
    assert main(["weights", "sam2.1_hiera_tiny"]) == 2
    assert "is sam2_hiera_tiny, but sam2.1_hiera_tiny was asked for" in capsys.readouterr().err
    assert main(["weights", "sam2_hiera_tiny"]) == 0
    assert addresses[1] == "https://dl.fbaipublicfiles.com/segment_anything_2/072824/sam2_hiera_tiny.pt"


def test_unknown_names_are_answered_with_the_known_ones(folder, capsys):
    assert main(["weights", "sam3"]) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in BACKBONES)
