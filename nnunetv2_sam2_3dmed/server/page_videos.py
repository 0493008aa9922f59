"""Videos as a page shows them: frames in colour as JPEG, and the objects' numbers on each of them."""

from __future__ import annotations

import io
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.orientation import View
from nnunetv2_sam2_3dmed.images.volume import Volume
from nnunetv2_sam2_3dmed.images.volumes import WRITABLE
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.server.page_uploads import client_names
from nnunetv2_sam2_3dmed.server.page_volumes import Run, packed, write_seg
from nnunetv2_sam2_3dmed.video import Video, VideoSession, open_video
from nnunetv2_sam2_3dmed.video.dicom_seg import write_dicom_seg
from nnunetv2_sam2_3dmed.video.frames import AS_STORED
from nnunetv2_sam2_3dmed.video.png_masks import write_png_masks
from nnunetv2_sam2_3dmed.video.writing import COCO, DICOM, write_masks

JPEG_QUALITY = 90  # for the eye; the network sees the frame itself
MOST_LABEL_BYTES = 64 * 1024**2  # of compressed labels
PNG_MASKS = ".zip"
ENDINGS = (".mp4", PNG_MASKS, *WRITABLE, COCO, DICOM)


class FrameLabels:
    """The objects' numbers on the frames of a video, found when a frame is asked for, and kept compressed.

    All but :meth:`kept` is called where the session may be used.

    Args:
        session: with the objects.

    Attributes:
        version: rises with each change.
    """

    def __init__(self, session: VideoSession):
        self.version = 0
        self._session = session
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def refresh(self, session: InteractiveSession, changed: Collection[int] | None = None) -> None:
        """Let all frames be found anew."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0
            self.version += 1

    def refresh_slice(self, session: InteractiveSession, axis: int, index: int) -> None:
        """Let a frame be found anew."""
        with self._lock:
            self._bytes -= len(self._kept.pop(index, b""))
            self.version += 1

    def plane(self, axis: int, index: int) -> np.ndarray:
        """Return the numbers on a frame, (rows, columns)."""
        return self._session.frame_labels(index)

    def kept(self, index: int) -> bytes | None:
        """Return the packed numbers of a frame if they are kept; from any thread."""
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
            return self._kept.get(index)

    def find(self, index: int) -> bytes:
        """Return the packed numbers of a frame, and keep them."""
        found = packed(self._session.frame_labels(index))
        with self._lock:
            self._bytes += len(found) - len(self._kept.pop(index, b""))
            self._kept[index] = found
            while self._bytes > MOST_LABEL_BYTES and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return found


class ShownVideo:
    """A video that is open in a page.

    It decodes frames for the eye by itself: the session decodes those that the network sees, often elsewhere in the
    video, and on another thread.

    Args:
        session: with the video.
        name: as the user has named it.
        largest: bytes of a label map of all frames.

    Attributes:
        volume: geometry of its frames as a volume, for what is loaded; without their content.
        labels: the objects' numbers.
    """

    def __init__(self, session: VideoSession, name: str, largest: int):
        video = session.image
        grid = video.grid
        nothing = np.broadcast_to(np.uint8(0), video.shape)
        self.volume = Volume(nothing, grid.spacing, grid.origin, grid.direction, name=name)
        self.labels = FrameLabels(session)
        self._session = session
        self._path, self._largest = video.path, largest
        self._video = open_video(video.path)
        self._lock = threading.Lock()

    def view(self, axis: int) -> View:
        """Frames are shown as they are."""
        return AS_STORED

    def info(self) -> dict[str, Any]:
        """Describe the video: what does not change while it is open."""
        video: Video = self._session.image
        _, rows, columns = video.shape
        view = {
            "axis": 0,
            "name": "frame",
            "edges": "",
            "order": AS_STORED.order,
            "flips": AS_STORED.flips,
            "depth": len(video),
            "rows": rows,
            "columns": columns,
            "pixel": video.spacing[1:],
        }
        return {
            "name": self.volume.name,
            "shape": video.shape,
            "spacing": video.spacing,
            "modality": None,
            "notes": video.notes,
            "dicom": video.is_dicom,
            "inverted": False,
            "voxels": {"low": 0.0, "step": 1.0},
            "window": [0.0, 255.0],
            "learned_axis": 0,
            "views": [view],
            "video": {
                "times": np.round(video.presentation_times(), 4).tolist(),
                "rate": round(video.rate, 4),
                "timed": video.times is not None,
            },
        }

    def grey(self, axis: int, index: int) -> np.ndarray:
        """Refuse to give a slice.

        Raises:
            UserError: always.
        """
        raise UserError(f"{self.volume.name} is a video, which has frames and no slices: ask for a frame.")

    def frame(self, index: int) -> bytes:
        """Return a frame as JPEG; from any thread.

        Raises:
            UserError: it cannot be decoded.
        """
        with self._lock, self._named():
            frame = self._video.frame(index)
        content = io.BytesIO()
        Image.fromarray(frame).save(content, "JPEG", quality=JPEG_QUALITY)
        return content.getvalue()

    def _named(self) -> AbstractContextManager[None]:
        """Context in which errors name the video's files without the server's folders."""
        return client_names(self._path if self._path.is_dir() else self._path.parent, self.volume.name)

    def packed_labels(self, axis: int, index: int, run: Run) -> bytes:
        """Return the objects' numbers on a frame; see ``page_volumes.packed``.

        Raises:
            UserError: the axis is not that of frames.
        """
        if axis != 0:
            raise UserError(f"axis is {axis}, but a video has one, 0, along time.")
        kept = self.labels.kept(index)
        return run(lambda: self.labels.find(index)) if kept is None else kept

    def write(self, folder: Path, stem: str, ending: str, names: Mapping[int, str], run: Run) -> Path:
        """Write the masks into a file; called where the session may not be used.

        Args:
            folder: of the file.
            stem: its name without the ending.
            ending: one of :data:`ENDINGS`; .zip for indexed PNG masks, one per frame.
            names: of the objects by number, which only DICOM SEG keeps.
            run: see ``page_volumes.Run``; a frame is found at a time, between which predictions go on.

        Raises:
            UserError: the ending is another, the label map of all frames is too large, or see ``write_masks`` and
                ``write_dicom_seg``.
        """
        if ending not in ENDINGS:
            raise UserError(f"the format is {ending!r}, but of a video must be one of {', '.join(ENDINGS)}.")
        session = self._session
        with self._named():
            video = open_video(self._path)
        object_ids = run(lambda: session.object_ids)
        size = int(np.prod(video.shape)) * (1 if max(object_ids, default=0) < 256 else 2)
        if ending in (*WRITABLE, DICOM) and size > self._largest:  # all frames are in memory at once
            raise UserError(
                f"the masks of all frames take {size / 2**30:.1f} GiB as {ending}, but this server takes "
                f"{self._largest / 2**30:.1f} GiB: save PNG masks, or start it with a larger --largest-image."
            )
        labels = (run(partial(session.frame_labels, index)) for index in range(len(video)))
        path, masks = folder / f"{stem}{ending}", folder / "masks"
        with self._named(), client_names(folder):
            if ending == PNG_MASKS:
                write_png_masks(masks, labels)
            elif ending == DICOM:
                write_seg(lambda: write_dicom_seg(path, video, labels, names))
            else:
                write_masks(path, video, labels, object_ids)
        if ending != PNG_MASKS:
            return path
        with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:  # PNG is compressed already
            for file in sorted(masks.iterdir()):
                archive.write(file, f"{stem}/{file.name}")
        return path
