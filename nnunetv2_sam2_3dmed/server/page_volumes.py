"""Volumes as a page shows them: slices in grey in three planes, turned the same way up for every image."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError, in_one_line
from nnunetv2_sam2_3dmed.images.dicom_seg import write_dicom_seg
from nnunetv2_sam2_3dmed.images.orientation import LEFT, POSTERIOR, SUPERIOR, View, normal_along
from nnunetv2_sam2_3dmed.images.volume import Volume
from nnunetv2_sam2_3dmed.images.volumes import WRITABLE
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.server.page_labels import LabelMap

# a plane's name; letters at its left, right, top and bottom edge, in the views of images.orientation
_PLANES = {
    SUPERIOR: ("axial", "RLAP"),
    POSTERIOR: ("coronal", "RLSI"),
    LEFT: ("sagittal", "APSI"),
}
_LEVELS = 65535

T = TypeVar("T")
Run = Callable[[Callable[[], T]], T]  # runs a job where the session may be used


def packed(plane: np.ndarray) -> bytes:
    """Return a slice as uint16, little-endian, row by row, compressed with gzip."""
    # the fastest level: most servers are on the same machine
    return gzip.compress(np.ascontiguousarray(plane, dtype="<u2").tobytes(), 1)


class ShownVolume:
    """A volume that is open in a page.

    Args:
        session: with the volume.
        volume: the image, as the user has named it.

    Attributes:
        labels: the objects' numbers.
    """

    def __init__(self, session: InteractiveSession, volume: Volume):
        self.volume = volume
        self.labels = LabelMap(volume.shape)
        self._session = session
        self._low, self._interval = _levels(volume.array)

    def view(self, axis: int) -> View:
        """The view in which slices along ``axis`` are shown."""
        return self.volume.view(axis)

    def info(self) -> dict[str, Any]:
        """Describe the image: what does not change while it is open."""
        volume, window = self.volume, self._session.window
        views = []
        for axis in range(3):
            view = volume.view(axis)
            depth, rows, columns = view.shape(volume.shape)
            name, edges = _PLANES[normal_along(volume.direction, axis)]
            views.append(
                {
                    "axis": axis,
                    "name": name,
                    "edges": edges,
                    "order": view.order,
                    "flips": [bool(flip) for flip in view.flips],
                    "depth": depth,
                    "rows": rows,
                    "columns": columns,
                    "pixel": [volume.spacing[view.order[1]], volume.spacing[view.order[2]]],
                }
            )
        return {
            "name": volume.name,
            "shape": volume.shape,
            "spacing": volume.spacing,
            "modality": volume.modality,
            "notes": volume.notes,
            "dicom": bool(volume.dicom_files),
            "inverted": volume.inverted,
            "voxels": {"low": self._low, "step": self._interval},
            "window": [float(window.low), float(window.high)],
            "learned_axis": self._session.learned_axis,
            "views": views,
            "video": None,
        }

    def grey(self, axis: int, index: int) -> np.ndarray:
        """Return a slice turned as the network sees it, uint16; its intensities are low + step * value, see info."""
        view = self.volume.view(axis)
        plane = view.of(self.volume.array)[view.slice_index(index, self.volume.shape)]
        return np.rint((plane.astype(np.float64) - self._low) / self._interval).astype(np.uint16)

    def frame(self, index: int) -> bytes:
        """Refuse to give a frame.

        Raises:
            UserError: always.
        """
        raise UserError(f"{self.volume.name} is a volume, which has slices and no frames: ask for a slice.")

    def packed_labels(self, axis: int, index: int, run: Run) -> bytes:
        """Return the objects' numbers on a slice turned as the network sees it; see :func:`packed`."""
        view = self.volume.view(axis)
        return packed(view.of(self.labels.array)[view.slice_index(index, self.volume.shape)])

    def write(self, folder: Path, stem: str, ending: str, names: Mapping[int, str], run: Run) -> Path:
        """Write the segmentation into a file; called where the session may not be used.

        Args:
            folder: of the file.
            stem: its name without the ending.
            ending: one of ``WRITABLE``, or .dcm.
            names: of the objects by number, which only DICOM SEG keeps.
            run: see :data:`Run`.

        Raises:
            UserError: the ending is another; or see ``InteractiveSession.save`` and ``write_dicom_seg``.
        """
        if ending not in (*WRITABLE, ".dcm"):
            raise UserError(f"the format is {ending!r}, but must be one of {', '.join((*WRITABLE, '.dcm'))}.")
        # written here: compression takes longer than many predictions, which need not wait for it
        path, labels = folder / f"{stem}{ending}", run(self._session.labels)
        if ending != ".dcm":
            return self._session.save(path, labels)
        write_seg(lambda: write_dicom_seg(path, labels, self.volume, names))
        return path


def write_seg(write: Callable[[], None]) -> None:
    """Write a DICOM SEG for the page, which can choose another format if that fails.

    Raises:
        UserError: it could not be written.
    """
    try:
        write()
    except UserError:
        raise
    except Exception as error:  # highdicom and pydicom raise anything
        said = in_one_line(error).rstrip(".") or type(error).__name__
        raise UserError(f"no DICOM SEG could be written ({said}): save in another format.") from error


def _levels(array: np.ndarray) -> tuple[float, float]:
    """Return the lowest intensity, and the step between 65536 levels that reach the highest."""
    low, high = float(array.min()), float(array.max())
    if np.issubdtype(array.dtype, np.integer) and high - low <= _LEVELS:
        return low, 1.0
    return low, (high - low) / _LEVELS or 1.0
