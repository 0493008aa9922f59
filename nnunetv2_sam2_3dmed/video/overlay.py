"""Videos with coloured masks over their frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from scipy.ndimage import binary_erosion

from nnunetv2_sam2_3dmed.files import written_beside
from nnunetv2_sam2_3dmed.images.overlays import FILL_OPACITY, class_colour
from nnunetv2_sam2_3dmed.video.containers import pyav
from nnunetv2_sam2_3dmed.video.video import Video

ENDINGS = (".mp4", ".mkv", ".mov", ".avi")
_QUALITY = {"crf": "17"}  # of x264: differences to the source are hard to see
_TICKS = 90_000  # per second, for frames at any times, as MPEG has them
_EVEN = 1e-3  # seconds by which steps between frames may differ that count as equal


def colour_frame(frame: np.ndarray, labels: np.ndarray, object_ids: Sequence[int]) -> np.ndarray:
    """Draw masks over a frame: a translucent fill and an outline within the mask.

    Args:
        frame: (rows, columns, 3), uint8.
        labels: (rows, columns), object numbers and 0.
        object_ids: all objects, whose order gives their colours.

    Returns:
        (rows, columns, 3), uint8.
    """
    drawn = frame.astype(np.float32)
    for object_id in object_ids:
        mask = labels == object_id
        if not mask.any():
            continue
        colour = 255 * np.array(to_rgb(class_colour(object_id, object_ids)), dtype=np.float32)
        drawn[mask] = (1 - FILL_OPACITY) * drawn[mask] + FILL_OPACITY * colour
        drawn[mask & ~binary_erosion(mask, border_value=1)] = colour
    return np.rint(drawn).astype(np.uint8)


def write_overlay(path: Path, video: Video, labels: Iterable[np.ndarray], object_ids: Sequence[int]) -> None:
    """Write the video with coloured masks, its frames at their times.

    Frames of odd sizes get one more row or column, a copy of the last: x264 needs even ones. Sound is left out.

    Args:
        path: of the file, which appears whole or not at all; mp4, mkv, mov or avi. Avi has no times of single frames:
            they come at the mean rate.
        video: the source.
        labels: (rows, columns) for each frame in order.
        object_ids: all objects.

    Raises:
        UserError: PyAV is not installed, or the file cannot be written.
    """
    av = pyav()
    times = video.presentation_times()
    even = path.suffix.lower() == ".avi" or len(times) < 3 or np.ptp(np.diff(times)) <= _EVEN
    rate = Fraction(video.rate).limit_denominator(1001)
    unit = 1 / rate if even else Fraction(1, _TICKS)
    with written_beside(path, path.suffix.lower(), failures=(av.FFmpegError,)) as beside:
        with av.open(str(beside), "w") as file:
            stream = file.add_stream("libx264", rate=rate, options=_QUALITY)
            stream.height, stream.width = (length + length % 2 for length in video.shape[1:])
            stream.pix_fmt = "yuv420p"  # what all players show
            stream.codec_context.time_base = unit
            if path.suffix.lower() == ".avi":
                stream.codec_context.max_b_frames = 0  # avi has no times that would tell their order
            for index, mask in enumerate(labels):
                frame = _even_frame(av, colour_frame(video.frame(index), mask, object_ids))
                frame.time_base, frame.pts = unit, index if even else round(times[index] * _TICKS)
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))


def _even_frame(av: Any, colours: np.ndarray) -> Any:
    rows, columns = colours.shape[:2]
    padded = np.pad(colours, ((0, rows % 2), (0, columns % 2), (0, 0)), mode="edge")
    return av.VideoFrame.from_ndarray(padded, "rgb24")
