"""Prompted segmentation of a volume: a session has one image and any number of objects."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from nnunetv2_sam2_3dmed.images.windows import AUTO, Window
from nnunetv2_sam2_3dmed.interactive import prompts as checks
from nnunetv2_sam2_3dmed.interactive import saved_prompts
from nnunetv2_sam2_3dmed.interactive.engine import Engine
from nnunetv2_sam2_3dmed.interactive.intensities import ShownAs
from nnunetv2_sam2_3dmed.interactive.model import DEFAULT_MODEL, choose_device, load_model
from nnunetv2_sam2_3dmed.interactive.objects import Objects
from nnunetv2_sam2_3dmed.interactive.planes import Cache, Planes
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError, SlicePrompt
from nnunetv2_sam2_3dmed.interactive.propagation import Propagation, check_request
from nnunetv2_sam2_3dmed.interactive.protection import Protection
from nnunetv2_sam2_3dmed.interactive.recist import box_around
from nnunetv2_sam2_3dmed.interactive.results import Progress, PromptedSlice, SavedObject, SliceMask
from nnunetv2_sam2_3dmed.interactive.saved_prompts import SavedPrompts
from nnunetv2_sam2_3dmed.interactive.segmenter import Segmenter
from nnunetv2_sam2_3dmed.interactive.slices import AxisSlices, ShownImage, show
from nnunetv2_sam2_3dmed.interactive.tracks import DRAWN, Key, PromptPlace
from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base
from nnunetv2_sam2_3dmed.network.slice_cache import bound_on

_NO_IMAGE = "there is no image yet: call set_image first."


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
    propagation that :meth:`undo` or :meth:`redo` could bring back, of up to 32 steps (3 GB for an object that was
    propagated through 500 slices 32 times); and a byte per voxel for each start.

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
        self._network = Engine(network, where, precision)
        # the slice in use is kept whatever the bound
        self._features = Cache(bound_on(where) if max_cache_bytes is None else max_cache_bytes, at_least=1)
        self._image: ShownImage | None = None
        self._axes: tuple[Planes, ...] = ()
        self._objects = Objects()
        self.reset()
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
        """Set the image; the one before and its objects are dropped.

        Args:
            image: an array (z, y, x); a SimpleITK image; or the path of a NIfTI, NRRD or MetaImage file or of a DICOM
                series.
            spacing: millimetres (z, y, x), needed for an array.
            window: intensities shown black and white: "abdomen", "brain", "bone", "lung" or "mediastinum" (CT),
                "percentile" (MR, PET), "auto", or (level, width). "auto" is that of the training for a model trained
                within nnU-Net; for others "abdomen" for a CT and "percentile" for the rest.
            origin: of an array, (x, y, z) in mm, LPS.
            direction: of an array, nine values as ITK has them; default: along the axes of the patient.

        Returns:
            The image, with its geometry.

        Raises:
            UserError: the image does not have three dimensions, has NaN voxels, or lacks slices; or there is no such
                window. The session then keeps its image and objects.
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
        self._image = show(volume, window, self._learned)
        self._features.clear()
        self._axes = tuple(AxisSlices(self._image, axis, self._network, self._features) for axis in range(3))
        self.reset()
        return volume

    def clear(self) -> None:
        """Drop image, objects and features, and free their memory on the device; the model stays."""
        self._image = None
        self._axes = ()
        self.reset()
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
    def model(self) -> SAM2Base:
        """The network, which further sessions can take."""
        return self._network.model

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self._network.device

    @property
    def image_size(self) -> int:
        """Side in pixels to which slices are resized."""
        return self._network.image_size

    @property
    def learned_axis(self) -> int:
        """Axis of the array whose slices lie as in the training of a model trained within nnU-Net; 0 for others.

        Raises:
            PromptError: there is no image.
        """
        direction = self.image.direction
        return 0 if self._learned is None else self._learned.axis_of(direction)

    @property
    def window(self) -> Window:
        """Intensities that are shown black and white."""
        return self._shown.window

    def prepare(self, axis: int = 0) -> None:
        """Encode the slices along an axis now, in batches, so that prompts and propagations do not wait for it.

        Where the cache is too small for all of them, it is filled with the first ones of the array; the others are
        encoded on demand, and replace those not used for longest.
        """
        slices = self._slices(axis)
        with self._network.running():  # the weights are cast once for all batches
            slices.prepare()

    def slice_as_seen(self, axis: int, index: int) -> np.ndarray:
        """Grey levels (rows, columns), uint8, of slice ``index`` along ``axis``, turned as the network sees it."""
        slices = self._slices(axis)
        return slices.picture(slices.turned(index))

    # ---- prompts

    def add_points(
        self,
        points: Sequence[Sequence[float]],
        labels: Sequence[int] | int = 1,
        object_id: int = 1,
        axis: int = 0,
    ) -> None:
        """Add points to the prompts of an object on a slice.

        Args:
            points: voxel coordinates (z, y, x), all on one slice along ``axis``.
            labels: 1 for inside the object, 0 for outside; one for all or one per point.
            object_id: of a new or a known object, from 1.
            axis: of the slices that SAM 2 segments and propagates through.

        Raises:
            PromptError: a point is outside the image, they lie on several slices, or the slice shows nothing.
        """
        slices, object_id = self._slices(axis), checks.check_object(object_id)
        voxels, index = checks.check_points(points, self.image.shape, axis)
        inside = checks.check_labels(labels, len(voxels))
        prompt, place = self._prompt(slices, object_id, index)
        self._objects.add_prompt(place, prompt.with_points(slices.points(voxels), inside))

    def add_scribble(self, path: Sequence[Sequence[float]], label: int = 1, object_id: int = 1, axis: int = 0) -> None:
        """Add a line drawn over the object (or beside it, label 0) as up to 8 points along it.

        Args:
            path: voxel coordinates (z, y, x) along the line, all on one slice along ``axis``.
            label: 1 for inside the object, 0 for outside.
            object_id: of a new or a known object, from 1.
            axis: see :meth:`add_points`.

        Raises:
            PromptError: see :meth:`add_points`.
        """
        axis = checks.check_axis(axis)
        voxels, _ = checks.check_points(path, self.image.shape, axis, "scribble")
        points = checks.along_path(voxels) if len(voxels) > 1 else voxels
        self.add_points(points.tolist(), label, object_id, axis)

    def add_box(self, corner: Sequence[float], opposite: Sequence[float], object_id: int = 1, axis: int = 0) -> None:
        """Set the box around the object on a slice.

        Args:
            corner: voxel coordinates (z, y, x).
            opposite: of the other end of the diagonal, on the same slice along ``axis``.
            object_id: of a new or a known object, from 1.
            axis: see :meth:`add_points`.

        Raises:
            PromptError: the box is empty, or not on one slice inside the image, or the slice shows nothing.
        """
        slices, object_id = self._slices(axis), checks.check_object(object_id)
        voxels, index = checks.check_points([corner, opposite], self.image.shape, axis, "corner of a box")
        box = checks.check_box(slices.points(voxels), voxels)
        prompt, place = self._prompt(slices, object_id, index)
        self._objects.add_prompt(place, prompt.with_box(box))

    def add_recist(
        self,
        longest: Sequence[Sequence[float]],
        perpendicular: Sequence[Sequence[float]] | None = None,
        object_id: int = 1,
        axis: int = 0,
    ) -> None:
        """Set the box of a RECIST measurement: of the ellipse that has both diameters, of the circle that has one.

        Args:
            longest: voxel coordinates (z, y, x) of both ends of the longest diameter, on one slice along ``axis``.
            perpendicular: likewise, of the longest diameter perpendicular to it.
            object_id: of a new or a known object, from 1.
            axis: see :meth:`add_points`.

        Raises:
            PromptError: a diameter does not have two ends or has no length, the two are far from perpendicular, or see
                :meth:`add_box`.
        """
        axis = checks.check_axis(axis)
        lines = [longest] if perpendicular is None else [longest, perpendicular]
        if any(len(line) != 2 for line in lines):
            raise PromptError(
                "a diameter has two ends: give (z, y, x) of each, as in longest=[(9, 4, 7), (9, 30, 22)]."
            )
        shape = self.image.shape
        ends, index = checks.check_points([end for line in lines for end in line], shape, axis, "diameter's end")
        plane = [number for number in range(3) if number != axis]
        corners = box_around(ends[:, plane], np.array(self.image.spacing)[plane])
        inside = [np.insert(np.clip(c, 0, np.array(shape)[plane] - 1), axis, index).tolist() for c in corners]
        self.add_box(inside[0], inside[1], object_id, axis)

    def add_mask(self, mask: np.ndarray, index: int, object_id: int = 1, axis: int = 0) -> None:
        """Set the mask of the object on a slice, instead of all other prompts there.

        An empty mask states that the object is not on the slice; it needs a start, or a prompt on another slice.

        Args:
            mask: bool or 0 and 1, with the slice's two axes in the array's order.
            index: of the slice along ``axis``.
            object_id: of a new or a known object, from 1.
            axis: see :meth:`add_points`.

        Raises:
            PromptError: the mask has another shape than the slice, or holds other values; or the slice shows nothing.
        """
        slices, object_id = self._slices(axis), checks.check_object(object_id)
        shape = self.image.shape
        index = slices.check_index(index)
        drawn = np.ascontiguousarray(slices.view.plane(checks.check_mask(mask, shape, index, axis)))
        if not drawn.any() and not self._objects.known_elsewhere(Key(object_id, axis), slices.turned(index)):
            raise PromptError(
                f"the mask of object {object_id} on slice {index} along axis {axis} is empty: say first, on another "
                "slice, where the object is."
            )
        _, place = self._prompt(slices, object_id, index)
        self._objects.add_prompt(place, replace(SlicePrompt.empty(), mask=drawn))

    def set_start(self, mask: np.ndarray, object_id: int = 1) -> None:
        """Start an object from a mask of the whole volume, instead of all its prompts.

        The mask is the object's as it is until a prompt changes it. Prompts on a slice then refine the start's mask
        there: as with SAM 2's own previous masks, the decoder gets its logits at low resolution with the prompts. Where
        the start is empty on that slice, the prompts are the first ones of any object.

        :meth:`propagate` spreads such a correction as far as it matters. This is ours, not SAM 2's: it goes outwards
        from each slice with prompts, half-way to the next of them where there are two, and ends in each direction on
        the first slice where its mask and the start's have a Dice of at least 0.95, or both are empty; that slice and
        those behind it have the start's mask. A correction that leaves nothing of the object on its slice is for that
        slice alone.

        Args:
            mask: bool or 0 and 1, of the image's shape (z, y, x).
            object_id: of a new or a known object, from 1.

        Raises:
            PromptError: the mask has another shape than the image, holds other values, or is empty.
        """
        self.set_starts({object_id: mask})

    def set_starts(self, masks: Mapping[int, np.ndarray]) -> None:
        """Start objects as :meth:`set_start` does, all in one step that :meth:`undo` takes back.

        Args:
            masks: by object.

        Raises:
            PromptError: see :meth:`set_start`.
        """
        shape = self.image.shape
        self._objects.set_starts({checks.check_object(k): checks.check_volume(m, shape) for k, m in masks.items()})

    def undo(self, forget: bool = False) -> list[int]:
        """Undo the latest step: a prompt, starts or a removal, with all that followed from it.

        Earlier masks are restored bit for bit. What was propagated of other objects meanwhile stays.

        Args:
            forget: :meth:`redo` does not do it again, as for a prompt that could not be answered.

        Returns:
            The objects whose masks may differ.

        Raises:
            PromptError: there is nothing to undo.
        """
        return self._protection.affected(self._objects.undo(forget), self.object_ids)

    def redo(self) -> list[int]:
        """Redo the step that was undone last, with the masks that had followed from it; a new step empties this.

        Returns:
            The objects whose masks may differ.

        Raises:
            PromptError: there is nothing to redo.
        """
        return self._protection.affected(self._objects.redo(), self.object_ids)

    def forget_steps(self) -> None:
        """Let :meth:`undo` go no further back than now."""
        self._objects.forget_steps()

    @property
    def can_undo(self) -> bool:
        """True if there is a step to undo."""
        return self._objects.can_undo

    @property
    def can_redo(self) -> bool:
        """True if there is a step to redo."""
        return self._objects.can_redo

    @property
    def undoable_ids(self) -> list[int]:
        """Return the objects of the step that :meth:`undo` takes back; empty if there is none."""
        return self._objects.undoable_ids

    @property
    def redoable_ids(self) -> list[int]:
        """Return the objects of the step that :meth:`redo` does again; empty if there is none."""
        return self._objects.redoable_ids

    def reset(self) -> None:
        """Drop all objects and their protection; the image and the features of its slices stay."""
        self._objects.clear()
        self._protection = Protection()
        self._segmenter = Segmenter(self._network, self._axes, self._objects)

    def remove_object(self, object_id: int) -> None:
        """Remove an object; :meth:`undo` restores it.

        Raises:
            PromptError: there is no such object.
        """
        self._objects.remove(object_id)

    def protect(self, object_id: int, protected: bool = True) -> None:
        """Protect an object's mask from all other objects, or no longer.

        In :meth:`mask`, :meth:`labels` and :meth:`save`, no other object gets a voxel of it; of two protected objects,
        the one that was protected first keeps the voxels of both. This is no step: :meth:`undo` and :meth:`redo` do not
        change it, nor does a removal, after which the object's number stays protected.

        Raises:
            PromptError: there is no such object.
        """
        self._objects.keys(object_id)
        self._protection.set(object_id, protected)

    @property
    def protected_ids(self) -> list[int]:
        """The objects that are protected, the first protected one first."""
        return self._protection.among(self.object_ids)

    @property
    def object_ids(self) -> list[int]:
        """The objects that have a prompt or a start."""
        return self._objects.ids

    @property
    def propagated_ids(self) -> list[int]:
        """Return the objects that have masks of a propagation, in ascending order."""
        return sorted({key.object_id for key, track in self._objects.tracks.items() if track.tracked})

    @property
    def prompts(self) -> list[PromptedSlice]:
        """All slices with prompts."""
        return [
            PromptedSlice(*key, self._axes[key.axis].turned(index), prompt)
            for key, track in sorted(self._objects.tracks.items(), key=lambda item: item[0])
            for index, prompt in sorted(track.prompts.items())
        ]

    def prompts_as_json(self, names: Mapping[int, str] | None = None, colours: Mapping[int, str] | None = None) -> str:
        """Write prompts, starts and protection of all objects as JSON, to go on with another day.

        Masks are not in it, other than drawn ones and starts. See ``interactive.saved_prompts`` for its form.

        Args:
            names: of objects, by number; of all, some or none.
            colours: likewise, "#rrggbb".

        Raises:
            PromptError: a colour is written in another way, or there is no image.
        """
        return saved_prompts.as_json(self._objects, self._axes, self.image, self.protected_ids, names, colours)

    def add_prompts_from_json(self, text_or_path: str | Path | SavedPrompts) -> list[SavedObject]:
        """Add the prompts that :meth:`prompts_as_json` has written, all in one step that :meth:`undo` takes back.

        Prompts are added to those that an object has, as by :meth:`add_points`, :meth:`add_box` and :meth:`add_mask`; a
        start takes the place of them, as by :meth:`set_start`. The prompts of a slice are answered together, so that
        masks that were made click by click, or corrected after a propagation, may differ from those of then. To go on
        from the very masks, save these too and give them to :meth:`set_start`.

        Args:
            text_or_path: the JSON itself as str, the Path of its file, or what ``saved_prompts.parse`` made of them.

        Returns:
            The objects, with their names and colours.

        Raises:
            PromptError: the file cannot be read, has another form or version, or is for an image of other shape or
                spacing; or a prompt is invalid.
        """
        saved = text_or_path if isinstance(text_or_path, SavedPrompts) else saved_prompts.parse(text_or_path)
        loaded = saved_prompts.load(saved, self._objects, self._axes, self.image)
        if loaded.objects:
            self._objects.change(loaded.tracks, loaded.starts, loaded.latest)
        for one in loaded.objects:
            if one.protected:
                self.protect(one.object_id)
        return loaded.objects

    # ---- masks

    def predict_slice(
        self, object_id: int | None = None, axis: int | None = None, index: int | None = None
    ) -> SliceMask:
        """Return the mask of an object on a slice, from the prompts there, from propagation or from its start.

        Protected objects are not taken from it, nor are masks along other axes averaged with it: see :meth:`mask`.

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
            index = self._axes[latest.key.axis].turned(latest.index) if index is None else index
        assert object_id is not None and axis is not None and index is not None
        slices, key = self._slices(axis), Key(checks.check_object(object_id), axis)
        self._objects.keys(key.object_id)
        index = slices.check_index(index)
        seen = slices.turned(index)
        if seen in self._objects.track(key).unanswered:
            with self._network.running():
                self._segmenter.answer(key, seen)
        track = self._objects.track(key)
        output, masks = track.output(seen), track.masks(slices.shape, [seen])
        start = self._segmenter.start(key, seen) if output is None else None
        if start is not None:
            drawn = slices.view.plane_back(start)
            logits = np.where(drawn, np.float32(DRAWN), np.float32(-DRAWN))
            return SliceMask(key.object_id, axis, index, drawn.copy(), logits, 1.0)
        if output is None:
            raise PromptError(
                f"object {object_id} has neither a prompt nor a mask on slice {index} along axis {axis}: add a prompt "
                "there, or propagate."
            )
        logits = np.ascontiguousarray(slices.view.plane_back(masks[seen]))
        return SliceMask(key.object_id, axis, index, logits > 0, logits, float(output.quality))

    def propagate(
        self,
        object_ids: Sequence[int] | None = None,
        axis: int | None = None,
        slices: tuple[int, int] | None = None,
        direction: str = "both",
        progress: Callable[[Progress], None] | None = None,
    ) -> bool:
        """Propagate the masks of slices with prompts to the other slices.

        All slices with prompts are conditioning memories, including corrections, after which it is called again. It
        propagates forward from the first of these slices, then backward from there, as ``SAM2VideoPredictor`` does;
        neither direction uses the results of the other. For objects with a start, see :meth:`set_start`.

        Args:
            object_ids: default: all.
            axis: default: each along which there are prompts.
            slices: the first and the last slice to segment, both included; default: all.
            direction: "both"; or "forward" or "backward", in the order of the array, from the first slice with a prompt
                in that order.
            progress: called after each slice.

        Returns:
            True if it reached the end; False after :meth:`stop`, when the slices that it reached have their new masks.

        Raises:
            PromptError: there are no prompts, or none of an object on these slices; or SAM 2 sees no object where the
                first prompts are.
        """
        self._stopped.clear()
        with self._network.running():  # the weights are cast once for all slices
            for step in self.propagation(object_ids, axis, slices, direction):
                if progress is not None:
                    progress(step)
                if self._stopped.is_set():
                    return step.done == step.total
        return True

    def propagation(
        self,
        object_ids: Sequence[int] | None = None,
        axis: int | None = None,
        slices: tuple[int, int] | None = None,
        direction: str = "both",
        nearest_first: bool = False,
    ) -> Iterator[Progress]:
        """Propagate as :meth:`propagate` does, one slice per ``next``, between which the session can be used.

        Arguments are checked and prompts are answered at once, so that a mistake is raised here. It ends without an
        error as soon as one of its objects gets a prompt or a start, is removed, or is changed by an undo or redo; or
        all are by a reset or another image. The slices that it reached keep their masks. :meth:`stop` does not end it:
        ask for no more.

        Args:
            object_ids: see :meth:`propagate`.
            axis: see :meth:`propagate`.
            slices: see :meth:`propagate`.
            direction: see :meth:`propagate`.
            nearest_first: the two directions alternate, so that the slices nearest to those with prompts come first;
                the masks are the same.

        Returns:
            An iterator over the slices, among them all whose masks change. A step may encode as many slices ahead as
            are encoded in a batch.

        Raises:
            PromptError: see :meth:`propagate`.
        """
        request = check_request(self._objects, self._axes, object_ids, axis, slices, direction)
        return Propagation(self._segmenter, request, nearest_first)

    def stop(self) -> None:
        """Stop the running :meth:`propagate` after its current slice; from any thread, or from ``progress``."""
        self._stopped.set()

    def mask(self, object_id: int = 1) -> np.ndarray:
        """Return an object's mask, bool (z, y, x) on the image's grid; False where it has no mask on any slice.

        Raises:
            PromptError: there is no such object.
        """
        return self._protection.mask(object_id, self.object_ids, self._logits)

    def labels(self) -> np.ndarray:
        """Return the label map of all objects, uint8 or uint16 (z, y, x).

        In overlaps, a protected object counts, else the higher logit.
        """
        return self._protection.labels(self.image.shape, self.object_ids, self._logits, np.float16)

    def save(self, path: str | Path, labels: np.ndarray | None = None) -> Path:
        """Write all objects as NIfTI, NRRD or MetaImage, or (``.dcm``) as DICOM SEG.

        Args:
            path: of the file, which appears whole or not at all.
            labels: (z, y, x), unsigned integers: the result of :meth:`labels`, where that is known.

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

    # ---- internals

    @property
    def _learned(self) -> ShownAs | None:
        """Display of images to a model trained within nnU-Net; None for other models."""
        return getattr(self._network.model, "shown_as", None)

    @property
    def _shown(self) -> ShownImage:
        if self._image is None:
            raise PromptError(_NO_IMAGE)
        return self._image

    def _slices(self, axis: int) -> Planes:
        """Return the slices along an axis of the image, after checking both."""
        axis = checks.check_axis(axis)
        if self._image is None:
            raise PromptError(_NO_IMAGE)
        return self._axes[axis]

    def _logits(self, object_id: int) -> np.ndarray:
        with self._network.running():
            return self._segmenter.logits(object_id, self.image.shape)

    def _prompt(self, slices: Planes, object_id: int, index: int) -> tuple[SlicePrompt, PromptPlace]:
        """Return the prompt of an object on slice ``index`` of the array, and its place.

        Raises:
            PromptError: the slice shows nothing.
        """
        seen = slices.turned(index)
        slices.check_shows(seen)
        key = Key(object_id, slices.axis)
        return self._objects.track(key).prompts.get(seen, SlicePrompt.empty()), PromptPlace(key, seen)
