"""Display of images to a model trained within nnU-Net, their intensities and slices, alike in training and sessions.

nnU-Net's trainings see normalised voxels, a user's image is not normalised. Every normalisation that nnU-Net has is
linear in the intensities between two bounds, so that black and white can be stated for either, and a grey level means
the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.orientation import axis_along, normal_along
from nnunetv2_sam2_3dmed.images.windows import Window

CT, Z_SCORE, NONE, TO_01, RGB = (
    "CTNormalization",
    "ZScoreNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)

LEARNED_SHARE = 0.1  # of the training cases: what fewer show is not learned


@dataclass(frozen=True)
class ShownAs:
    """Display of images to a model.

    Attributes:
        scheme: nnU-Net's normalisation.
        low: the normalised intensity that is black.
        high: the normalised intensity that is white.
        mean: of the training data's foreground, by which a CT is normalised.
        std: of the same.
        masked: z-scores are those of the voxels that are not 0 outside the body.
        axis: of the array (z, y, x) that nnU-Net's reader gives, along which the slices of training cases lay.
        normals: the axes of the patient that this was in training cases, the most frequent first; see ``orientation``.
            Empty where that is not known.
        colour: training cases have three channels, of which each is displayed alike; images of one channel are grey.
        pictures: training cases were videos, or volumes that had been made pictures of 8 bits: other volumes are
            displayed as to SAM 2's own weights.
    """

    scheme: str
    low: float
    high: float
    mean: float = 0.0
    std: float = 1.0
    masked: bool = False
    axis: int = 0
    normals: tuple[int, ...] = ()
    colour: bool = False
    pictures: bool = False

    def axis_of(self, direction: np.ndarray) -> int:
        """Return the axis of an array (z, y, x) along which the slices of an image lie as in training.

        That is the one nearest to the axis of the patient that the slices of training cases ran along, however the
        image is stored. Only if they ran along several, which they do where cases are stored in several orientations
        and nnU-Net's reader leaves them so, it is the one that training would have taken of this image, provided that
        slices that way were learned.

        Args:
            direction: of the image, (3, 3), as ITK has it.
        """
        if not self.normals or normal_along(direction, self.axis) in self.normals:
            return self.axis
        return axis_along(direction, self.normals[0])

    def outside(self, array: np.ndarray) -> np.ndarray | None:
        """Return the voxels of an image (z, y, x) that are black whatever the window; None if there are none.

        They are the zeros around the body, as nnU-Net marks them.
        """
        if array.all():
            return None
        inside = create_nonzero_mask(array[None])
        return None if inside.all() else ~inside

    def window(self, array: np.ndarray) -> Window:
        """Return the window for an image (z, y, x) that is not normalised."""
        offset, scale = self._linear(array)
        return Window(offset + self.low * scale, offset + self.high * scale)

    def _linear(self, array: np.ndarray) -> tuple[float, float]:
        """Return (a, b) of intensity = a + b * normalised."""
        if self.scheme == CT:
            return self.mean, max(self.std, 1e-8)
        if self.scheme == Z_SCORE:
            inside = _body(array)
            values = inside.array[inside.mask] if self.masked else inside.array
            return float(values.mean()), max(float(values.std()), 1e-8)
        if self.scheme == TO_01:
            inside = _body(array)
            low, high = float(inside.array.min()), float(inside.array.max())
            return low, max(high - low, 1e-8)
        return 0.0, 255.0 if self.scheme == RGB else 1.0

    def for_checkpoint(self) -> dict[str, Any]:
        """Return plain values for ``ShownAs(**values)``."""
        return asdict(self)


@dataclass(frozen=True)
class _Body:
    array: np.ndarray
    mask: np.ndarray


def _body(array: np.ndarray) -> _Body:
    """Return the box around all that is not 0, to which nnU-Net crops an image, and the mask of the body in it."""
    mask = create_nonzero_mask(array[None])
    if not mask.any():
        return _Body(array, np.ones_like(mask))
    occupied = [np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis))) for axis in range(3)]
    box = tuple(slice(int(places[0]), int(places[-1]) + 1) for places in occupied)
    return _Body(array[box], mask[box])


def learned_normals(directions: Iterable[np.ndarray], axis: int) -> tuple[int, ...]:
    """Return the axes of the patient along which the slices of training cases lie, the most frequent first.

    Args:
        directions: of the cases as nnU-Net's reader gives them, (3, 3) as ITK has them.
        axis: of the array, which becomes nnU-Net's first.
    """
    counts = Counter(normal_along(direction, axis) for direction in directions)
    enough = LEARNED_SHARE * counts.total()
    return tuple(sorted((n for n in counts if counts[n] >= enough), key=lambda n: (-counts[n], n)))


def shown_as(
    plans: PlansManager,
    configuration: ConfigurationManager,
    intensity_range: Sequence[float],
    channels: int,
    pictures: bool = False,
) -> ShownAs:
    """Return the display of images in a configuration.

    Args:
        plans: nnU-Net's.
        configuration: of these plans.
        intensity_range: normalised intensities that become black and white, as the network's arguments have them; of a
            CT, only what nnU-Net's clipping leaves of that range.
        channels: of the images.
        pictures: see :class:`ShownAs`.

    Raises:
        UserError: images have several channels that are no colours, or are normalised by an unsupported scheme.
    """
    schemes = configuration.normalization_schemes
    colour = pictures and channels == 3 and all(scheme == RGB for scheme in schemes)
    if channels != 1 and not colour:
        raise UserError(
            f"the images of {plans.dataset_name} have {channels} channels, but prompts are for images of one, or for "
            "videos (`sam2_3dmed videos`): make a dataset of one of the channels."
        )
    scheme = schemes[0]
    if scheme not in (CT, Z_SCORE, NONE, TO_01, RGB):
        raise UserError(f"images are normalised by {scheme}, but prompts work with {CT}, {Z_SCORE}, {TO_01} or {NONE}.")
    low, high = (float(value) for value in intensity_range)
    axis = int(plans.transpose_forward[0])
    if scheme != CT:
        masked = bool(configuration.use_mask_for_norm[0])
        return ShownAs(scheme, low, high, masked=masked, axis=axis, colour=colour, pictures=pictures)
    statistics = plans.foreground_intensity_properties_per_channel["0"]
    mean, std = float(statistics["mean"]), max(float(statistics["std"]), 1e-8)
    ends = [(float(statistics[key]) - mean) / std for key in ("percentile_00_5", "percentile_99_5")]
    return ShownAs(scheme, max(low, ends[0]), min(high, ends[1]), mean, std, axis=axis)
