import zipfile

import pytest
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.checkpoints import (
    CHECKPOINTS,
    MEDSAM2,
    WEIGHTS_VARIABLE,
    check_archive,
    identify_backbone,
    installed_checkpoint,
    sha256_of,
)
from nnunetv2_sam2_3dmed.network.sam2_modules import BACKBONES, build_sam2_base

TINY = "sam2.1_hiera_tiny"


def test_every_backbone_has_a_checkpoint_and_medsam2_is_a_tiny_one():
    assert set(CHECKPOINTS) == {*BACKBONES, MEDSAM2}
    assert all(CHECKPOINTS[name].backbone == name for name in BACKBONES)
    assert CHECKPOINTS[MEDSAM2].backbone == TINY


def test_addresses_are_those_of_meta_s_download_script():
    folder = "https://dl.fbaipublicfiles.com/segment_anything_2"
    assert CHECKPOINTS["sam2_hiera_base_plus"].address == f"{folder}/072824/sam2_hiera_base_plus.pt"
    assert CHECKPOINTS["sam2.1_hiera_large"].address == f"{folder}/092824/sam2.1_hiera_large.pt"


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_official_checkpoint_is_recognised(backbone):
    assert identify_backbone(build_sam2_base(backbone, 64).state_dict()) == backbone


def test_missing_weights_say_file_folder_command_and_the_way_without(monkeypatch, tmp_path):
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    with pytest.raises(UserError) as error:
        installed_checkpoint(TINY)
    message = str(error.value)
    for part in (f"{TINY}.pt", str(tmp_path), f"sam2_3dmed weights {TINY}", "SAM2_3dMedTrainer_noPretrain_tuned"):
        assert part in message


def test_sha256_against_a_published_example(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "abc") == expected


def test_a_changed_byte_in_a_tensor_is_noticed(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"model": {"a": torch.arange(1000.0)}}, path)
    check_archive(path)
    with zipfile.ZipFile(path) as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith("/data/0"))
    content = bytearray(path.read_bytes())
    content[entry.header_offset + 2000] ^= 1  # behind the entry's header, inside its 4000 bytes
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["model"]["a"].shape == (1000,), "torch does not notice"
    with pytest.raises(UserError, match="is damaged"):
        check_archive(path)
