"""Prompted segmentation of a video: the calls of a session on a volume, with memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

from nnunetv2_sam2_3dmed.images.windows import Window
from nnunetv2_sam2_3dmed.interactive import prompts as checks
from nnunetv2_sam2_3dmed.interactive.model import DEFAULT_MODEL
from nnunetv2_sam2_3dmed.interactive.planes import Planes
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.interactive.session import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.shelf import Shelf
from nnunetv2_sam2_3dmed.interactive.tracks import DRAWN, Key
from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base
from nnunetv2_sam2_3dmed.video.frames import Frames
from nnunetv2_sam2_3dmed.video.opening import open_video
from nnunetv2_sam2_3dmed.video.video import Video

# of features: 30 frames of 512 pixels in float32, 50 in bfloat16. Corrections of short videos find them again, and the
# memory of a long video is that of a short one
MAX_CACHE_BYTES = 128 * 1024**2

# frames that are encoded together on a CPU: activations of more would be most of a session's memory
MOST_AT_ONCE = 2


class VideoSession(InteractiveSession):
    """SAM 2 on the frames of a video: prompts on some frames, masks on all.

    Coordinates are (frame, row, column), counted from 0. Frames are shown to the network as the loader of
    ``SAM2VideoPredictor`` shows them, in colour. There is one axis, 0, along time. All else is as in
    :class:`~nnunetv2_sam2_3dmed.interactive.InteractiveSession`, whose calls these are: prompts on any frame,
    propagation in both directions, corrections, several objects, undo. Where SAM 2 sees that an object is not on a
    frame, its mask there is empty; an empty mask given by :meth:`add_mask` says so.

    Memory does not grow with the number of frames: up to 64 decoded frames are kept, features up to
    ``max_cache_bytes``, the memories that attention still reaches, and the frames with prompts. Outputs of other frames
    lie in a temporary file, 0.2 MB for each object and frame at 512 pixels and 0.8 MB at 1024. :meth:`mask` and
    :meth:`labels` build arrays of all frames; :meth:`frame_labels`, :meth:`label_frames` and :meth:`save` do not.

    Args:
        model: see ``InteractiveSession``.
        device: see ``InteractiveSession``.
        precision: see ``InteractiveSession``.
        image_size: side in pixels to which frames are resized.
        max_cache_bytes: bound on the memory of features.

    Raises:
        UserError: there is no such model or device.
    """

    def __init__(
        self,
        model: str | Path | SAM2Base = DEFAULT_MODEL,
        device: str | torch.device = "auto",
        precision: str = "auto",
        image_size: int | None = None,
        max_cache_bytes: int = MAX_CACHE_BYTES,
    ):
        self._video: Video | None = None
        super().__init__(model, device, precision, image_size, max_cache_bytes)
        if self.device.type == "cpu":  # where larger batches save no time
            self._network.slices_at_once = min(self._network.slices_at_once, MOST_AT_ONCE)

    # ---- the video

    def set_video(self, video: Video | str | Path) -> Video:
        """Set the video; the one before and its objects are dropped.

        Args:
            video: a video, or its path; see ``open_video``.

        Raises:
            UserError: it cannot be opened. The session then keeps its video and objects.
        """
        opened = video if isinstance(video, Video) else open_video(video)
        self._video = opened
        self._features.clear()
        self._axes = (Frames(opened, self._network, self._features),)
        self.reset()
        return opened

    def set_image(self, *_: object, **__: object) -> NoReturn:
        """Refuse a volume.

        Raises:
            PromptError: always.
        """
        raise PromptError("this session is for videos: call set_video, or take InteractiveSession for a volume.")

    def clear(self) -> None:
        """Drop video, objects and features, and free their memory on the device; the model stays."""
        self._video = None
        super().clear()

    def reset(self) -> None:
        """Drop all objects and their protection; the video and the features of its frames stay."""
        super().reset()
        self._segmenter.keep = Shelf().keep

    @property
    def image(self) -> Video:  # type: ignore[override]
        """The video.

        Raises:
            PromptError: there is none.
        """
        if self._video is None:
            raise PromptError("there is no video yet: call set_video first.")
        return self._video

    @property
    def learned_axis(self) -> int:
        """The axis of frames, 0."""
        return 0

    @property
    def window(self) -> Window:
        """Grey levels that are shown black and white: those of the frames, 0 and 255."""
        return Window(0, 255)

    # ---- prompts

    def add_points(
        self,
        points: Sequence[Sequence[float]],
        labels: Sequence[int] | int = 1,
        object_id: int = 1,
        axis: int = 0,
    ) -> None:
        """Add points (frame, row, column), all on one frame, to the prompts of an object.

        Args:
            points: on one frame.
            labels: 1 for inside the object, 0 for outside; one for all or one per point.
            object_id: of a new or a known object, from 1.
            axis: 0.

        Raises:
            PromptError: a point is outside the video, they lie on several frames, or the frame shows nothing.
        """
        self._check_frames(points)
        super().add_points(points, labels, object_id, axis)

    def add_scribble(self, path: Sequence[Sequence[float]], label: int = 1, object_id: int = 1, axis: int = 0) -> None:
        """Add a line (frame, row, column) drawn over the object as up to 8 points; see :meth:`add_points`."""
        self._check_frames(path)
        super().add_scribble(path, label, object_id, axis)

    def add_box(self, corner: Sequence[float], opposite: Sequence[float], object_id: int = 1, axis: int = 0) -> None:
        """Set the box around the object on a frame by two opposite corners (frame, row, column).

        Raises:
            PromptError: the box is empty, or not on one frame inside the video, or the frame shows nothing.
        """
        self._check_frames([corner, opposite])
        super().add_box(corner, opposite, object_id, axis)

    # ---- masks

    def frame_mask(self, index: int, object_id: int = 1) -> np.ndarray:
        """Return an object's mask on a frame, bool (rows, columns); False where it has none.

        Raises:
            PromptError: there is no such object or frame.
        """
        self._slices(0).check_index(index)
        self._answer([object_id])
        return self._protection.mask(object_id, self.object_ids, lambda number: self._frame_logits(number, index))

    def frame_labels(self, index: int) -> np.ndarray:
        """Return the label map of all objects on a frame, uint8 or uint16 (rows, columns).

        In overlaps, a protected object counts, else the higher logit.

        Raises:
            PromptError: there is no such frame.
        """
        self._slices(0).check_index(index)
        known = self.object_ids
        self._answer(known)
        return self._protection.labels(
            self.image.shape[1:], known, lambda number: self._frame_logits(number, index), np.float32
        )

    def label_frames(self) -> Iterator[np.ndarray]:
        """Yield :meth:`frame_labels` of all frames in their order."""
        return (self.frame_labels(index) for index in range(len(self.image)))

    def mask(self, object_id: int = 1) -> np.ndarray:
        """Return an object's mask, bool (frames, rows, columns); False where it has no mask.

        Raises:
            PromptError: there is no such object.
        """
        found = np.zeros(self.image.shape, dtype=bool)
        self._objects.keys(object_id)
        for index in range(len(found)):
            found[index] = self.frame_mask(index, object_id)
        return found

    def labels(self) -> np.ndarray:
        """Return the label map of all objects, uint8 or uint16 (frames, rows, columns)."""
        first = self.frame_labels(0)
        labels = np.zeros(self.image.shape, dtype=first.dtype)
        for index in range(len(labels)):
            labels[index] = self.frame_labels(index)
        return labels

    def save(self, path: str | Path, labels: np.ndarray | None = None) -> Path:
        """Write all objects; what, says the name's ending.

        Args:
            path: ``.mp4``, ``.mkv``, ``.mov`` or ``.avi`` for the video with coloured masks; ``.json`` for COCO's run
                lengths; ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha`` for a label map; ``.dcm`` for DICOM SEG; without
                an ending, a new folder of indexed PNG masks as in DAVIS. It appears whole or not at all.
            labels: the result of :meth:`labels`, (frames, rows, columns), where that is known.

        Raises:
            UserError: the ending is none of these, a package is missing, or the files cannot be written.
        """
        from nnunetv2_sam2_3dmed.video.writing import write_masks

        frames = self.label_frames() if labels is None else iter(labels)
        return write_masks(Path(path), self.image, frames, self.object_ids)

    # ---- internals

    def _slices(self, axis: int) -> Planes:
        axis = checks.check_axis(axis)
        if axis != 0:
            raise PromptError(f"axis is {axis}, but a video has one, 0, along time: leave it out.")
        _ = self.image
        return self._axes[0]

    def _check_frames(self, points: Sequence) -> None:
        """Check that points lie on frames that exist; all else is checked as for a volume.

        Raises:
            PromptError: one does not.
        """
        try:
            frames = np.asarray(points, dtype=float).reshape(-1, 3)[:, 0]
        except (TypeError, ValueError):
            return
        for index in frames:
            self._slices(0).check_index(round(index))

    def _answer(self, object_ids: Sequence[int]) -> None:
        """Answer the prompts of objects that were not answered yet."""
        pending = [key for object_id in object_ids for key in self._objects.keys(object_id)]
        pending = [key for key in pending if self._objects.tracks[key].unanswered]
        if pending:
            with self._network.running():
                for key in pending:
                    self._segmenter.answer(key)

    def _frame_logits(self, object_id: int, index: int) -> np.ndarray:
        """Return the logits (rows, columns) of an object on a frame; -inf if it has neither a mask nor a start."""
        key = Key(object_id, 0)
        found = self._objects.track(key).masks(self._axes[0].shape, [index])
        start = None if found else self._segmenter.start(key, index)
        if start is not None:
            return np.where(start, np.float32(DRAWN), np.float32(-DRAWN))
        return found[index] if index in found else np.broadcast_to(np.float32(-np.inf), self.image.shape[1:])
