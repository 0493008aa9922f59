"""A video of a ball that moves, whose frames tell their numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COUNT, ROWS, COLUMNS = 14, 48, 64
RADIUS = 9
BALL = (210, 120, 60)


def centre(index: int) -> tuple[int, int]:
    """Row and column of the ball's centre: it goes to the right and down."""
    return 16 + index, 14 + 2 * index


def ball(index: int) -> np.ndarray:
    """The ball on a frame, bool."""
    rows, columns = np.ogrid[:ROWS, :COLUMNS]
    row, column = centre(index)
    return (rows - row) ** 2 + (columns - column) ** 2 < RADIUS**2


def frame(index: int) -> np.ndarray:
    """A frame whose ground tells its number by the level of blue."""
    colours = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    colours[...] = (40, 60, 8 * index)
    colours[ball(index)] = BALL
    return colours


def number_of(colours: np.ndarray) -> int:
    """The number of a frame, whatever a codec did to it."""
    return round(float(np.median(colours[:6, :, 2])) / 8)


def write_frames(folder: Path, count: int = COUNT) -> Path:
    """Write the frames as numbered pictures."""
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(frame(index)).save(folder / f"{index:03d}.png")
    return folder
