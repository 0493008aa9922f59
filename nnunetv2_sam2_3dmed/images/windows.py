"""Intensity windows: the 256 grey levels that SAM 2 and MedSAM2 were trained on."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError

# CT windows in Hounsfield units, level and width, as the MedSAM2 paper lists them (Methods, data curation)
CT_WINDOWS = {
    "brain": (40, 80),
    "abdomen": (40, 400),
    "bone": (400, 1800),
    "lung": (-600, 1500),
    "mediastinum": (40, 400),
}
PERCENTILE = "percentile"
AUTO = "auto"
WINDOWS = (AUTO, *CT_WINDOWS, PERCENTILE)
AS_PICTURES = (127.5, 255.0)  # level and width that show 8 bits as they are

PERCENTILES = (0.5, 99.5)
# no MR or PET has values this low, and every CT has air
_AIR = -500
_MOST_VOXELS = 20_000_000  # from which percentiles are taken; more change nothing and cost memory


class Window(NamedTuple):
    """Intensities that become black and white."""

    low: float
    high: float

    def grey(self, intensities: np.ndarray) -> np.ndarray:
        """Return the grey levels 0 to 255 (uint8) of any array."""
        scaled = (intensities.astype(np.float32) - self.low) * (255 / (self.high - self.low))
        return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def window_of(words: list[str]) -> str | tuple[float, float]:
    """The value of ``--window``: a name, or a level and a width.

    Raises:
        UserError: it says neither.
    """
    if len(words) == 1 and words[0] in WINDOWS:
        return words[0]
    try:
        level, width = (float(word) for word in words)
    except ValueError as error:
        raise UserError(
            f"--window is {' '.join(words)}, but must be one of {', '.join(WINDOWS)}, or a level and a width."
        ) from error
    if not (math.isfinite(level) and math.isfinite(width) and width > 0):
        raise UserError(f"--window is {level:g} {width:g}, but the level must be finite and the width above 0.")
    return level, width


def choose_window(array: np.ndarray, window: str | tuple[float, float], modality: str | None = None) -> Window:
    """Choose the intensities that are shown black and white.

    Args:
        array: the whole image.
        window: a key of :data:`CT_WINDOWS`; "percentile" for the 0.5 and 99.5 percentiles of the voxels above 0 (MR,
            PET); "auto" for "abdomen" where the image is a CT, else "percentile"; or (level, width).
        modality: DICOM's, such as "CT", where known. Otherwise an image that has values below -500 counts as CT.

    Raises:
        UserError: there is no such window, or it has no width.
    """
    if isinstance(window, str):
        if window == AUTO:
            is_ct = modality == "CT" if modality else array.min() < _AIR
            window = "abdomen" if is_ct else PERCENTILE
        if window == PERCENTILE:
            return _percentiles(array)
        if window not in CT_WINDOWS:
            raise UserError(f"window is {window!r}, but must be one of {', '.join(WINDOWS)}, or a level and a width.")
        window = CT_WINDOWS[window]
    level, width = (float(value) for value in window)
    if not (np.isfinite(level) and np.isfinite(width) and width > 0):
        raise UserError(f"window has level {level:g} and width {width:g}, but the width must be above 0.")
    return Window(level - width / 2, level + width / 2)


def _percentiles(array: np.ndarray) -> Window:
    values = array.reshape(-1)[:: max(1, array.size // _MOST_VOXELS)]
    foreground = values[values > 0]
    low, high = np.percentile(foreground if foreground.size else values, PERCENTILES)
    if not high > low:  # a few bright voxels, or none
        low, high = values.min(), values.max()
    return Window(float(low), float(high) if high > low else float(low) + 1)
