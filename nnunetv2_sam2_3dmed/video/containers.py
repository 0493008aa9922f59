"""Frames of mp4, avi, mov and mkv files, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.video.video import Video

ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm")
MOST_PIXELS = 2**25  # of a frame, about 8K; FFmpeg decodes no larger one, whatever the file's header says
# frames that are decoded and dropped rather than looked for anew
_NEAR = 32


# first bytes of mp4 and mov (behind a length), mkv and webm, avi
_ATOMS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
_MATROSKA, _RIFF, _AVI = b"\x1aE\xdf\xa3", b"RIFF", b"AVI "


def format_of(path: Path) -> str | None:
    """Return FFmpeg's name of a file's format by its first bytes; None for others than mp4, mov, mkv, webm and avi."""
    with path.open("rb") as file:
        start = file.read(12)
    if start[4:8] in _ATOMS:
        return "mp4"
    if start[:4] == _MATROSKA:
        return "matroska"
    return "avi" if start[:4] == _RIFF and start[8:] == _AVI else None


def pyav() -> ModuleType:
    """Return the module ``av``.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError("video files need PyAV: install it with `pip install 'nnunetv2-sam2-3dmed[video]'`.") from error
    return av


def read_container(path: Path) -> Video:
    """Open a video file, of which the packets are counted and the first frame is decoded.

    Raises:
        UserError: PyAV is not installed, or the file is torn, holds no video, or cannot be decoded.
    """
    source = ContainerFrames(path)
    _, first = next(iter(source.decode(0)))
    return Video(
        path.name,
        path,
        (len(source.times), first.shape[0], first.shape[1]),
        source,
        times=source.times,
        notes=tuple(source.notes),
    )


class ContainerFrames:
    """Decoder of the first video stream of a file.

    Frames are found by their times. Where the file's times cannot tell them apart (h264 with B frames in avi, which has
    no such times), they are counted from the beginning.

    Args:
        path: of the file.

    Attributes:
        times: of the frames in seconds, from 0.
        notes: assumptions, for the user.

    Raises:
        UserError: see :func:`read_container`.
    """

    def __init__(self, path: Path):
        self.path = path
        self.notes: list[str] = []
        self._av = pyav()
        self._stamps: list[int] = []  # of frames, in the stream's unit of time
        self._open()
        self._index()
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._next = -1  # index of the frame that the iterator gives next

    def _open(self) -> None:
        try:
            # as the first bytes say, where FFmpeg may find another format further on
            self._container = self._av.open(str(self.path), format=format_of(self.path))
        except self._av.FFmpegError as error:
            raise UserError(
                f"{self.path} cannot be opened as a video ({_reason(error)}): it is torn or no video, copy it again."
            ) from error
        if not self._container.streams.video:
            raise UserError(f"{self.path} holds no video: give a file with frames.")
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}

    def _index(self) -> None:
        """Find the frames' times without decoding them."""
        stamps: list[int | None] = []
        hidden = 0
        try:
            for packet in self._container.demux(self._stream):
                if not packet.size:
                    continue
                if packet.is_discard:
                    hidden += 1
                    continue
                stamps.append(packet.pts)
        except self._av.FFmpegError as error:
            raise self._torn(len(stamps), _reason(error)) from error
        if not stamps:
            raise UserError(f"{self.path} has no frames: it is torn or empty, copy it again.")
        stated = self._stream.frames
        if stated > len(stamps) + hidden:
            raise self._torn(len(stamps), f"its header states {stated}")
        self._check_length(stamps)
        self._counted = None in stamps or len(set(stamps)) < len(stamps) or self._has_decoding_order()
        if not self._counted:
            self._stamps = sorted(stamp for stamp in stamps if stamp is not None)
            self._places = {stamp: place for place, stamp in enumerate(self._stamps)}
            unit = float(self._stream.time_base)
            self.times = (np.array(self._stamps, dtype=float) - self._stamps[0]) * unit
        else:
            rate = self._stream.average_rate or self._stream.guessed_rate
            if not rate:
                rate = 25
                self.notes.append("the file states no times of its frames: 25 per second are assumed.")
            self.times = np.arange(len(stamps)) / float(rate)

    def _check_length(self, stamps: list[int | None]) -> None:
        """Compare the last time with the length that the header of a mkv states, which states no number of frames."""
        length = self._container.duration
        last = max((stamp for stamp in stamps if stamp is not None), default=None)
        if self._stream.frames or not length or last is None or len(self._container.streams) > 1:
            return
        stated, there = length / self._av.time_base, float(last * self._stream.time_base)
        if there < 0.9 * stated and there < stated - 0.5:
            raise self._torn(len(stamps), f"its header states {stated:.1f} s, of which {there:.1f} s are there")

    def _has_decoding_order(self) -> bool:
        """True for times that follow the order of packets where that is not the order of frames."""
        return self._container.format.name == "avi" and bool(self._stream.codec_context.has_b_frames)

    def decode(self, index: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the frames from the key frame before ``index``, or from the one decoded last, up to ``index``.

        Raises:
            UserError: the frame cannot be decoded.
        """
        if self._next < 0 or not 0 <= index - self._next <= _NEAR:
            self._seek(index)
        try:
            for place, frame in self._frames:
                self._next = place + 1
                yield place, self._upright(frame)
                if place >= index:
                    break
            else:
                place = -1
        except self._av.FFmpegError as error:
            self._next = -1
            raise self._broken(index, _reason(error)) from error
        if place != index:
            self._next = -1
            raise self._broken(index, "the decoder gives none")

    def _seek(self, index: int) -> None:
        """Go to the last key frame from which frame ``index`` can be decoded."""
        try:
            if self._counted:
                self._container.close()
                self._open()
                self._frames = enumerate(self._container.decode(self._stream))
            else:
                self._container.seek(self._stamps[index], stream=self._stream, backward=True)
                self._frames = self._placed()
        except self._av.FFmpegError as error:
            raise self._broken(index, _reason(error)) from error

    def _placed(self) -> Iterator[tuple[int, Any]]:
        """Yield decoded frames with their indices; those that the file hides have none."""
        for frame in self._container.decode(self._stream):
            if frame.pts in self._places:
                yield self._places[frame.pts], frame

    def _upright(self, frame: Any) -> np.ndarray:
        """Return a frame (rows, columns, 3), uint8, turned as the file says it is to be shown."""
        if frame.interlaced_frame and not self.notes:
            self.notes.append("its frames are interlaced, two moments in one: moving edges are combs.")
        colours = frame.to_ndarray(format="rgb24")
        turns = round(frame.rotation / 90) % 4  # counterclockwise
        return np.ascontiguousarray(np.rot90(colours, turns)) if turns else colours

    def _torn(self, count: int, reason: str) -> UserError:
        return UserError(f"{self.path} is torn after {count} frames ({reason}): copy it again, or cut it there.")

    def _broken(self, index: int, reason: str) -> UserError:
        return UserError(
            f"frame {index} of {self.path} cannot be decoded ({reason}): the file is damaged, copy it again."
        )


def _reason(error: Exception) -> str:
    """The reason that FFmpeg gives, without its number and the file."""
    return str(getattr(error, "strerror", None) or error).rstrip(".").lower()
