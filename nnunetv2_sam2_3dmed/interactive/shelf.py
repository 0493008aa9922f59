"""Outputs of SAM 2 in a temporary file, so that memory does not grow with the number of frames."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass

import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive.tracks import SliceOutput

ON_DISK = "/var/tmp"


def folder() -> str:
    """Folder of large temporary files."""
    named = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return ON_DISK if not named and os.access(ON_DISK, os.W_OK) else tempfile.gettempdir()


@dataclass(frozen=True)
class _Layout:
    """Types and shapes of an output's tensors, None where there is none, and their bytes in all."""

    tensors: tuple[tuple[torch.dtype, torch.Size] | None, ...]
    size: int


class Shelf:
    """A temporary file of outputs, which takes as much room as the outputs that anyone still has.

    At 512 pixels an output takes 0.2 MB and at 1024 pixels 0.8 MB. The file has no name, so that nothing of it is left
    however the process ends. It lies in the folder that ``TMPDIR`` names, else in ``/var/tmp`` where there is one: in
    many systems ``/tmp`` is in memory.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(dir=folder())
        self._end = 0
        self._free: dict[int, list[int]] = {}  # offsets by size
        self._layouts: dict[_Layout, _Layout] = {}  # one object for all outputs alike

    def keep(self, output: SliceOutput) -> ShelvedOutput:
        """Write an output of the host.

        Raises:
            UserError: the disk does not take it.
        """
        parts, content = [], []
        for tensor in output:
            parts.append(None if tensor is None else (tensor.dtype, tensor.shape))
            if tensor is not None:
                content.append(tensor.contiguous().view(torch.uint8).numpy().tobytes())
        data = b"".join(content)
        layout = _Layout(tuple(parts), len(data))
        layout = self._layouts.setdefault(layout, layout)
        free = self._free.get(layout.size)
        offset = free.pop() if free else self._end
        try:
            written = os.pwrite(self._file.fileno(), data, offset)
        except OSError as error:
            raise _no_room(len(data), error.strerror) from error
        if written != len(data):
            raise _no_room(len(data), f"{written} bytes were written")
        self._end = max(self._end, offset + layout.size)
        return ShelvedOutput(self, offset, layout)

    def read(self, offset: int, layout: _Layout) -> SliceOutput:
        """Read an output from its place."""
        data = bytearray(os.pread(self._file.fileno(), layout.size, offset))
        tensors: list[torch.Tensor | None] = []
        place = 0
        for part in layout.tensors:
            if part is None:
                tensors.append(None)
                continue
            dtype, shape = part
            tensor = torch.frombuffer(data, dtype=dtype, count=shape.numel(), offset=place).view(shape)
            tensors.append(tensor)
            place += tensor.numel() * tensor.element_size()
        return SliceOutput._make(tensors)

    def free(self, offset: int, size: int) -> None:
        """Give a place to the next output of that size."""
        self._free.setdefault(size, []).append(offset)


class ShelvedOutput:
    """Output on a shelf; its place is free once nothing refers to this any more."""

    __slots__ = ("_layout", "_offset", "_shelf")

    def __init__(self, shelf: Shelf, offset: int, layout: _Layout):
        self._shelf = shelf
        self._offset = offset
        self._layout = layout

    def load(self) -> SliceOutput:
        """Read the output."""
        return self._shelf.read(self._offset, self._layout)

    def __del__(self) -> None:
        self._shelf.free(self._offset, self._layout.size)


def _no_room(size: int, reason: str | None) -> UserError:
    return UserError(
        f"the masks of a frame ({size} bytes) cannot be kept in the temporary folder {folder()} "
        f"({reason}): name a folder with more room in TMPDIR."
    )
