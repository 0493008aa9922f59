"""nnU-Net's preprocessed cases as sessions show them: whole slices, and videos as clips at several frame rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from nnunetv2_sam2_3dmed.prompt_training.whole_slices import WholeSlices

STEPS = (1, 2, 4)  # MedSAM2: "we also augmented the frame sample rate by a factor of 2 and 4"


class Rate(NamedTuple):
    """Every ``step``-th frame from the frame ``first`` on."""

    step: int
    first: int

    def frames(self, count: int) -> range:
        """Return the frames that are taken of a video of ``count`` frames."""
        return range(self.first, count, self.step)


class ShownCases:
    """A dataset of nnU-Net whose cases have whole slices; those that are videos are drawn as clips.

    Args:
        dataset: nnU-Net's.
        is_video: of a case.
        patch: frames, rows and columns of a patch.
        black: normalised intensity of volumes that is shown black.
        rates: steps between frames, of which one is drawn each time, but for those that would leave fewer frames than
            the patch has.
        slice_steps: likewise, between slices of volumes.
    """

    def __init__(
        self,
        dataset: Any,
        is_video: Callable[[str], bool],
        patch: Sequence[int],
        black: float,
        rates: Sequence[int] = STEPS,
        slice_steps: Sequence[int] = (1,),
    ):
        self.dataset = dataset
        self.identifiers: list[str] = dataset.identifiers
        self._videos = {case for case in self.identifiers if is_video(case)}
        self._patch = tuple(int(length) for length in patch)
        self._black = black
        self._rates = tuple(rates)
        self._slice_steps = tuple(slice_steps)

    def load_case(self, identifier: str) -> tuple[Any, Any, Any, Mapping[str, Any]]:
        """Return image, segmentation, None and properties of a case, as nnU-Net's datasets do."""
        data, seg, previous, properties = self.dataset.load_case(identifier)
        corner, whole = _place_of(data.shape[1:], properties)
        size = tuple(min(side, most) for side, most in zip(whole[1:], self._patch[1:], strict=True))
        if identifier in self._videos:
            rate, black = self._draw(self._rates, whole[0]), 0.0
            # where nnU-Net's loader has the middle of the last patch that lies within the clip
            latest = len(rate.frames(whole[0])) - self._patch[0] + self._patch[0] // 2
            start = corner[0]
        else:
            # slices beyond the body are left out: black ones teach nothing
            corner, whole = (0, *corner[1:]), (data.shape[1], *whole[1:])
            rate, black, start = self._draw(self._slice_steps, whole[0]), self._black, 0
            latest = whole[0]  # a patch may reach beyond the last slice
        taken = rate.frames(whole[0])
        moved = partial(_in_clip, start=start, rate=rate, latest=latest)
        return (
            WholeSlices(data, corner, whole, (size[0], size[1]), taken, seg, black),
            WholeSlices(seg, corner, whole, (size[0], size[1]), taken),
            previous,
            {**properties, "class_locations": {key: moved(at) for key, at in properties["class_locations"].items()}},
        )

    def _draw(self, rates: Sequence[int], count: int) -> Rate:
        """Draw a rate at which ``count`` frames or slices fill a patch; numpy's generator, which workers seed."""
        steps = [step for step in rates if step == 1 or (self._patch[0] - 1) * step < count]
        if steps == [1]:
            return Rate(1, 0)
        step = int(np.random.choice(steps))
        starts = min(step, count - (self._patch[0] - 1) * step)  # those that leave as many frames as the patch has
        return Rate(step, int(np.random.randint(max(1, starts))))


def _place_of(shape: Sequence[int], properties: Mapping[str, Any]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return where a preprocessed image begins in the image before nnU-Net's cropping, and the size of that.

    Both in voxels after resampling, slices, rows and columns.
    """
    corner, whole = [], []
    # nnU-Net gives all in the order of the preprocessed axes
    ends = zip(shape, properties["bbox_used_for_cropping"], properties["shape_before_cropping"], strict=True)
    for length, (first, end), before in ends:
        scale = length / (end - first)
        corner.append(round(int(first) * scale))
        whole.append(corner[-1] + int(length) + round((int(before) - int(end)) * scale))
    return (corner[0], corner[1], corner[2]), (whole[0], whole[1], whole[2])


def _in_plane(places: np.ndarray) -> np.ndarray:
    """Convert nnU-Net's places (n, 4) of a class, channel first, to the rows and columns of whole slices.

    nnU-Net's loader centres a patch on one of them, and lets it reach beyond the end of each axis: padding would take
    the place of what lies above and to the left. Rows and columns become 0, for which nothing is cut off, since a slice
    fits into the patch.
    """
    found = np.array(places)
    if len(found):
        found[:, 2:] = 0
    return found


def _in_clip(places: np.ndarray, start: int, rate: Rate, latest: int) -> np.ndarray:
    """Convert nnU-Net's places (n, 4) of a class, channel first, to those on the frames that are taken.

    Places after ``latest`` become that frame, whose patch has them too, so that no padding takes the place of frames.
    """
    found = _in_plane(places)
    if not len(found):
        return found
    frames = found[:, 1] + start
    chosen = (frames >= rate.first) & ((frames - rate.first) % rate.step == 0)
    found = found[chosen]
    found[:, 1] = np.minimum((frames[chosen] - rate.first) // rate.step, max(latest, 0))
    return found
