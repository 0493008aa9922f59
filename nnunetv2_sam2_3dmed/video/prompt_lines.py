"""Prompts from a command line or a CSV file on a video."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.images.label_maps import label_map
from nnunetv2_sam2_3dmed.images.volumes import read_volume
from nnunetv2_sam2_3dmed.interactive.prompt_lines import VOXELS, PromptLine, object_in
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.video.numbered_frames import numbered
from nnunetv2_sam2_3dmed.video.png_masks import are_black_and_white, read_png_mask
from nnunetv2_sam2_3dmed.video.session import VideoSession

_PNG = ".png"


def check_prompt(prompt: PromptLine) -> None:
    """Check everything that needs no video.

    Raises:
        UserError: the prompt is invalid for any video.
    """
    if prompt.unit != VOXELS:
        raise PromptError(f"the unit is {prompt.unit!r}, but of a video must be voxel: frame,row,column.")
    if prompt.axis not in (None, 0):
        raise PromptError(f"axis is {prompt.axis}, but a video has one, 0, along time: leave it out.")
    prompt.check()
    file, frame = prompt.mask_file
    if prompt.kind == "mask" and frame is None and file.suffix.lower() == _PNG:
        raise PromptError(f"the mask {file} is of one frame: say which, counted from 0, as in {file.name}@0.")


def add_prompt(prompt: PromptLine, session: VideoSession) -> None:
    """Add a prompt; a mask is an indexed PNG of one frame, or masks of all frames in a folder of PNG or a NIfTI file.

    FILE@FRAME names the frame. Of several masks, that one is taken without it on which the object is largest.

    Raises:
        UserError: the prompt is invalid, or invalid for this video.
    """
    check_prompt(prompt)
    if prompt.kind != "mask":
        prompt.add_to(session)
        return
    name, frame = prompt.mask_file
    if frame is not None and name.suffix.lower() == _PNG:
        inside = object_in(read_png_mask(name), prompt.object_id, name)
    else:
        masks = object_in(_all_masks(name, session.image.shape), prompt.object_id, name)
        frame = int(masks.sum(axis=(1, 2)).argmax()) if frame is None else frame
        if frame >= len(masks):
            raise PromptError(f"frame {frame} of {name} does not exist: there are 0 to {len(masks) - 1}.")
        inside = masks[frame]
    session.add_mask(inside, frame, prompt.object_id)


def _all_masks(name: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Read label maps of all frames, (frames, rows, columns).

    Raises:
        UserError: they cannot be read, or have another shape.
    """
    if name.is_dir():
        files = numbered(name).values()
        black_and_white = are_black_and_white(files)
        masks = [read_png_mask(file, black_and_white) for file in files]
        if not masks or any(mask.shape != shape[1:] for mask in masks):
            raise PromptError(
                f"{name} does not have masks of {shape[1]} x {shape[2]} pixels: give those of this video."
            )
        labels = np.stack(masks)
    else:
        labels = label_map(read_volume(name).array, name)
    if labels.shape != shape:
        raise PromptError(
            f"the masks in {name} are {' x '.join(map(str, labels.shape))}, but the video is "
            f"{' x '.join(map(str, shape))}: give those of this video."
        )
    return labels
