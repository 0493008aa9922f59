import hashlib

import pytest
import torch

import nnunetv2_sam2_3dmed.download
from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.network import checkpoints
from nnunetv2_sam2_3dmed.network.checkpoints import CHECKPOINTS, MEDSAM2
from nnunetv2_sam2_3dmed.network.sam2_modules import build_sam2_base


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM2_3dMed_weights", str(tmp_path / "weights"))
    return tmp_path / "weights"


def write_official(path, backbone):
    torch.save({"model": build_sam2_base(backbone, 64).state_dict()}, path)
    return path


@pytest.fixture
def brought(tmp_path):
    return write_official(tmp_path / "from_a_stick.pt", "sam2_hiera_tiny")


@pytest.fixture
def published(brought, monkeypatch):
    """The file brought is what the official address of SAM 2.0 tiny gives; returns the addresses asked."""
    sha256 = hashlib.sha256(brought.read_bytes()).hexdigest()
    known = CHECKPOINTS["sam2_hiera_tiny"]._replace(sha256=sha256)
    monkeypatch.setitem(checkpoints.CHECKPOINTS, "sam2_hiera_tiny", known)
    addresses = []

    def fetch(address, partial):
        addresses.append(address)
        partial.write_bytes(brought.read_bytes())

    monkeypatch.setattr(nnunetv2_sam2_3dmed.download, "download", fetch)
    return addresses


def test_a_published_file_is_known_by_its_sha256(folder, published, brought, capsys):
    assert main(["weights", str(brought)]) == 0
    assert (folder / "sam2_hiera_tiny.pt").read_bytes() == brought.read_bytes()
    sha256 = hashlib.sha256(brought.read_bytes()).hexdigest()
    assert (folder / "sam2_hiera_tiny.pt.sha256").read_text() == f"{sha256}  sam2_hiera_tiny.pt\n"
    assert len(list(folder.iterdir())) == 2
    assert sha256 in capsys.readouterr().out


def test_another_file_is_installed_only_under_a_name_that_the_user_gives(folder, brought, capsys):
    assert main(["weights", str(brought)]) == 2
    message = capsys.readouterr().err
    assert "not a published file" in message and "--as sam2_hiera_tiny" in message and not folder.exists()
    assert main(["weights", str(brought), "--as", "sam2_hiera_tiny"]) == 0
    assert (folder / "sam2_hiera_tiny.pt").read_bytes() == brought.read_bytes()


def test_as_is_for_files(folder, capsys):
    assert main(["weights", "sam2_hiera_tiny", "--as", "sam2_hiera_tiny"]) == 2
    assert "--as is for a file of yours" in capsys.readouterr().err


def test_medsam2_keeps_its_name(folder, tmp_path, capsys):
    path = write_official(tmp_path / f"{MEDSAM2}.pt", "sam2.1_hiera_tiny")
    assert main(["weights", str(path)]) == 0
    assert main(["weights", str(path), "--as", "sam2.1_hiera_tiny"]) == 0
    assert {p.stem for p in folder.glob("*.pt")} == {MEDSAM2, "sam2.1_hiera_tiny"}


def test_a_name_that_does_not_fit_is_refused(folder, brought, capsys):
    assert main(["weights", str(brought), "--as", MEDSAM2]) == 2
    assert "holds sam2_hiera_tiny, but sam2.1_hiera_tiny was expected" in capsys.readouterr().err
    assert main(["weights", str(brought), "--as", "mine"]) == 2
    assert "--as is 'mine'" in capsys.readouterr().err


def test_an_installed_one_is_replaced_only_by_force(folder, published, brought, capsys):
    assert main(["weights", str(brought)]) == 0
    assert main(["weights", str(brought)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["weights", str(brought), "--force"]) == 0


def test_a_broken_file_leaves_nothing_behind(folder, brought, capsys):
    brought.write_bytes(brought.read_bytes()[:1000])
    assert main(["weights", str(brought)]) == 2
    assert f"{brought} (1000 bytes) is truncated" in capsys.readouterr().err
    assert not folder.exists() or list(folder.iterdir()) == []


def test_a_download_comes_from_the_official_address(folder, published, brought):
    assert main(["weights", "sam2_hiera_tiny"]) == 0
    assert published == ["https://dl.fbaipublicfiles.com/segment_anything_2/072824/sam2_hiera_tiny.pt"]
    # a lock that was removed could be held twice
    assert {p.name for p in folder.iterdir()} == {
        "sam2_hiera_tiny.pt",
        "sam2_hiera_tiny.pt.sha256",
        ".sam2_hiera_tiny.lock",
    }


def test_a_download_that_is_not_the_published_file_is_thrown_away(folder, published, capsys):
    assert main(["weights", "sam2.1_hiera_tiny"]) == 2
    assert CHECKPOINTS["sam2.1_hiera_tiny"].sha256 in capsys.readouterr().err
    assert [file.name for file in folder.iterdir()] == [".sam2.1_hiera_tiny.lock"]


def test_a_download_is_kept_if_the_command_is_interrupted_while_it_is_checked(folder, published, brought, monkeypatch):
    def interrupted(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "sha256_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            main(["weights", "sam2_hiera_tiny"])
    assert (folder / "sam2_hiera_tiny.pt.partial").read_bytes() == brought.read_bytes()
    assert main(["weights", "sam2_hiera_tiny"]) == 0
    assert not (folder / "sam2_hiera_tiny.pt.partial").exists()


def test_a_download_without_a_published_sha256_must_still_fit(folder, published, capsys):
    assert main(["weights", MEDSAM2]) == 2
    assert "holds sam2_hiera_tiny, but sam2.1_hiera_tiny was expected" in capsys.readouterr().err


def test_unknown_names_are_answered_with_the_known_ones(folder, capsys):
    assert main(["weights", "sam3"]) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in CHECKPOINTS)
