import argparse
import zipfile

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.checkpoints import (
    _SIGNATURE,
    CHECKPOINTS,
    MEDSAM2,
    WEIGHTS_VARIABLE,
    check_archive,
    identify_backbone,
    installed_checkpoint,
    read_checkpoint,
    sha256_of,
)
from nnunetv2_sam2_3dmed.network.sam2_modules import BACKBONES, build_sam2_base
from nnunetv2_sam2_3dmed.nnunet.checkpoints import load_checkpoint

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


# ---- other files than the official ones


@pytest.fixture(scope="module")
def weights():
    return {name: torch.zeros(1) for name in _SIGNATURE} | {"image_encoder.neck.bias": torch.ones(2)}


def saved(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: {"model": w},
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {"model_state_dict": w, "best": np.float64(0.5), "history": np.arange(3.0)},
        lambda w: {"model": w, "losses": [np.float32(1), np.int64(2), np.bool_(True)], "type": np.dtype("float32")},
        lambda w: {"model": {f"module.{name}": value for name, value in w.items()}},
        lambda w: {f"module._orig_mod.{name}": value for name, value in w.items()},
        lambda w: {"state_dict": {f"model.{n}": v for n, v in w.items()} | {"loss.weight": torch.ones(1)}},
    ],
    ids=["official", "alone", "state_dict", "model_state_dict", "numpy scalars", "module", "compiled", "lightning"],
)
def test_state_dicts_as_trainings_wrap_them(tmp_path, weights, wrap):
    read = read_checkpoint(saved(tmp_path / "a.pt", wrap(weights)))
    assert set(read) == set(weights)
    assert torch.equal(read["image_encoder.neck.bias"], torch.ones(2))


SAM1 = {"image_encoder.patch_embed.proj.weight": torch.zeros(1), "prompt_encoder.not_a_point_embed.weight": 0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SAM1, "the first Segment Anything"),
        ({"model": {"vision_encoder.backbone.a": torch.zeros(1)}}, "Hugging Face's transformers"),
        ({"network_weights": {}, "trainer_name": "nnUNetTrainer"}, "one of nnU-Net, trained by nnUNetTrainer"),
        ({name: torch.zeros(1) for name in _SIGNATURE[:1]}, "lacks the part memory_attention"),
        ([torch.zeros(1)], "it holds a list"),
        ({"model": 3}, "it has 'model'"),
        ({}, "it has nothing"),
    ],
)
def test_other_models_are_named(tmp_path, content, message):
    with pytest.raises(UserError, match=f"is not a SAM 2 checkpoint: .*{message}"):
        read_checkpoint(saved(tmp_path / "a.pt", content))


@pytest.mark.parametrize("load", [read_checkpoint, load_checkpoint])
@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"model": {}, "args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    ],
)
def test_the_class_that_is_refused_is_named(tmp_path, load, content, named):
    with pytest.raises(UserError, match=f"needs {named} to be unpickled, which is refused") as error:
        load(saved(tmp_path / "a.pt", content))
    assert "truncated" not in str(error.value)


@pytest.mark.parametrize("load", [read_checkpoint, load_checkpoint])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda whole: whole[: len(whole) // 2], "is truncated"),
        (lambda whole: whole[:-1], "is truncated"),
        (lambda whole: b"", "is empty"),
        (lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of git LFS"),
        (lambda whole: b"\n<!DOCTYPE html><html>sign in", "a web page"),
        (lambda whole: (9).to_bytes(8, "little") + b'{"a": {} }' + bytes(8), "a safetensors file"),
        (lambda whole: bytes(1000), "cannot be read as a checkpoint"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, weights, load, spoil, message):
    path = saved(tmp_path / "a.pt", {"model": weights})
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=f"a.pt .*{message}.*; expected") as error:
        load(path)
    assert str(error.value).count("\n") == 0


def test_archives_that_are_no_checkpoints(tmp_path, weights):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("Dataset/plans.json", "{}")
    with pytest.raises(UserError, match="is a zip archive without weights"):
        read_checkpoint(tmp_path / "a.pt")
    torch.save({"model": weights}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert set(read_checkpoint(tmp_path / "old.pt")) == set(weights)
    assert set(load_checkpoint(tmp_path / "old.pt")) == {"model"}
    old = (tmp_path / "old.pt").read_bytes()
    (tmp_path / "old.pt").write_bytes(old[: len(old) // 2])
    with pytest.raises(UserError, match="old.pt .*(is truncated|may be damaged)"):
        read_checkpoint(tmp_path / "old.pt")


@pytest.mark.parametrize("read", [read_checkpoint, load_checkpoint, check_archive])
def test_whatever_a_damaged_directory_makes_zipfile_raise_is_a_sentence(tmp_path, read):
    file = tmp_path / "model.pt"
    torch.save({"model": {f"w{i}": torch.zeros(5) for i in range(5)}}, file)
    whole, random = file.read_bytes(), np.random.default_rng(0)
    start = whole.index(b"PK\x01\x02")  # of the directory at the end
    said = set()
    for _ in range(200):
        content = bytearray(whole)
        for place in random.integers(start, len(whole), 3):
            content[place] = random.integers(256)
        file.write_bytes(content)
        try:
            read(file)
        except UserError as error:
            said.add(str(error).removeprefix(str(file)).partition(":")[0])
    assert any("damaged" in one for one in said)
