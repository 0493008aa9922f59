"""Scores of masks of a video: Dice, J and F per frame, their summary per object, and measures of failing propagation.

J and F are DAVIS' (Perazzi et al., CVPR 2016): intersection over union, and the F measure of contours that are matched
within 0.8 % of the frame's diagonal. Of two empty masks all scores are 1, of one empty mask 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from nnunetv2_sam2_3dmed.images.masks import dice

TOLERANCE = 0.008  # of the diagonal
RECALL = 0.5  # DAVIS counts frames with a score above
QUARTERS = 4


def region_similarity(gt: np.ndarray, found: np.ndarray) -> float:
    """DAVIS' J of two masks (rows, columns), bool: intersection over union."""
    union = int((gt | found).sum())
    return 1.0 if not union else int((gt & found).sum()) / union


def contour(mask: np.ndarray) -> np.ndarray:
    """Return the contour of a mask (rows, columns), bool, as DAVIS has it.

    A pixel is on it if it differs from its neighbour to the right, below, or diagonally between them. In the last row
    only the one to the right counts, in the last column only the one below.
    """
    found = np.zeros_like(mask, dtype=bool)
    found[:-1, :-1] = (
        (mask[:-1, :-1] != mask[:-1, 1:]) | (mask[:-1, :-1] != mask[1:, :-1]) | (mask[:-1, :-1] != mask[1:, 1:])
    )
    found[-1, :-1] = mask[-1, :-1] != mask[-1, 1:]
    found[:-1, -1] = mask[:-1, -1] != mask[1:, -1]
    return found


def contour_accuracy(gt: np.ndarray, found: np.ndarray) -> float:
    """DAVIS' F of two masks (rows, columns), bool.

    Precision is the share of the mask's contour pixels with one of the ground truth within the tolerance, recall the
    share of the ground truth's with one of the mask.
    """
    ours, theirs = contour(found), contour(gt)
    if not ours.any() or not theirs.any():
        return float(not ours.any() and not theirs.any())
    within = int(np.ceil(TOLERANCE * np.hypot(*gt.shape)))
    precision = float((distance_transform_edt(~theirs)[ours] <= within).mean())
    recall = float((distance_transform_edt(~ours)[theirs] <= within).mean())
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


class FrameScore(NamedTuple):
    """Scores of an object on a frame that has ground truth.

    Attributes:
        frame: index.
        dice: of the masks.
        j: region similarity.
        f: contour accuracy.
        gt_pixels: of the object.
        pixels: of the mask.
        excess: pixels of the mask outside the object.
    """

    frame: int
    dice: float
    j: float
    f: float
    gt_pixels: int
    pixels: int
    excess: int


def score_frame(frame: int, gt: np.ndarray, found: np.ndarray) -> FrameScore:
    """Score the mask of an object on a frame.

    Args:
        frame: index.
        gt: ground truth (rows, columns), bool.
        found: mask, bool.
    """
    return FrameScore(
        frame,
        dice(gt, found),
        region_similarity(gt, found),
        contour_accuracy(gt, found),
        int(gt.sum()),
        int(found.sum()),
        int((found & ~gt).sum()),
    )


@dataclass(frozen=True)
class ObjectScores:
    """Scores of an object in a video.

    Attributes:
        frames: those with ground truth from the first one with a prompt on, in order.
        prompted: frames with prompts of the object.
        length: number of frames of the video.
    """

    frames: Sequence[FrameScore]
    prompted: tuple[int, ...]
    length: int

    def mean(self, score: str = "dice", with_prompts: bool = False) -> float:
        """Mean of a score over frames.

        Args:
            score: "dice", "j" or "f".
            with_prompts: count the frames with prompts, too.

        Returns:
            NaN if there is no frame.
        """
        values = [getattr(one, score) for one in self.frames if with_prompts or one.frame not in self.prompted]
        return float(np.mean(values)) if values else float("nan")

    def davis(self, score: str) -> tuple[float, float, float]:
        """Mean, recall and decay of "j" or "f" as in DAVIS' semi-supervised task.

        The frames with prompts, in DAVIS the first one, and the last frame of the video do not count.

        Recall is the share of frames above :data:`RECALL`, decay the mean of the first quarter of frames minus that of
        the last one; quarters share their ends. NaN without such a frame.
        """
        counted = [one for one in self.frames if one.frame not in self.prompted and one.frame < self.length - 1]
        values = np.array([getattr(one, score) for one in counted])
        if not len(values):
            return (float("nan"),) * 3
        ends = np.round(np.linspace(1, len(values), QUARTERS + 1) + 1e-10).astype(int) - 1
        first, last = (values[ends[k] : ends[k + 1] + 1].mean() for k in (0, QUARTERS - 1))
        return float(values.mean()), float((values > RECALL).mean()), float(first - last)

    def j_and_f(self) -> float:
        """Mean of DAVIS' mean J and mean F."""
        return (self.davis("j")[0] + self.davis("f")[0]) / 2

    def excess_at_prompts(self) -> float:
        """Pixels outside the object on frames with prompts, as a share of its pixels there; NaN if there are none."""
        there = [one for one in self.frames if one.frame in self.prompted]
        pixels = sum(one.gt_pixels for one in there)
        return sum(one.excess for one in there) / pixels if pixels else float("nan")

    def over_propagation(self) -> float:
        """Share of the frames without the object on which it has a mask: it has left, and the propagation goes on.

        NaN if the object is on every frame from the first one with a prompt on.
        """
        absent = [one for one in self.frames if not one.gt_pixels and one.frame not in self.prompted]
        return float(np.mean([one.pixels > 0 for one in absent])) if absent else float("nan")

    def decay_with_distance(self) -> float:
        """Dice on the quarter of frames nearest to a prompt minus that on the farthest quarter.

        Of frames with the object and without prompts; those at the same distance are in their given order. NaN if there
        are less than four.
        """
        there = [one for one in self.frames if one.gt_pixels and one.frame not in self.prompted]
        if len(there) < QUARTERS or not self.prompted:
            return float("nan")
        distances = [min(abs(one.frame - prompt) for prompt in self.prompted) for one in there]
        ordered = np.array([there[k].dice for k in np.argsort(distances, kind="stable")])
        quarter = len(ordered) // QUARTERS
        return float(ordered[:quarter].mean() - ordered[-quarter:].mean())
