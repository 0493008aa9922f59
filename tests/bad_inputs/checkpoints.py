"""Files given as checkpoints: damaged, of other models, or with objects that are not unpickled."""

from __future__ import annotations

import argparse
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any

import torch

from nnunetv2_sam2_3dmed.network.checkpoints import read_checkpoint
from nnunetv2_sam2_3dmed.nnunet.checkpoints import load_checkpoint
from tests.bad_inputs.row import Place, Row, said

SIGNATURE = {
    "image_encoder.trunk.patch_embed.proj.weight": torch.zeros(96, 3, 7, 7),
    "memory_attention.norm.weight": torch.zeros(256),
    "memory_encoder.pix_feat_proj.weight": torch.zeros(256, 256, 1, 1),
    "sam_mask_decoder.mask_tokens.weight": torch.zeros(4, 256),
}
SAM1 = {"image_encoder.patch_embed.proj.weight": torch.zeros(1), "mask_decoder.iou_token.weight": torch.zeros(1)}


def weights_of(content: Any):
    """``weights FILE`` of what torch.save makes of ``content``."""

    def make(place: Place):
        torch.save(content, place.folder / "mine.pt")
        return ["weights", "mine.pt"]

    return make


def segment_with(content: Any, name: str = "mine.pt"):
    """``segment`` with it as the model."""

    def make(place: Place):
        torch.save(content, place.folder / name)
        place.image("ct.nii.gz")
        words = ["--model", name, "-device", "cpu", "--box", "3,10,12:3,30,33"]
        return ["segment", "ct.nii.gz", "-o", "out.nii.gz", *words]

    return make


def spoiled(change: Callable[[bytes], bytes], command: str = "weights"):
    """A good file of which ``change`` makes another."""

    def make(place: Place):
        torch.save({"model": SIGNATURE}, place.folder / "mine.pt")
        file = place.folder / "mine.pt"
        file.write_bytes(change(file.read_bytes()))
        if command == "weights":
            return ["weights", "mine.pt"]
        place.image("ct.nii.gz")
        return ["segment", "ct.nii.gz", "-o", "a.nii", "--model", "mine.pt", "-device", "cpu", "--point", "3,2,2"]

    return make


def call(content: Any, read: Callable[[Any], Any]):
    """The reader alone."""

    def make(place: Place):
        torch.save(content, place.folder / "mine.pt")
        return lambda: read(place.folder / "mine.pt")

    return make


def archive(place: Place):
    with zipfile.ZipFile(place.folder / "model.zip", "w") as file:
        file.writestr("Dataset301_Tiny/plans.json", "{}")
    return ["weights", "model.zip"]


def script(place: Place):
    torch.jit.script(torch.nn.Linear(1, 1)).save(place.folder / "mine.pt")
    return ["weights", "mine.pt"]


def changed_byte(whole: bytes) -> bytes:
    """One in the middle of the largest tensor, which only the archive's checksum tells."""
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]


def installed_already(place: Place):
    place.write("weights/sam2.1_hiera_tiny.pt", b"precious")
    return ["weights", place.model, "--as", "sam2.1_hiera_tiny"]


ROWS = [
    Row("truncated", spoiled(lambda whole: whole[: len(whole) // 2]), said("mine.pt", "is truncated")),
    Row("truncated by a byte", spoiled(lambda whole: whole[:-1]), said("mine.pt", "is truncated")),
    Row("truncated as a model", spoiled(lambda whole: whole[:5000], "segment"), said("mine.pt", "is truncated")),
    Row("empty", spoiled(lambda whole: b""), said("mine.pt (0 bytes) is empty")),
    Row("a byte changed", spoiled(changed_byte), said("mine.pt")),
    Row("zeros", spoiled(lambda whole: bytes(5000)), said("mine.pt", "cannot be read as a checkpoint")),
    Row("a web page", spoiled(lambda whole: b"<!DOCTYPE html><html>Log in</html>"), said("is a web page")),
    Row("a web page as a model", spoiled(lambda whole: b"<html>404</html>", "segment"), said("is a web page")),
    Row("a pointer", spoiled(lambda whole: b"version https://git-lfs.github.com/spec/v1\n"), said("git lfs pull")),
    Row("safetensors", spoiled(lambda whole: (8).to_bytes(8, "little") + b'{"a":1} ' * 9), said("a safetensors file")),
    Row("text", spoiled(lambda whole: b"hello, this is a text of several words"), said("mine.pt")),
    Row("an exported model", archive, said("is a zip archive without weights")),
    Row("torchscript", script, said("is a TorchScript archive")),
    Row("of the first sam", weights_of(SAM1), said("the first Segment Anything")),
    Row("of the first sam as a model", segment_with(SAM1), said("the first Segment Anything")),
    Row("of hugging face", weights_of({"vision_encoder.backbone.x": torch.zeros(1)}), said("Hugging Face")),
    Row("of nnU-Net", weights_of({"network_weights": {}, "trainer_name": "nnUNetTrainer"}), said("one of nnU-Net")),
    Row(
        "of nnU-Net as a model",
        segment_with({"network_weights": {}, "trainer_name": "nnUNetTrainer", "init_args": {}}, "checkpoint_final.pth"),
        said("segments without prompts"),
    ),
    Row("a part", weights_of(dict(list(SIGNATURE.items())[:2])), said("it lacks the part memory_encoder")),
    Row("a list", weights_of([1, 2]), said("it holds a list")),
    Row("a tensor", weights_of(torch.zeros(3)), said("it holds a Tensor")),
    Row("nothing", weights_of({}), said("it has nothing")),
    Row("a number", weights_of({"model": 3}), said("it has 'model'")),
    Row("of another width", weights_of({"model": SIGNATURE}), said("width 96 and 0 blocks")),
    Row(
        "a namespace", weights_of({"model": {}, "args": argparse.Namespace(a=1)}), said("argparse.Namespace", "refused")
    ),
    Row("a path", weights_of({"model": {}, "from": pathlib.PurePosixPath("x")}), said("PurePosixPath", "refused")),
    Row("a module", weights_of(torch.nn.Linear(1, 1)), said("torch.nn.modules.linear.Linear", "refused")),
    Row("a module as a model", segment_with(torch.nn.Linear(1, 1)), said("Linear", "refused")),
    Row("installed already", installed_already, said("sam2.1_hiera_tiny.pt is installed already", "--force")),
    Row("not published", lambda p: ["weights", p.model], said("not a published file", "--as sam2.1_hiera_tiny")),
    Row(
        "of another size", lambda p: ["weights", p.model, "--as", "sam2.1_hiera_large"], said("sam2.1_hiera_large was")
    ),
    Row("as nothing known", lambda p: ["weights", p.model, "--as", "mine"], said("--as is 'mine'")),
    Row("python: a namespace", call({"a": argparse.Namespace()}, read_checkpoint), said("argparse.Namespace")),
    Row(
        "python: nnU-Net's with a class", call({"a": argparse.Namespace()}, load_checkpoint), said("argparse.Namespace")
    ),
    Row("python: nnU-Net's that is a list", call([], load_checkpoint), said("holds a list")),
]
for_installing = {"SAM2_3dMed_weights": "weights"}
ROWS = [
    Row(row.name, row.make, row.says, environment=for_installing) if row.name == "installed already" else row
    for row in ROWS
]
