"""Video files for tests, and frames whose number can be read from their pixels."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

COUNT, ROWS, COLUMNS = 40, 48, 64


def numbered_frame(index: int, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """A frame in colour whose grey level grows by 6 with its number, with a red corner at the top left."""
    frame = np.full((rows, columns, 3), 10 + 6 * index, dtype=np.uint8)
    frame[: rows // 4, : columns // 4] = (200, 20, 20)
    return frame


def number_of(frame: np.ndarray) -> int:
    """The number of a frame, whatever a codec did to it."""
    return round((float(np.median(frame)) - 10) / 6)


def write_video(
    path: Path,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    frames: list[np.ndarray] | None = None,
    times: list[Fraction] | None = None,
    container: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> None:
    """Write frames at 25 per second, or at given times in seconds."""
    frames = [numbered_frame(index) for index in range(COUNT)] if frames is None else frames
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = frames[0].shape[0], frames[0].shape[1], pixels
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, colours in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(colours, "rgb24")
            if times is not None:
                frame.time_base, frame.pts = Fraction(1, 1000), round(times[index] * 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def set_rotation(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Set the matrix a, b, c, d of a mp4's track, by which x' = a x + c y and y' = b x + d y; y points down."""
    content = bytearray(path.read_bytes())
    start = content.find(b"tkhd") + 44  # behind type, version, times, number, duration, layer and volume
    a, b, c, d = (value * 65536 for value in matrix)
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
