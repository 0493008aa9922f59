"""Loading of SAM 2 checkpoints into the network."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.checkpoints import identify_backbone, read_checkpoint
from nnunetv2_sam2_3dmed.network.mask_propagation import MaskPropagation
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed


class ComponentReport(NamedTuple):
    """Numbers of a component's tensors that were taken as they are, taken with changes, and left fresh."""

    component: str
    taken: int
    adapted: int
    fresh: int


_RESHAPED = ("mask_decoder.mask_tokens.weight", "memory_encoder.mask_downsampler.encoder.0.weight", "memory_age")


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
    if not {"mask_decoder.output_hypernetworks_mlps.0.layers.0.weight", *_RESHAPED} <= set(found):
        return found  # the caller names what is missing
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
    found["memory_age"] = torch.cat([ages[: len(branch.memory_age) - 1], ages[-1:]])
    return found


_ADAPTED = ("mask_tokens.", "output_hypernetworks_mlps.", "mask_downsampler.encoder.0.weight")

# parts that SAM 2 does not have, or not in this form
_NOT_IN_SAM2 = ("adapter.", "fusion.", "refinement.", "lora_")

# what the report tells apart in a branch; the rest are memory ages, object pointers and embeddings
_PARTS = ("memory_attention", "memory_encoder", "mask_decoder", "fusion", "refinement")


def _named(tensors: list[str]) -> str:
    """Up to five names, and how many more there are."""
    more = f" and {len(tensors) - 5} more" if len(tensors) > 5 else ""
    return f"{len(tensors)} tensors ({', '.join(tensors[:5])}{more})"


def _check(component: str, module: nn.Module, values: dict[str, torch.Tensor], source: Path) -> dict[str, torch.Tensor]:
    """Return those of ``values`` that ``module`` has.

    Raises:
        UserError: a tensor has another shape in the file, or is missing there.
    """
    own = module.state_dict()
    hint = (
        "install the checkpoint that the plan names, or repeat your `sam2_3dmed plan -d DATASET ...` with --backbone "
        "NAME."
    )
    wrong = [
        f"{name} {tuple(values[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in values and values[name].shape != value.shape
    ]
    if wrong:
        raise UserError(
            f"{source} does not fit the backbone in the plan: in the {component}, the shapes of {_named(wrong)} "
            f"differ; {hint}"
        )
    missing = [name for name in own if name not in values and not any(part in name for part in _NOT_IN_SAM2)]
    if missing:
        raise UserError(f"{source} lacks, for the {component}, {_named(missing)}; {hint}")
    return {name: values[name].clone() for name in own if name in values}


def _report(component: str, names: list[str], filled: Container[str], adapted: bool) -> ComponentReport:
    changed = [n for n in names if n in filled and adapted and any(part in n for part in _ADAPTED)]
    fresh = [n for n in names if n not in filled]
    return ComponentReport(component, len(names) - len(changed) - len(fresh), len(changed), len(fresh))


def load_sam2_weights(network: SAM2_3dMed, path: Path) -> list[ComponentReport]:
    """Fill the encoder and both branches from an official SAM 2 or 2.1 checkpoint, or MedSAM2's.

    Mask tokens and their hypernetworks are copied for each class, the memory encoder's mask input is spread
    over the classes; SRPP, BD fusion, what refines the masks, low-rank updates and a learned mix of input channels
    stay as they are.

    Args:
        network: the network; its tensors are changed in place.
        path: the checkpoint.

    Returns:
        A report per component: the image encoder, and in each branch memory attention, memory encoder, mask
        decoder and the rest.

    Raises:
        UserError: the file cannot be read, is no SAM 2 checkpoint, or belongs to another backbone; tensors of
            another shape or missing ones are named.
    """
    weights = read_checkpoint(path)
    backbone = identify_backbone(weights)
    if backbone != network.backbone:
        raise UserError(
            f"{path} holds {backbone}, but does not fit the backbone in the plan, {network.backbone}: install that one "
            f"with `sam2_3dmed weights {network.backbone}`, or repeat your `sam2_3dmed plan -d DATASET ...` with "
            f"--backbone {backbone}."
        )
    encoder = {
        name.removeprefix("image_encoder."): value
        for name, value in weights.items()
        if name.startswith("image_encoder.")
    }
    branches = {"segmentation branch": network.segmentation, "boundary branch": network.boundary}
    modules: dict[str, nn.Module] = {"image encoder": network.encoder}
    found = {"image encoder": _check("image encoder", network.encoder, encoder, path)}
    for name, branch in branches.items():
        if branch is not None:
            modules[name] = branch
            found[name] = _check(name, branch, _propagation_sources(branch, weights), path)
    # all of it fits: nothing is changed otherwise
    for name, module in modules.items():
        module.load_state_dict(found[name], strict=False)

    reports = [_report("image encoder", list(network.encoder.state_dict()), found["image encoder"], adapted=False)]
    for name, branch in branches.items():
        if branch is None:
            continue
        names = list(branch.state_dict())
        for part in _PARTS:
            inside = [n for n in names if n.startswith(f"{part}.")]
            if inside:
                label = f"{name}, {part.replace('_', ' ')}"
                reports.append(_report(label, inside, found[name], adapted=branch.num_masks > 1))
        rest = [n for n in names if n.split(".")[0] not in _PARTS]
        reports.append(_report(f"{name}, pointers and embeddings", rest, found[name], adapted=False))
    return reports
