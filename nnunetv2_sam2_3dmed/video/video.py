"""The video type: frames of one size, decoded when they are needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError

# bounds on decoded frames in memory: 41 frames of 1920 x 1080, and of small frames as many as a second or two has
MOST_FRAMES, MOST_BYTES = 64, 256 * 1024**2
ASSUMED_RATE = 25.0  # frames per second, where a source states none


class FrameSource(Protocol):
    """Decoder of a video."""

    def decode(self, index: int) -> Iterable[tuple[int, np.ndarray]]:
        """Yield frames with their indices, (rows, columns, 3), uint8, ``index`` as the last or among them.

        Raises:
            UserError: the frame cannot be decoded.
        """


@dataclass(frozen=True)
class FrameGrid:
    """Geometry of a sequence that was stored as a volume, whose first array axis is time.

    Attributes:
        spacing: (time, row, column), as the file has it.
        origin: (x, y, z), as the file has it.
        direction: (3, 3), as ITK has it.
    """

    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: np.ndarray = field(default_factory=lambda: np.eye(3))


class Video:
    """Frames in the order of time.

    Up to :data:`MOST_FRAMES` decoded frames are kept, of large ones as many as fit into :data:`MOST_BYTES`.

    Args:
        name: in messages and file names.
        path: file or folder of the frames.
        shape: frames, rows, columns.
        source: decoder.
        times: of the frames in seconds, from 0, (frames,); None where the source does not state them.
        grid: geometry, of which the distances between rows and columns are millimetres where the source states them.
        is_dicom: the source is one DICOM file, to whose frames a DICOM SEG can refer.
        notes: assumptions, for the user.

    Raises:
        UserError: there are no frames.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        shape: tuple[int, int, int],
        source: FrameSource,
        times: np.ndarray | None = None,
        grid: FrameGrid | None = None,
        is_dicom: bool = False,
        notes: tuple[str, ...] = (),
    ):
        if min(shape) < 1:
            raise UserError(f"{path} has no frames: give a video with at least one.")
        self.name = name
        self.path = path
        self.shape = shape
        self.times = times
        self.grid = FrameGrid() if grid is None else grid
        self.is_dicom = is_dicom
        self.notes = notes
        self._source = source
        self._frames: OrderedDict[int, np.ndarray] = OrderedDict()
        self._most = max(1, min(MOST_FRAMES, MOST_BYTES // (shape[1] * shape[2] * 3)))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distances between frames, rows and columns; see :class:`FrameGrid`."""
        return self.grid.spacing

    @property
    def rate(self) -> float:
        """Mean number of frames per second; :data:`ASSUMED_RATE` where the source states none."""
        if self.times is None or len(self.times) < 2 or self.times[-1] <= self.times[0]:
            return ASSUMED_RATE
        return float((len(self.times) - 1) / (self.times[-1] - self.times[0]))

    def presentation_times(self) -> np.ndarray:
        """Return the times of the frames in seconds, (frames,), at the assumed rate where the source states none."""
        return np.arange(len(self)) / ASSUMED_RATE if self.times is None else self.times

    def frame(self, index: int) -> np.ndarray:
        """Return frame ``index``, (rows, columns, 3), uint8; of a grey video with three equal channels.

        Raises:
            UserError: it cannot be decoded, or has another size than the first frame.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        wanted = self._frames.get(index)
        if wanted is None:
            for number, frame in self._source.decode(index):
                if frame.shape[:2] != self.shape[1:]:
                    raise UserError(
                        f"frame {number} of {self.path} has {frame.shape[0]} x {frame.shape[1]} pixels, but the "
                        f"first one has {self.shape[1]} x {self.shape[2]}: give a video of one size."
                    )
                self._frames[number] = frame
                while len(self._frames) > self._most:
                    self._frames.popitem(last=False)
                if number == index:
                    wanted = frame
            assert wanted is not None, "a source yields the frame that it is asked for"
        if index in self._frames:  # of very large frames, not all that were decoded together are kept
            self._frames.move_to_end(index)
        return wanted


def as_colour(frame: np.ndarray) -> np.ndarray:
    """Return grey levels (rows, columns) with three equal channels (rows, columns, 3)."""
    return np.repeat(frame[..., None], 3, axis=-1)
