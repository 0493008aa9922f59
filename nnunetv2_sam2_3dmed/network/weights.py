"""Official SAM 2 checkpoints: where they lie, and how they get into the network."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.mask_propagation import MaskPropagation
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.network.sam2_modules import BACKBONES

WEIGHTS_VARIABLE = "SAM2_3dMed_weights"
# tensors that every SAM 2 checkpoint has, one per part that is needed
_SIGNATURE = (
    "image_encoder.trunk.patch_embed.proj.weight",
    "memory_attention.norm.weight",
    "memory_encoder.pix_feat_proj.weight",
    "sam_mask_decoder.mask_tokens.weight",
)


def weights_folder() -> Path:
    """Where checkpoints are installed: ``$SAM2_3dMed_weights`` or ``~/.cache/sam2_3dmed``."""
    return Path(os.environ.get(WEIGHTS_VARIABLE) or Path.home() / ".cache" / "sam2_3dmed")


def installed_checkpoint(backbone: str) -> Path:
    """The installed checkpoint for a backbone.

    Raises:
        UserError: there is none.
    """
    path = weights_folder() / f"{backbone}.pt"
    if not path.is_file():
        raise UserError(
            f"the SAM 2 weights {path.name} are not in {path.parent}: install them with "
            f"`sam2_3dmed weights {backbone}` (or `sam2_3dmed weights FILE` for a file you have; {WEIGHTS_VARIABLE} "
            f"names another folder), or train from scratch with SAM2_3dMedTrainer_noPretrain."
        )
    return path


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Reads a checkpoint in SAM 2's official format, without running code from it.

    Raises:
        UserError: the file is missing, truncated, or holds something else.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}: give the path of a SAM 2 checkpoint (.pt).")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise UserError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as a checkpoint, it may be truncated: "
            f"expected a file of tensors in SAM 2's official format; install it again with `sam2_3dmed weights` "
            f"({type(error).__name__})."
        ) from error
    weights = content.get("model") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not set(_SIGNATURE) <= set(weights):
        raise UserError(
            f"{path} is not a SAM 2 checkpoint: expected a dictionary with the key 'model' that holds a SAM 2 "
            f"state dict (image_encoder.trunk...); known ones are {', '.join(BACKBONES)}."
        )
    return weights


def identify_backbone(weights: dict[str, torch.Tensor]) -> str:
    """The backbone that a checkpoint belongs to, from its width, its depth and SAM 2.1's extra tensors.

    Raises:
        UserError: it is none of the official ones.
    """
    width = weights["image_encoder.trunk.patch_embed.proj.weight"].shape[0]
    depth = len({name.split(".")[3] for name in weights if name.startswith("image_encoder.trunk.blocks.")})
    sizes = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base_plus", (144, 48): "large"}
    if (width, depth) not in sizes:
        raise UserError(
            f"the checkpoint's trunk has width {width} and {depth} blocks, expected one of "
            f"{', '.join(f'{name} {size}' for size, name in sizes.items())}: take an official SAM 2 checkpoint."
        )
    version = "2.1" if "obj_ptr_tpos_proj.weight" in weights else "2"
    return f"sam{version}_hiera_{sizes[width, depth]}"


class ComponentReport(NamedTuple):
    """How many tensors of a component were taken as they are, taken with changes, and left fresh."""

    component: str
    taken: int
    adapted: int
    fresh: int


def _propagation_sources(branch: MaskPropagation, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Values for a branch's tensors, by their names in the branch, from SAM 2's names."""
    renamed = {
        "memory_attention.": "memory_attention.",
        "memory_encoder.": "memory_encoder.",
        "sam_mask_decoder.": "mask_decoder.",
        "obj_ptr_proj.": "pointer_projection.",
        "obj_ptr_tpos_proj.": "pointer_distance_projection.",
        "maskmem_tpos_enc": "memory_age",
        "no_mem_embed": "no_memory",
        "sam_prompt_encoder.pe_layer.": "position_encoding.",
        "sam_prompt_encoder.not_a_point_embed.": "no_point.",
        "sam_prompt_encoder.no_mask_embed.": "no_mask.",
    }
    found = {}
    for name, value in weights.items():
        for theirs, ours in renamed.items():
            if name.startswith(theirs):
                found[ours + name[len(theirs) :]] = value
    # one mask token of ours for each class, all from SAM 2's token for a single mask (the first)
    token = "mask_decoder.mask_tokens.weight"
    found["candidate_tokens"] = found[token][1:]
    found[token] = found[token][:1].expand(branch.num_masks, -1)
    network = "mask_decoder.output_hypernetworks_mlps."
    first = {n[len(network) + 1 :]: v for n, v in found.items() if n.startswith(network + "0.")}
    for k in range(branch.num_masks):
        found.update({f"{network}{k}{rest}": value for rest, value in first.items()})
    # K mask channels share the weights of the one: K equal masks encode as that one mask did
    downsampler = "memory_encoder.mask_downsampler.encoder.0.weight"
    found[downsampler] = found[downsampler].expand(-1, branch.num_masks, -1, -1) / branch.num_masks
    # the last entry is that of the conditioning slice, whatever the number of memories
    ages = found["memory_age"]
    found["memory_age"] = torch.cat([ages[: branch.num_memories - 1], ages[-1:]])
    return found


