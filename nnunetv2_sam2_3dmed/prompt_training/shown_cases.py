"""Videos among nnU-Net's preprocessed cases as clips: whole frames, at several frame rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from nnunetv2_sam2_3dmed.network.resizing import resized

STEPS = (1, 2, 4)  # MedSAM2: "we also augmented the frame sample rate by a factor of 2 and 4"


class Rate(NamedTuple):
    """Every ``step``-th frame from the frame ``first`` on."""

    step: int
    first: int

    def frames(self, count: int) -> range:
        """Return the frames that are taken of a video of ``count`` frames."""
        return range(self.first, count, self.step)


class Clip:
    """Frames of a preprocessed video, read when they are indexed as nnU-Net's loader does it.

    nnU-Net crops images to what is not 0, which cuts the black edges off videos. In use the whole frame is shown: here
    the edges are put back. Frames larger than the patch are resized to it, since a part of a frame is not what the
    network sees in use, which stretches frames to its own size anyway.

    Args:
        array: preprocessed image (C, frames, rows, columns) in [0, 1], or its segmentation, of an open file.
        corner: where its first frame, row and column lie in the video.
        whole: frames, rows and columns of the video.
        size: rows and columns of the frames that are returned.
        rate: of the frames.
        labels: it is a segmentation: resized to the nearest label, and what nnU-Net marks as outside is background.

    Attributes:
        shape: (C, frames, rows, columns).
    """

    def __init__(
        self,
        array: Any,
        corner: Sequence[int],
        whole: Sequence[int],
        size: tuple[int, int],
        rate: Rate,
        labels: bool = False,
    ):
        self._array = array
        self._corner = tuple(corner)
        self._whole = tuple(whole)
        self._size = size
        self._frames = rate.frames(self._whole[0])
        self._labels = labels
        self.shape = (array.shape[0], len(self._frames), *size)

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Return a part, (C, frames, rows, columns)."""
        wanted = self._frames[index[1]]
        found = np.zeros((self.shape[0], len(wanted), *self._whole[1:]), dtype=self._array.dtype)
        start, top, left = self._corner
        count, rows, columns = self._array.shape[1:]
        kept = [place for place, frame in enumerate(wanted) if start <= frame < start + count]
        if kept:
            first, last = (wanted[place] - start for place in (kept[0], kept[-1]))
            inside = self._array[:, first : last + 1][:, :: self._frames.step]
            found[:, kept[0] : kept[-1] + 1, top : top + rows, left : left + columns] = inside
        if self._labels:
            found = np.maximum(found, 0)
        if self._size != self._whole[1:]:
            found = _at(found, self._size, self._labels)
        return found[index[0], :, index[2], index[3]]


class Clips:
    """A dataset of nnU-Net in which videos are drawn as clips; other cases stay as they are.

    Args:
        dataset: nnU-Net's.
        is_video: of a case.
        patch: frames, rows and columns of a patch.
        rates: steps between frames, of which one is drawn each time, but for those that would leave fewer frames than
            the patch has.
    """

    def __init__(
        self, dataset: Any, is_video: Callable[[str], bool], patch: Sequence[int], rates: Sequence[int] = STEPS
    ):
        self.dataset = dataset
        self.identifiers: list[str] = dataset.identifiers
        self._videos = {case for case in self.identifiers if is_video(case)}
        self._patch = tuple(int(length) for length in patch)
        self._rates = tuple(rates)

    def load_case(self, identifier: str) -> tuple[Any, Any, Any, Mapping[str, Any]]:
        """Return image, segmentation, None and properties of a case, as nnU-Net's datasets do."""
        data, seg, previous, properties = self.dataset.load_case(identifier)
        if identifier not in self._videos:
            return data, seg, previous, properties
        # nnU-Net gives both in the order of the preprocessed axes, which is that of videos
        whole = tuple(int(length) for length in properties["shape_before_cropping"])
        corner = tuple(int(ends[0]) for ends in properties["bbox_used_for_cropping"])
        size = tuple(min(side, most) for side, most in zip(whole[1:], self._patch[1:], strict=True))
        rate = self._draw(whole[0])
        # where nnU-Net's loader has the middle of the last patch that lies within the clip
        latest = len(rate.frames(whole[0])) - self._patch[0] + self._patch[0] // 2
        places = {key: _in_clip(found, corner[0], rate, latest) for key, found in properties["class_locations"].items()}
        return (
            Clip(data, corner, whole, (size[0], size[1]), rate),
            Clip(seg, corner, whole, (size[0], size[1]), rate, labels=True),
            previous,
            {**properties, "class_locations": places},
        )

    def _draw(self, count: int) -> Rate:
        """Draw a rate at which a video of ``count`` frames fills a patch; numpy's generator, which workers seed."""
        steps = [step for step in self._rates if step == 1 or (self._patch[0] - 1) * step < count]
        step = int(np.random.choice(steps))
        starts = min(step, count - (self._patch[0] - 1) * step)  # those that leave as many frames as the patch has
        return Rate(step, int(np.random.randint(max(1, starts))))


def _in_clip(places: np.ndarray, start: int, rate: Rate, latest: int) -> np.ndarray:
    """Convert nnU-Net's places (n, 4) of a class, channel first, to those on the frames that are taken.

    nnU-Net's loader centres a patch on one of them, and lets it reach beyond the end of each axis: padding would take
    the place of frames, and of what lies above and to the left. Places after ``latest`` become that frame, whose patch
    has them too, and rows and columns become 0, for which nothing is cut off, since a frame fits into the patch.
    """
    if not len(places):
        return places
    frames = np.asarray(places)[:, 1] + start
    frames = frames[(frames >= rate.first) & ((frames - rate.first) % rate.step == 0)]
    found = np.zeros((len(frames), 4), dtype=int)
    found[:, 1] = np.minimum((frames - rate.first) // rate.step, max(latest, 0))
    return found


def _at(frames: np.ndarray, size: tuple[int, int], labels: bool) -> np.ndarray:
    """Resize (C, frames, rows, columns)."""
    tensor = torch.from_numpy(frames)
    if not labels:
        return resized(tensor, size).numpy()
    return torch.nn.functional.interpolate(tensor.float(), size=size, mode="nearest-exact").to(tensor.dtype).numpy()
