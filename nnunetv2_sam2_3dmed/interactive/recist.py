"""Boxes from RECIST measurements: the longest diameter of a lesion on a slice, and the longest perpendicular one.

Radiologists report lesions so (RECIST, Response Evaluation Criteria in Solid Tumors), and DeepLesion records their four
end points. The boxes of DeepLesion, which MedSAM2's authors prompted with, surround the end points. The box here
surrounds the ellipse that has both lines as diameters, or for one line the circle: an oblique diameter ends inside the
box of its lesion, not at its sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunetv2_sam2_3dmed.interactive.prompts import PromptError

STEEPEST = 60.0  # degrees; lines drawn by hand are not quite perpendicular


def box_around(diameters: np.ndarray, spacing: np.ndarray | Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the box around the ellipse of two diameters, or around the circle of one.

    The ellipse's half-axes p and q, half of each line, reach sqrt(p_i^2 + q_i^2) along axis i of the slice. Its centre
    is that of each line in the direction of that line. End points that are not on one ellipse are in the box too.

    Args:
        diameters: end points (2, 2), or (4, 2) of both lines one after the other: rows and columns in voxels.
        spacing: millimetres of a row and of a column, in which the circle is one.

    Returns:
        First corner and last corner (2,), rows and columns in voxels.

    Raises:
        PromptError: a line has no length, or the lines are far from perpendicular.
    """
    ends = diameters * spacing
    first = ends[:2]
    half = _half(first)
    if len(ends) == 2:
        centre, other = first.mean(axis=0), half[::-1] * (-1, 1)
    else:
        second = ends[2:]
        other = _half(second)
        _check_angle(half, other)
        along = other / np.linalg.norm(other)
        centre = first.mean(axis=0)
        centre = centre + along * ((second.mean(axis=0) - centre) @ along)
    reach = np.hypot(half, other)
    low, high = np.minimum(centre - reach, ends.min(axis=0)), np.maximum(centre + reach, ends.max(axis=0))
    return low / spacing, high / spacing


def _half(line: np.ndarray) -> np.ndarray:
    half = (line[1] - line[0]) / 2
    if not half.any():
        raise PromptError("a diameter begins and ends at the same point: give the two end points of a line.")
    return half


def _check_angle(first: np.ndarray, second: np.ndarray) -> None:
    cosine = abs(first @ second) / (np.linalg.norm(first) * np.linalg.norm(second))
    angle = float(np.degrees(np.arccos(min(cosine, 1.0))))
    if angle < STEEPEST:
        raise PromptError(
            f"the two diameters meet at {angle:.0f} degrees, but must be about perpendicular: give both ends of the "
            "longest one, then both ends of the one across it."
        )
