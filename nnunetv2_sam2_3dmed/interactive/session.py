"""Prompted segmentation of a volume: one session, one image, any number of objects."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from nnunetv2_sam2_3dmed.images.exact_paths import check_no_twin
from nnunetv2_sam2_3dmed.images.volumes import (
    Volume,
    read_volume,
    volume_from_array,
    volume_from_sitk,
    write_segmentation,
)
from nnunetv2_sam2_3dmed.images.windows import AUTO, Window, choose_window
from nnunetv2_sam2_3dmed.interactive import prompts as checks
from nnunetv2_sam2_3dmed.interactive.masks import slice_logits
from nnunetv2_sam2_3dmed.interactive.model import DEFAULT_MODEL, choose_device, load_model
from nnunetv2_sam2_3dmed.interactive.objects import Key, Objects, Place
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError, SlicePrompt
from nnunetv2_sam2_3dmed.interactive.results import Progress, PromptedSlice, SliceMask
from nnunetv2_sam2_3dmed.interactive.segmenter import Segmenter
from nnunetv2_sam2_3dmed.interactive.shown_image import ShownImage
from nnunetv2_sam2_3dmed.interactive.slice_features import SliceFeatureCache
from nnunetv2_sam2_3dmed.network.prompted_sam2 import PromptedSAM2
from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base
from nnunetv2_sam2_3dmed.network.slice_cache import bound_on


class InteractiveSession:
    """SAM 2 on the slices of a volume: prompts on some slices, masks on all.

    Voxel coordinates are those of the array, in the order z, y, x, as SimpleITK and nnU-Net have them; an axis is 0, 1
    or 2 in that order. Masks come back on the image's own grid. To the network, slices are always shown the same way
    up, whatever the orientation in which the image is stored; voxels are not resampled except for SAM 2's square input.

    A call that cannot be served raises a ``UserError`` or, for a prompt, its subclass :class:`PromptError` (also a
    ``ValueError``), and leaves the session as it was. Use a session from one thread; only :meth:`stop` may be called
    from others.

    Memory on the device: the model; slice features up to ``max_cache_bytes``; and during a call, the memories that
    SAM 2 attends to, of each object those of all slices with prompts and of the latest 16 others, 0.2 MB each at 512
    pixels and 0.8 MB at 1024.

    Memory on the host: the image, and for each object and slice with a mask as much again; and once more for each
    propagation that :meth:`undo` could bring back, of up to 32 steps (3 GB for an object that was carried through 500
    slices 32 times).

    Args:
        model: the name of an installed checkpoint, a checkpoint file, or SAM 2 itself.
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1".
        precision: "auto" (bfloat16 where that is native), "bfloat16" or "float32".
        image_size: side in pixels to which slices are resized (default: see ``load_model``); not for a model that is
            built already.
        max_cache_bytes: bound on the memory of slice features, taken as it is. Default: 2 GiB, and on a GPU at most a
            quarter of its memory.

    Raises:
        UserError: there is no such model or device.
    """

    def __init__(
        self,
        model: str | Path | SAM2Base = DEFAULT_MODEL,
        device: str | torch.device = "auto",
        precision: str = "auto",
        image_size: int | None = None,
        max_cache_bytes: int | None = None,
    ):
        where = choose_device(device)
        network = model if isinstance(model, SAM2Base) else load_model(model, image_size)
        self._network = PromptedSAM2(network, where, precision)
        bound = bound_on(where) if max_cache_bytes is None else max_cache_bytes
        self._features: SliceFeatureCache[tuple[int, int]] = SliceFeatureCache(bound)
        self._image: ShownImage | None = None
        self._objects = Objects()
        self._stopped = threading.Event()

    # ---- the image

    def set_image(
        self,
        image: np.ndarray | sitk.Image | Volume | str | Path,
        spacing: Sequence[float] | None = None,
        window: str | tuple[float, float] = AUTO,
        origin: Sequence[float] = (0.0, 0.0, 0.0),
        direction: np.ndarray | Sequence[float] | None = None,
    ) -> Volume:
        """Takes an image, and forgets the one before with its objects.

        Args:
            image: an array (z, y, x); a SimpleITK image; or the path of a NIfTI, NRRD or MetaImage file or of a DICOM
                series.
            spacing: millimetres (z, y, x), needed for an array.
            window: what is black and white: "abdomen", "brain", "bone", "lung" or "mediastinum" (CT), "percentile" (MR,
                PET), "auto", or (level, width). "auto" is what a model trained within nnU-Net has learned, and for
                others "abdomen" for a CT and "percentile" for the rest.
            origin: of an array, (x, y, z) in mm, LPS.
            direction: of an array, nine values as ITK has them; default: along the axes of the patient.

        Returns:
            The image, with its geometry.

        Raises:
            UserError: it is no image of three dimensions, or has NaN voxels, or slices are missing; or there is no such
                window. The session keeps the image and the objects that it had.
        """
        if isinstance(image, Volume):
            volume = image
        elif isinstance(image, sitk.Image):
            volume = volume_from_sitk(image, "image")
        elif isinstance(image, (str, Path)):
            volume = read_volume(image)
        elif spacing is None:
            raise PromptError("an array needs its spacing: give spacing=(z, y, x) in mm.")
        else:
            volume = volume_from_array(image, spacing, origin, direction)
        learned = getattr(self._network.model, "shown_as", None)
        outside = None
        if window == AUTO and learned is not None:
            shown, outside = learned.window(volume.array), learned.outside(volume.array)
        else:
            shown = choose_window(volume.array, window, volume.modality)
        # what a model has learned goes by values, whatever way they are meant to be seen
        inverted = volume.inverted and (window != AUTO or learned is None)
        self._image = ShownImage(volume, shown, self._network, self._features, outside, inverted)
        self.reset()
        return volume

    def clear(self) -> None:
        """Forgets image, objects and features, and gives their memory on the device back; the model stays."""
        self._image = None
        self._objects = Objects()
        self._features.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def image(self) -> Volume:
        """The image.

        Raises:
            PromptError: there is none.
        """
        return self._shown.volume

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self._network.device

    @property
    def image_size(self) -> int:
        """Side in pixels to which slices are resized."""
        return self._network.image_size

    @property
    def learned_axis(self) -> int:
        """The axis of the image's array along which its slices lie as a model has learned within nnU-Net; else 0.

        Raises:
            PromptError: there is no image.
        """
        learned = getattr(self._network.model, "shown_as", None)
        direction = self.image.direction
        return 0 if learned is None else learned.axis_of(direction)

    @property
    def window(self) -> Window:
        """The intensities that are shown black and white."""
        return self._shown.window

    def prepare(self, axis: int = 0) -> None:
        """Encode the slices along an axis now, in batches, which their first prompts and propagations would wait for.

        Where the cache is too small for all of them, it is filled with as many as fit, the first ones of the array; the
        others are encoded when they are asked for, and push out those not used for longest.
        """
        axis = checks.check_axis(axis)
        with self._network.running():  # the weights are cast once for all batches
            self._shown.prepare(axis)

    def slice_as_seen(self, axis: int, index: int) -> np.ndarray:
        """Grey levels (rows, columns), uint8, of slice ``index`` along ``axis``, turned as the network sees it."""
        return self._shown.grey(axis, index)

    # ---- prompts

    def add_points(
        self,
        points: Sequence[Sequence[float]],
        labels: Sequence[int] | int = 1,
        object_id: int = 1,
        axis: int = 0,
    ) -> None:
        """Adds points to an object, beside what was said of it on that slice before.

        Args:
            points: voxel coordinates (z, y, x), all on one slice along ``axis``.
            labels: 1 for inside the object, 0 for outside; one for all or one per point.
            object_id: a new or a known one, from 1.
            axis: along which the slices lie that SAM 2 sees and goes through.

        Raises:
            PromptError: a point is outside the image, they lie on several slices, or the slice shows nothing.
        """
        axis, object_id = checks.check_axis(axis), checks.check_object(object_id)
        voxels, index = checks.check_points(points, self.image.shape, axis)
        inside = checks.check_labels(labels, len(voxels))
        seen = self._shown.seen_points(axis, voxels)
        self._add(Key(object_id, axis), index, lambda prompt: prompt.with_points(seen, inside))

    def add_scribble(self, path: Sequence[Sequence[float]], label: int = 1, object_id: int = 1, axis: int = 0) -> None:
        """Adds a line drawn over the object (or beside it, label 0): up to 8 points along it.

        Args:
            path: voxel coordinates (z, y, x) along the line, all on one slice along ``axis``.
            label: 1 for inside the object, 0 for outside.
            object_id: a new or a known one, from 1.
            axis: see :meth:`add_points`.

        Raises:
            PromptError: see :meth:`add_points`.
        """
        axis = checks.check_axis(axis)
        voxels, _ = checks.check_points(path, self.image.shape, axis, "scribble")
        points = checks.along_path(voxels) if len(voxels) > 1 else voxels
        self.add_points(points.tolist(), label, object_id, axis)

    def add_box(self, corner: Sequence[float], opposite: Sequence[float], object_id: int = 1, axis: int = 0) -> None:
        """Adds a box around the object on a slice, instead of any box there before.

        Args:
            corner: voxel coordinates (z, y, x).
            opposite: of the other end of the diagonal, on the same slice along ``axis``.
            object_id: a new or a known one, from 1.
            axis: see :meth:`add_points`.

        Raises:
            PromptError: the box is empty, or not on one slice inside the image, or the slice shows nothing.
        """
        axis, object_id = checks.check_axis(axis), checks.check_object(object_id)
        voxels, index = checks.check_points([corner, opposite], self.image.shape, axis, "corner of a box")
        rows_columns = self._shown.seen_points(axis, voxels)
        low, high = rows_columns.min(axis=0), rows_columns.max(axis=0)
        if not (high > low).all():
            first, last = (", ".join(f"{value:g}" for value in voxel) for voxel in voxels)
            raise PromptError(
                f"the box from ({first}) to ({last}) is empty: its corners must differ along both axes of the slice."
            )
        box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
        self._add(Key(object_id, axis), index, lambda prompt: prompt.with_box(box))

    def add_mask(self, mask: np.ndarray, index: int, object_id: int = 1, axis: int = 0) -> None:
        """Says exactly where the object is on a slice, instead of all that was said there before.

        An empty mask says that the object is not there; it needs a mask of the object on another slice.

        Args:
            mask: bool or 0 and 1, with the slice's two axes in the array's order.
            index: of the slice along ``axis``.
            object_id: a new or a known one, from 1.
            axis: see :meth:`add_points`.

        Raises:
            PromptError: the mask has another shape than the slice, or holds other values; or the slice shows nothing.
        """
        axis, object_id = checks.check_axis(axis), checks.check_object(object_id)
        index = checks.check_slice(index, self.image.shape, axis)
        inside = checks.check_mask(mask, self.image.shape, index, axis)
        drawn = np.ascontiguousarray(self.image.view(axis).plane(inside))
        place = Place(Key(object_id, axis), self._shown.seen_index(axis, index))
        if not drawn.any() and not self._objects.has_prompts_elsewhere(place):
            raise PromptError(
                f"the mask of object {object_id} on slice {index} along axis {axis} is empty: say first, on another "
                "slice, where the object is."
            )
        self._add(place.key, index, lambda _: replace(SlicePrompt.empty(), mask=drawn))

    def undo(self) -> None:
        """Takes back the latest prompt with all that followed from it; earlier masks are there again, to the bit.

        Raises:
            PromptError: there is nothing to undo.
        """
        self._objects.undo()

    def reset(self) -> None:
        """Forgets all objects; the image and the features of its slices stay."""
        self._objects = Objects()

    def remove_object(self, object_id: int) -> None:
        """Forgets an object; :meth:`undo` brings it back.

        Raises:
            PromptError: there is no such object.
        """
        self._objects.remove(object_id)

    @property
    def object_ids(self) -> list[int]:
        """The objects that have a prompt."""
        return self._objects.ids

    @property
    def prompts(self) -> list[PromptedSlice]:
        """All slices with prompts."""
        return [
            PromptedSlice(*key, self._shown.seen_index(key.axis, index), prompt)
            for key, track in sorted(self._objects.tracks.items(), key=lambda item: item[0])
            for index, prompt in sorted(track.prompts.items())
        ]

    # ---- masks

    def predict_slice(
        self, object_id: int | None = None, axis: int | None = None, index: int | None = None
    ) -> SliceMask:
        """The mask of an object on a slice: SAM 2's answer to the prompts there, or what propagation found.

        Args:
            object_id: default: that of the latest prompt.
            axis: default: that of the latest prompt.
            index: default: the slice of the latest prompt.

        Raises:
            PromptError: there is neither a prompt nor a mask on that slice; or SAM 2 sees nothing where the first
                prompts of an object are, which are then taken back.
        """
        latest = self._objects.latest
        if latest is None and (object_id is None or axis is None or index is None):
            raise PromptError("there is no prompt yet: add points, a box, a mask or a scribble first.")
        if latest is not None:
            object_id = latest.key.object_id if object_id is None else object_id
            axis = latest.key.axis if axis is None else axis
            index = self._shown.seen_index(latest.key.axis, latest.index) if index is None else index
        assert object_id is not None and axis is not None and index is not None
        key = Key(checks.check_object(object_id), checks.check_axis(axis))
        self._objects.check_known(key.object_id)
        index = checks.check_slice(index, self.image.shape, key.axis)
        place = Place(key, self._shown.seen_index(key.axis, index))
        if place.index in self._objects.track(key).unanswered:
            self._segmenter.answer(place)
        track = self._objects.track(key)
        view = self.image.view(key.axis)
        logits = slice_logits(track, place.index, self._shown.seen_shape(key.axis)[1:])
        output = track.output(place.index)
        if logits is None or output is None:
            raise PromptError(
                f"object {object_id} has neither a prompt nor a mask on slice {index} along axis {axis}: add a prompt "
                "there, or propagate."
            )
        own = np.ascontiguousarray(view.plane_back(logits))
        return SliceMask(key.object_id, key.axis, index, own > 0, own, float(output.quality))

    def propagate(
        self,
        object_ids: Sequence[int] | None = None,
        axis: int | None = None,
        slices: tuple[int, int] | None = None,
        direction: str = "both",
        progress: Callable[[Progress], None] | None = None,
    ) -> bool:
        """Carries the masks of slices with prompts to the others.

        All slices with prompts are conditioning memories, corrections on further slices too: call it again after them.
        From the first of these slices it goes forward to the end, and from there backward to the beginning, as
        ``SAM2VideoPredictor`` does; neither way uses what the other one found.

        Args:
            object_ids: default: all.
            axis: default: each along which there are prompts.
            slices: the first and the last slice to segment, both included; default: all.
            direction: "both"; or "forward" or "backward", in the order of the array, from the first slice with a prompt
                in that order.
            progress: called after each slice.

        Returns:
            Whether it went to the end; False after :meth:`stop`, when the slices that it reached have their new masks.

        Raises:
            PromptError: there are no prompts, or none of an object on these slices; or SAM 2 sees no object where the
                first prompts are.
        """
        self._stopped.clear()
        return self._segmenter.propagate(object_ids, axis, slices, direction, progress, self._stopped)

    def stop(self) -> None:
        """Ends the running :meth:`propagate` after the slice that it is at; from any thread, or from ``progress``."""
        self._stopped.set()

    def mask(self, object_id: int = 1) -> np.ndarray:
        """The object, bool (z, y, x) on the image's grid; it is nowhere where no mask has been made.

        Raises:
            PromptError: there is no such object.
        """
        return self._segmenter.logits(object_id) > 0

    def labels(self) -> np.ndarray:
        """All objects, uint8 or uint16 (z, y, x): their numbers, and 0. Where objects overlap the surer one counts."""
        known = self.object_ids
        labels = np.zeros(self.image.shape, dtype=np.uint8 if max(known, default=0) < 256 else np.uint16)
        best = np.zeros(self.image.shape, dtype=np.float16)
        for object_id in known:
            logits = self._segmenter.logits(object_id)
            higher = logits > best
            labels[higher] = object_id
            np.copyto(best, logits, where=higher)
        return labels

    def save(self, path: str | Path, labels: np.ndarray | None = None) -> Path:
        """Writes all objects as NIfTI, NRRD or MetaImage, or (``.dcm``) as DICOM SEG, beside, checked and renamed.

        Args:
            path: of the file.
            labels: what :meth:`labels` gave; default: asks for it.

        Raises:
            UserError: the ending is none of these; the file cannot be written, or would lie beside one that programs
                read for it (.nii, .nii.gz); or no DICOM SEG could be written, because the image is no DICOM series, no
                voxel belongs to an object, or for another reason. The objects are then in a ``.nii.gz`` beside it,
                which the message names.
        """
        path = Path(path)
        check_no_twin(path)
        found = self.labels() if labels is None else labels
        if path.suffix.lower() == ".dcm":
            from nnunetv2_sam2_3dmed.images.dicom_seg import write_dicom_seg_or_nifti

            write_dicom_seg_or_nifti(path, found, self.image)
        else:
            write_segmentation(path, found, self.image)
        return path

    # ---- what these are made of

    @property
    def _shown(self) -> ShownImage:
        if self._image is None:
            raise PromptError("there is no image yet: call set_image first.")
        return self._image

    @property
    def _segmenter(self) -> Segmenter:
        return Segmenter(self._network, self._shown, self._objects)

    def _add(self, key: Key, index: int, change: Callable[[SlicePrompt], SlicePrompt]) -> None:
        """Changes what is said of slice ``index`` of the array."""
        grey = self._shown.grey(key.axis, index)
        if grey.min() == grey.max():
            raise PromptError(
                f"slice {index} along axis {key.axis} shows nothing: all of it has the grey level {grey.flat[0]} in "
                f"the window from {self.window.low:g} to {self.window.high:g}; choose another slice or window."
            )
        place = Place(key, self._shown.seen_index(key.axis, index))
        before = self._objects.track(key).prompts.get(place.index, SlicePrompt.empty())
        self._objects.add_prompt(place, change(before))
