"""Published SAM 2 checkpoints, their installed files, and reading them."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.safe_loading import load_safely

WEIGHTS_VARIABLE = "SAM2_3dMed_weights"
MEDSAM2 = "MedSAM2_latest"


class Checkpoint(NamedTuple):
    """A published checkpoint.

    Attributes:
        backbone: the network that it fits, a key of ``sam2_modules.BACKBONES``.
        address: where its authors publish it.
        sha256: of the published file; None where the authors replace the file from time to time.
    """

    backbone: str
    address: str
    sha256: str | None


_SHA256 = {
    "sam2_hiera_tiny": "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125",
    "sam2_hiera_small": "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3",
    "sam2_hiera_base_plus": "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071",
    "sam2_hiera_large": "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b",
    "sam2.1_hiera_tiny": "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    "sam2.1_hiera_small": "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
    "sam2.1_hiera_base_plus": "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    "sam2.1_hiera_large": "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
}


def _official_address(name: str) -> str:
    release = "092824" if name.startswith("sam2.1") else "072824"
    return f"https://dl.fbaipublicfiles.com/segment_anything_2/{release}/{name}.pt"


# name, which is that of the published file -> what is known of it
CHECKPOINTS = {name: Checkpoint(name, _official_address(name), sha256) for name, sha256 in _SHA256.items()}
CHECKPOINTS[MEDSAM2] = Checkpoint(
    "sam2.1_hiera_tiny", f"https://huggingface.co/wanglab/MedSAM2/resolve/main/{MEDSAM2}.pt", None
)

# tensors that every SAM 2 checkpoint has, one per part that is needed
_SIGNATURE = (
    "image_encoder.trunk.patch_embed.proj.weight",
    "memory_attention.norm.weight",
    "memory_encoder.pix_feat_proj.weight",
    "sam_mask_decoder.mask_tokens.weight",
)

_WRAPPINGS = ("model", "state_dict", "model_state_dict")
_PREFIXES = ("module", "_orig_mod", "model")


def weights_folder() -> Path:
    """Return the folder of installed checkpoints: ``$SAM2_3dMed_weights`` or ``~/.cache/sam2_3dmed``."""
    return Path(os.environ.get(WEIGHTS_VARIABLE) or Path.home() / ".cache" / "sam2_3dmed")


def installed_checkpoint(name: str) -> Path:
    """Return the installed checkpoint of that name.

    Raises:
        UserError: there is none.
    """
    path = weights_folder() / f"{name}.pt"
    if not path.is_file():
        raise UserError(
            f"the SAM 2 weights {path.name} are not in {path.parent}: install them with "
            f"`sam2_3dmed weights {name}` (or `sam2_3dmed weights FILE` for a file you have; {WEIGHTS_VARIABLE} "
            f"names another folder), or train from random weights with SAM2_3dMedTrainer_noPretrain_tuned, or, to take "
            f"prompts, SAM2_PromptTrainer_noPretrain_tuned."
        )
    return path


def sha256_file(checkpoint: Path) -> Path:
    """Return the file with the SHA-256 of an installed checkpoint, in the format of ``sha256sum``."""
    return checkpoint.with_name(f"{checkpoint.name}.sha256")


def recorded_sha256(checkpoint: Path) -> str | None:
    """Return the SHA-256 recorded when ``checkpoint`` was installed; None where nobody recorded one."""
    record = sha256_file(checkpoint)
    return record.read_text().split()[0] if record.is_file() else None


def record_sha256(checkpoint: Path, sha256: str, name: str | None = None) -> None:
    """Write the record, for a checkpoint that will be called ``name``."""
    write_text(sha256_file(checkpoint), f"{sha256}  {name or checkpoint.name}\n")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_archive(path: Path) -> None:
    """Check the checksums inside a checkpoint's file, which ``torch.load`` does not look at.

    Raises:
        UserError: a part of the file is damaged.
    """
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # zipfile raises whatever damaged bytes lead to
        raise UserError(f"{path} is damaged ({type(error).__name__}): fetch the file again.") from error
    if damaged is not None:
        raise UserError(f"{path} is damaged (the checksum of {damaged} is wrong): fetch the file again.")


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Read the state dict of SAM 2, in the official format or as trainings wrap it, without running code from it.

    Besides the official key "model", the state dict may stand alone, or under "state_dict" or "model_state_dict", and
    its names may have the prefixes of data parallel, compiled and Lightning modules.

    Raises:
        UserError: the file is missing, truncated, or holds something else.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}: give the path of a SAM 2 checkpoint (.pt).")
    content = load_safely(path, "a file of tensors in SAM 2's official format (`sam2_3dmed weights` installs one)")
    wrapped = next((content[key] for key in _WRAPPINGS if key in content), content) if _is_dict(content) else {}
    named = {name: value for name, value in wrapped.items() if isinstance(value, torch.Tensor)} if wrapped else {}
    weights = _without_prefixes(named)
    if not set(_SIGNATURE) <= set(weights):
        raise UserError(
            f"{path} is not a SAM 2 checkpoint: {_what(content, weights)}, but a dictionary with the key 'model' that "
            f"holds a SAM 2 state dict (image_encoder.trunk...) is needed; known ones are {', '.join(CHECKPOINTS)}."
        )
    return weights


def _is_dict(content: Any) -> bool:
    return isinstance(content, dict) and all(isinstance(content.get(key, {}), dict) for key in _WRAPPINGS)


def _without_prefixes(named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of SAM 2 under their own names; others that a training keeps beside them are left out."""
    first = _SIGNATURE[0]
    prefix = next((name.removesuffix(first) for name in named if str(name).endswith(f".{first}")), "")
    parts = prefix.split(".")[:-1]
    if not prefix or first in named or not set(parts) <= set(_PREFIXES):
        return named
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def _what(content: Any, weights: dict[str, torch.Tensor]) -> str:
    """The content of a file that is no checkpoint of SAM 2, in words."""
    if not isinstance(content, dict):
        return f"it holds a {type(content).__name__}"
    if "network_weights" in content:
        return f"it is one of nnU-Net, trained by {content.get('trainer_name', 'an unknown trainer')}"
    if "image_encoder.patch_embed.proj.weight" in weights:
        return "it is one of the first Segment Anything (SAM or MedSAM), another network"
    if any(str(name).startswith("vision_encoder.") for name in weights):
        return "it is one of Hugging Face's transformers, with other names"
    missing = [name.partition(".")[0] for name in _SIGNATURE if name not in weights]
    if 0 < len(missing) < len(_SIGNATURE):
        return f"it lacks the part {missing[0]}"
    return f"it has {', '.join(map(repr, list(content)[:3])) or 'nothing'}"


def identify_backbone(weights: dict[str, torch.Tensor], path: Path | None = None) -> str:
    """Identify the backbone of a checkpoint from its width, its depth and SAM 2.1's extra tensors.

    Args:
        weights: the state dict.
        path: its file, for the message.

    Raises:
        UserError: it is none of the official ones.
    """
    width = weights["image_encoder.trunk.patch_embed.proj.weight"].shape[0]
    depth = len({name.split(".")[3] for name in weights if name.startswith("image_encoder.trunk.blocks.")})
    sizes = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base_plus", (144, 48): "large"}
    if (width, depth) not in sizes:
        raise UserError(
            f"the trunk of {path or 'the checkpoint'} has width {width} and {depth} blocks, expected one of "
            f"{', '.join(f'{name} {size}' for size, name in sizes.items())}: take an official SAM 2 checkpoint."
        )
    version = "2.1" if "obj_ptr_tpos_proj.weight" in weights else "2"
    return f"sam{version}_hiera_{sizes[width, depth]}"