_ADAPTED = ("mask_tokens.", "output_hypernetworks_mlps.", "mask_downsampler.encoder.0.weight")


def _load(component: str, module: nn.Module, values: dict[str, torch.Tensor], source: Path) -> ComponentReport:
    own = module.state_dict()
    wrong = [n for n, v in own.items() if n in values and values[n].shape != v.shape]
    if wrong:
        name = wrong[0]
        raise UserError(
            f"{source} does not fit the backbone in the plan: {len(wrong)} tensors of {component} differ in shape, "
            f"the first is {name}, {tuple(values[name].shape)} in the file and {tuple(own[name].shape)} in the "
            f"network; install the checkpoint that the plan names or plan again with `sam2_3dmed plan --backbone`."
        )
    found = {n: values[n].clone() for n in own if n in values}
    module.load_state_dict(found, strict=False)
    several = isinstance(module, MaskPropagation) and module.num_masks > 1
    adapted = sum(1 for n in found if several and any(part in n for part in _ADAPTED))
    return ComponentReport(component, len(found) - adapted, adapted, len(own) - len(found))


def load_sam2_weights(network: SAM2_3dMed, path: Path) -> list[ComponentReport]:
    """Fills the encoder and both branches from an official SAM 2 or 2.1 checkpoint, or MedSAM2's.

    Mask tokens and their hypernetworks are copied for each class, the memory encoder's mask input is spread
    over the classes; SRPP, BD fusion and a learned mix of input channels stay as they are.

    Args:
        network: the network; its tensors are changed in place.
        path: the checkpoint.

    Returns:
        A report per component.

    Raises:
        UserError: the file cannot be read, is no SAM 2 checkpoint, or belongs to another backbone.
    """
    weights = read_checkpoint(path)
    backbone = identify_backbone(weights)
    if backbone != network.backbone:
        raise UserError(
            f"{path} holds {backbone}, but does not fit the backbone in the plan, {network.backbone}: install that one "
            f"with `sam2_3dmed weights {network.backbone}`, or plan again with `sam2_3dmed plan --backbone {backbone}`."
        )
    encoder = {
        name.removeprefix("image_encoder."): value
        for name, value in weights.items()
        if name.startswith("image_encoder.")
    }
    reports = [_load("image encoder", network.encoder, encoder, path)]
    branches = {"segmentation branch": network.segmentation, "boundary branch": network.boundary}
    for component, branch in branches.items():
        if branch is not None:
            reports.append(_load(component, branch, _propagation_sources(branch, weights), path))
    return reports
