"""Stacks with prompts made from nnU-Net's batches, oriented and windowed as in use, one object per prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from nnunetv2_sam2_3dmed.images.orientation import View
from nnunetv2_sam2_3dmed.interactive.intensities import ShownAs
from nnunetv2_sam2_3dmed.interactive.prompts import BOX_CORNERS
from nnunetv2_sam2_3dmed.network.promptable_sam2 import StackPrompts, copy_to
from nnunetv2_sam2_3dmed.network.resizing import as_images, at_image_size, colours_as_images
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import bounding_box, loose_box, random_click
from nnunetv2_sam2_3dmed.training.targets import TargetMaker

BOX, CLICK, MASK = KINDS = ("box", "click", "mask")
SHIFT = 10.0  # largest shift of a box edge, in pixels of an image of 512 (MedSAM2: 0 to 10 pixels)
_SHIFT_AT = 512


class PromptMix(NamedTuple):
    """Probabilities of prompts in training.

    Attributes:
        box: share of batches with boxes.
        click: share of batches with clicks; the others have the mask of the slice.
        corrected: share of batches with boxes or clicks that are followed by clicks on errors.
        corrections: maximum number of these clicks.
        objects: maximum number of objects per stack, as per video in SAM 2: they differ only in their prompts.
        images: share of batches in which every slice is a stack of its own. SAM 2 was trained on images before videos;
            in a stack of eight, only one slice of eight is prompted.
        later: share of batches in which one more slice in each direction is corrected with clicks, up to as many, when
            the propagation has reached it.
    """

    box: float = 0.5
    click: float = 0.25
    corrected: float = 0.5
    corrections: int = 3
    objects: int = 3
    images: float = 0.0
    later: float = 0.0


class Stacks(NamedTuple):
    """A batch of images and masks, as the network sees them.

    Attributes:
        grey: (B, D, H, W), 0 to 1; of colours (B, D, 3, H, W).
        masks: (B, K, D, H, W), bool, ground truth of the K classes or regions.
        counted: (B, D, H, W), bool; False for the ignore label.
        real: (B, D), bool; False for slices that are padding.
        videos: stacks that are clips of a video: prompted on the first frame with the object, and propagated forward.
    """

    grey: torch.Tensor
    masks: torch.Tensor
    counted: torch.Tensor
    real: torch.Tensor
    videos: frozenset[int] = frozenset()


class TrainingPrompts(NamedTuple):
    """Prompts of N objects, and their classes.

    Attributes:
        prompts: input of the network.
        classes: (N,), index of each object's class.
    """

    prompts: StackPrompts
    classes: list[int]


class StackMaker:
    """Converter of nnU-Net's batches to stacks.

    Args:
        targets: splits nnU-Net's target into masks.
        shown_as: intensity window.
        transpose_forward: nnU-Net's order of axes.
    """

    def __init__(self, targets: TargetMaker, shown_as: ShownAs, transpose_forward: Sequence[int]):
        self.targets = targets
        self.shown_as = shown_as
        self.transpose_forward = [int(axis) for axis in transpose_forward]

    def __call__(
        self, data: torch.Tensor, target: torch.Tensor, views: Sequence[View], videos: frozenset[int] = frozenset()
    ) -> Stacks:
        """Make stacks that look like images in use.

        Args:
            data: (B, 1 or 3, D, H, W), normalised.
            target: nnU-Net's target, (B, 1 or number of regions, D, H, W), with padding marked.
            views: orientation of the slices of each case.
            videos: those of the B that are clips of a video.
        """
        low, high = self.shown_as.low, self.shown_as.high
        grey = ((data.float() - low) / (high - low)).clamp(0, 1)
        # nnU-Net pads images with 0, which is the mean intensity or so; in use it is black
        grey = grey.masked_fill(self.targets.padding(target), 0)
        targets = self.targets(target)
        slices = [torch.flip(s, [0]) if view.flips[0] else s for s, view in zip(targets.slices, views)]
        turned = self._turned(grey, views)
        return Stacks(
            turned.transpose(1, 2) if self.shown_as.colour else turned[:, 0],
            self._turned(targets.masks > 0, views),
            self._turned(targets.counted, views)[:, 0],
            torch.stack(slices),
            videos,
        )

    def _turned(self, stacks: torch.Tensor, views: Sequence[View]) -> torch.Tensor:
        """Orient each stack of (B, C, D, H, W) as its view displays it."""
        turned = []
        for stack, view in zip(stacks, views):
            order = [self.transpose_forward.index(axis) + 1 for axis in view.order]
            turned.append(stack.permute(0, *order).flip([k + 1 for k, flip in enumerate(view.flips) if flip]))
        # in another orientation, rows and columns of a case are swapped
        height, width = (max(stack.shape[axis] for stack in turned) for axis in (-2, -1))
        return torch.stack([F.pad(s, (0, width - s.shape[-1], 0, height - s.shape[-2])) for s in turned])


def single_slices(stacks: Stacks) -> Stacks:
    """Return every slice that is not padding as a stack of its own."""
    places = stacks.real.nonzero(as_tuple=True)  # one synchronisation; every boolean index would be another
    grey, real = stacks.grey[places], stacks.real[places]
    masks, counted = stacks.masks.transpose(1, 2)[places], stacks.counted[places]
    return Stacks(grey[:, None], masks[:, :, None], counted[:, None], real[:, None])


def objects_to_train(
    stacks: Stacks, image_size: int, mix: PromptMix, rng: np.random.Generator
) -> TrainingPrompts | None:
    """Prompt random objects of each stack on random slices, of videos on the first one; None without objects.

    The kind of prompt is drawn per batch, since SAM 2 predicts three masks for one click and one mask for all else.
    """
    if rng.uniform() < mix.images:
        stacks = single_slices(stacks)
    real, presence = _on_host(stacks)
    chosen = []
    for stack, present in enumerate(presence):
        classes = np.flatnonzero(present.any(axis=1))
        for number in rng.choice(classes, size=min(len(classes), mix.objects), replace=False).tolist():
            slices = np.flatnonzero(present[number])
            chosen.append((stack, number, int(slices[0] if stack in stacks.videos else rng.choice(slices))))
    kind = str(rng.choice(KINDS, p=(mix.box, mix.click, 1 - mix.box - mix.click)))
    if kind == MASK and not any(real[stack].sum() > 1 for stack, _, _ in chosen):
        kind = BOX  # given the mask of the only slice, nothing is left to predict
    corrections = 0
    if kind != MASK and rng.uniform() < mix.corrected:
        corrections = int(rng.integers(1, mix.corrections + 1))
    objects = _objects(stacks, real, chosen, image_size, kind, corrections, SHIFT, rng)
    if objects is None or not rng.uniform() < mix.later:
        return objects
    later = int(rng.integers(1, mix.corrections + 1))
    return objects._replace(prompts=objects.prompts._replace(later=later))


def objects_to_validate(stacks: Stacks, image_size: int, rng: np.random.Generator) -> TrainingPrompts | None:
    """Prompt all objects with the ground truth box on their middle slice, of videos the first; None without objects."""
    real, presence = _on_host(stacks)
    chosen = []
    for stack, present in enumerate(presence):
        for number in np.flatnonzero(present.any(axis=1)).tolist():
            slices = np.flatnonzero(present[number])
            chosen.append((stack, number, int(slices[0 if stack in stacks.videos else len(slices) // 2])))
    return _objects(stacks, real, chosen, image_size, BOX, 0, 0.0, rng)


def _on_host(stacks: Stacks) -> tuple[np.ndarray, np.ndarray]:
    """Slices that are no padding (B, D), and presence of each class on them (B, K, D); one synchronisation."""
    inside = (stacks.masks & stacks.counted[:, None]).flatten(3).any(dim=3)
    real = stacks.real[:, None]
    known = torch.cat([real, inside & real], dim=1).cpu().numpy()
    return known[:, 0], known[:, 1:]


def _objects(
    stacks: Stacks,
    real: np.ndarray,
    chosen: Sequence[tuple[int, int, int]],
    image_size: int,
    kind: str,
    corrections: int,
    shift: float,
    rng: np.random.Generator,
) -> TrainingPrompts | None:
    """Prompt objects, given by stack, class and slice.

    Boxes and clicks are placed on the host. This waits for the prompted slices, before the network runs.
    """
    if not chosen:
        return None
    device = stacks.grey.device
    host = np.array(chosen).T  # stacks, classes and slices
    stack, number, index = copy_to(host, device)
    gt = stacks.masks[stack, number] & stacks.counted[stack]
    prompted = gt[torch.arange(len(chosen), device=device), index]
    points = labels = masks = None
    if kind == MASK:
        masks = at_image_size(prompted, image_size)
    else:
        height, width = prompted.shape[-2:]
        places, said = _points(prompted.cpu().numpy(), kind, shift, rng)
        scale = np.array([image_size / width, image_size / height])
        points = copy_to((places * scale).astype(np.float32), device)
        labels = copy_to(said.astype(np.int32), device)
    prompts = StackPrompts(
        colours_as_images(stacks.grey.flatten(0, 1), image_size).unflatten(0, stacks.grey.shape[:2])
        if stacks.grey.ndim == 5
        else as_images(stacks.grey, image_size),
        real,
        gt,
        stacks.counted[stack],
        host[0],
        host[2],
        points,
        labels,
        masks,
        corrections,
        rng,
        stacks.videos,
    )
    return TrainingPrompts(prompts, host[1].tolist())


def _points(planes: np.ndarray, kind: str, shift: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes or clicks for masks (N, H, W): x and y in voxels (N, P, 2), and SAM 2's labels (N, P)."""
    height, width = planes.shape[1:]
    if kind == CLICK:
        clicks = [random_click(plane, None, rng) for plane in planes]
        return np.array([[[c.column, c.row]] for c in clicks], dtype=float), np.array([[c.label] for c in clicks])
    largest = (shift * height / _SHIFT_AT, shift * width / _SHIFT_AT)
    boxes = [loose_box(bounding_box(plane), (height, width), largest, rng) for plane in planes]
    corners = [[[left, top], [right, bottom]] for top, left, bottom, right in boxes]
    return np.array(corners), np.tile(BOX_CORNERS, (len(planes), 1))
