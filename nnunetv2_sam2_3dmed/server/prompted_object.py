"""The one object that a client of nnInteractive's or ITK-SNAP's protocol segments at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError, in_one_sentence
from nnunetv2_sam2_3dmed.images.volume import by
from nnunetv2_sam2_3dmed.interactive import Progress, PromptError
from nnunetv2_sam2_3dmed.server.interactions import (
    Box,
    Drawing,
    box_on_slice,
    check_point,
    drawing_on_slice,
    extents,
    own_axis,
    points_of_box,
    points_of_stroke,
)
from nnunetv2_sam2_3dmed.server.sessions import PooledSession
from nnunetv2_sam2_3dmed.server.worker import Task, Worker

_LOG = logging.getLogger(__name__)

OBJECT = 1  # its number in the session
SliceKey = tuple[int, int]  # axis and slice index


class CallAnswer(NamedTuple):
    """Answer to a call.

    Attributes:
        ran: a prediction ran.
        box: part of the buffer that changed; None for none.
        values: new content of that part.
        message: a sentence where the call changed nothing because of a slip, or the propagation failed; None otherwise.
        unfinished: further slices are being segmented, and come with later answers.
    """

    ran: bool
    box: Box | None = None
    values: np.ndarray | None = None
    message: str | None = None
    unfinished: bool = False


@dataclass(frozen=True)
class _Memo:
    """Facts about the prompts so far, which undo restores.

    Attributes:
        axis: of the latest prompt, along which a point that names no plane lies.
        queued: slices whose prompts are to be answered by the next prediction.
        started: a whole mask was given.
    """

    axis: int | None = None
    queued: frozenset[SliceKey] = frozenset()
    started: bool = False


class PromptedObject:
    """One object of a session, with the buffer that mirrors the client's.

    A prompt is answered on its slice and then propagated, nearest slices first, until the budget is over; the rest is
    segmented in the background and comes with the next answer. A prompt that turns out to be a slip (outside the
    image, empty, nothing seen there) changes nothing, and the answer has a message. If the network fails on the
    prompt's slice, the prompt is taken back and the exception raised; if it fails later, the slices that it reached
    count. Use it from one thread at a time.

    Args:
        session: used on the worker's thread alone.
        worker: runs predictions.
        budget_s: seconds after which a prediction is answered.

    Attributes:
        buffer: (z, y, x), 1 inside the object; None until it is set.
    """

    def __init__(self, session: PooledSession, worker: Worker, budget_s: float):
        self.session = session
        self.buffer: np.ndarray | None = None
        self._worker = worker
        self._budget = budget_s
        self._volume = session.image
        self._own_axis = own_axis(self._volume.shape, self._volume.spacing, session.learned_axis)
        self._forget()

    def _forget(self) -> None:
        self._memo = _Memo()
        self._task: Task | None = None
        self._changed: set[SliceKey] = set()  # slices segmented since the latest answer
        self._stale = False  # all of the buffer may differ from the mask
        self._unsent: Box | None = None  # part of the buffer that changed since the latest answer
        # what was before the latest interaction, which is one step of the session, and that a propagation ran then
        self._undo: tuple[_Memo, bool] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the image and of the buffer."""
        return self._volume.shape

    def set_buffer(self, dtype: np.dtype) -> None:
        """Set a buffer of zeros; prompts stay, and the next answer brings all of the mask."""
        self.buffer = np.zeros(self.shape, dtype=dtype)
        self._stale, self._unsent = bool(self._memo.started or self._memo.axis is not None), None

    # ---- prompts; each method raises a UserError where the client is at fault, and the object is as before

    def add_point(self, point: Sequence[float], positive: bool, run: bool) -> CallAnswer:
        """Add a point, in voxels, to the prompts of its slice."""
        self._buffer()
        axis = self._preferred()
        try:
            voxel = check_point(point, self.shape)
        except PromptError as error:
            return self._slip(run, str(error))
        place = (axis, voxel[axis])
        return self._add(place, positive, run, lambda: self.session.add_points([voxel], int(positive), OBJECT, axis))

    def add_box(self, box: Sequence[tuple[float, float]], positive: bool, run: bool) -> CallAnswer:
        """Set the box of its slice, half-open; a negative one stands for points outside the object."""
        self._buffer()
        try:
            found = box_on_slice(box, self.shape, self._preferred())
        except PromptError as error:
            return self._slip(run, str(error))

        def add() -> None:
            if positive:
                self.session.add_box(found.first, found.last, OBJECT, found.axis)
            else:
                self.session.add_points(points_of_box(found).tolist(), 0, OBJECT, found.axis)

        return self._add((found.axis, found.first[found.axis]), positive, run, add)

    def add_scribble(self, drawn: np.ndarray, box: Box, positive: bool, run: bool) -> CallAnswer:
        """Add points along the middle of a stroke.

        Args:
            drawn: not zero on the stroke; of the box's size (z, y, x).
            box: its place in the image.
            positive: the stroke is inside the object.
            run: predict now.
        """
        try:
            drawing = self._drawing(drawn, box)
        except PromptError as error:
            return self._slip(run, str(error))
        points = points_of_stroke(drawing).tolist()
        place = (drawing.axis, drawing.index)
        return self._add(
            place, positive, run, lambda: self.session.add_points(points, int(positive), OBJECT, drawing.axis)
        )

    def add_lasso(self, drawn: np.ndarray, box: Box, positive: bool, run: bool) -> CallAnswer:
        """Set the mask of a slice: the present one joined with a region, or without it.

        Args:
            drawn: not zero in the region; of the box's size (z, y, x).
            box: its place in the image.
            positive: the region is a part of the object.
            run: predict now.
        """
        try:
            drawing = self._drawing(drawn, box)
        except PromptError as error:
            return self._slip(run, str(error))
        axis, index, region = drawing.axis, drawing.index, drawing.mask
        present = self._present(axis, index)
        if not positive and not (present & region).any():
            return self._slip(run, "nothing is segmented inside the lasso.")
        mask = present | region if positive else present & ~region
        return self._add((axis, index), positive, run, lambda: self.session.add_mask(mask, index, OBJECT, axis))

    def start(self, mask: np.ndarray, run: bool) -> CallAnswer:
        """Take a mask of the whole image instead of all prompts; it stays as it is until a prompt changes it.

        Args:
            mask: not zero inside the object; of the image's size (z, y, x).
            run: the answer says that a prediction ran.
        """
        buffer = self._buffer()
        if mask.shape != self.shape:
            raise UserError(f"the mask has {by(mask.shape)} voxels, but the image {by(self.shape)}.")
        inside = mask != 0
        memo, unfinished = self._memo, self._unfinished()

        def job() -> bool:
            if inside.any():
                self.session.set_start(inside, OBJECT)
            elif OBJECT in self.session.object_ids:
                self.session.remove_object(OBJECT)
            else:
                return False
            self._cancel()
            return True

        if self._worker.run(job):
            self._undo = (memo, unfinished)
        self._memo = _Memo(started=bool(inside.any()))
        self._changed.clear()
        self._stale, self._unsent = False, None
        buffer[...] = inside
        return CallAnswer(run)

    # ---- other calls

    def predict(self) -> CallAnswer:
        """Answer queued prompts, or bring what the background has segmented since the latest answer."""
        began, memo = time.monotonic(), self._memo
        self._buffer()
        failed_meanwhile = self._task is not None and self._task.error is not None
        if not (memo.queued or self._changed or self._stale or self._unsent or self._unfinished() or failed_meanwhile):
            return CallAnswer(False)
        failed: dict[SliceKey, str] = {}
        if memo.queued:

            def job() -> dict[SliceKey, str]:
                failed = self._answer(memo.queued)
                self._propagate()
                return failed

            failed = self._worker.run(job)
            self._memo = replace(memo, queued=frozenset())
            if failed:
                self._undo = None  # the interaction that could have been undone may have been taken back
        return self._finish(began + self._budget, next(iter(failed.values()), None))

    def undo(self) -> CallAnswer:
        """Take back the latest interaction; only one can be."""
        self._buffer()
        if self._undo is None:
            return CallAnswer(False)
        memo, unfinished = self._undo
        self._worker.run(lambda: self._take_back(unfinished))
        self._memo, self._undo = memo, None
        self._changed.clear()
        self._stale = True
        return self._finish(until=0)

    def reset(self) -> None:
        """Drop all prompts and the mask; the next object can begin."""
        self._cancel()
        self._worker.run(self.session.reset)
        if self.buffer is not None:
            self.buffer[...] = 0
        self._forget()

    def close(self) -> None:
        """Stop what runs in the background."""
        self._cancel()

    # ---- internals: on the caller's thread

    def _buffer(self) -> np.ndarray:
        if self.buffer is None:
            raise UserError("there is no target buffer yet: set it after the image and before prompts.")
        return self.buffer

    def _preferred(self) -> int:
        return self._own_axis if self._memo.axis is None else self._memo.axis

    def _drawing(self, drawn: np.ndarray, box: Box) -> Drawing:
        self._buffer()
        return drawing_on_slice(drawn, box, self.shape, self._preferred())

    def _unfinished(self) -> bool:
        return self._task is not None and not self._task.done

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _add(self, place: SliceKey, positive: bool, run: bool, add: Callable[[], None]) -> CallAnswer:
        """Add a prompt to the session, and predict."""
        until, memo, unfinished = time.monotonic() + self._budget, self._memo, self._unfinished()
        axis, index = place
        if run and not positive and place not in memo.queued and not self._present(axis, index).any():
            return self._slip(run, f"nothing is segmented on slice {index} along axis {axis}.")

        def job() -> str | None:
            try:
                add()
            except PromptError as error:  # all else was checked: what is wrong is what was drawn
                return str(error)
            if not run:
                self._cancel()
                self._memo = replace(memo, axis=axis, queued=memo.queued | {place})
                return None
            try:
                failed = self._answer(memo.queued | {place})
                self._memo = replace(memo, axis=memo.axis if place in failed else axis, queued=frozenset())
                if unfinished or not failed.keys() >= memo.queued | {place}:
                    self._propagate()
            except Exception:
                self._memo = memo
                self._take_back(unfinished)
                raise
            if failed.keys() & memo.queued:
                self._undo = None  # the interaction that could have been undone was taken back
            return next(iter(failed.values()), None)

        message = self._worker.run(job)
        if message is None:
            self._undo = (memo, unfinished)
        return self._finish(until, message) if run else self._slip(False, message)

    def _finish(self, until: float, message: str | None = None) -> CallAnswer:
        """Wait for the propagation, and answer with what has changed.

        Args:
            until: ``time.monotonic()`` at which to answer with what there is.
            message: see :class:`CallAnswer`.
        """
        task = self._task
        if message is None and task is not None:
            task.wait(until)
        unfinished = self._unfinished()  # before looking: what is segmented meanwhile may not be seen
        self._update()
        if task is not None and task.error is not None:
            self._task = None
            # the prompt's slice and those that were reached are worth more than an error, at which viewers disconnect
            _LOG.error("a propagation failed", exc_info=task.error)
            message = f"not all slices could be segmented: {in_one_sentence(task.error)}"
        box, self._unsent = self._unsent, None
        return CallAnswer(True, box, None if box is None else self._buffer()[as_slices(box)], message, unfinished)

    def _slip(self, run: bool, message: str | None) -> CallAnswer:
        """Answer that nothing has changed."""
        return CallAnswer(run, message=message, unfinished=self._unfinished())

    def _update(self) -> None:
        """Bring the buffer up to date."""
        self._unsent = around(self._unsent, self._write(self._worker.run(self._collect)))

    def _present(self, axis: int, index: int) -> np.ndarray:
        """The object's mask on a slice, bool; one that was drawn there and waits for a prediction counts already."""
        self._update()
        drawn = self._worker.run(lambda: self._drawn(axis, index))
        return self._buffer().take(index, axis=axis) != 0 if drawn is None else drawn

    def _write(self, masks: dict[SliceKey, np.ndarray] | np.ndarray) -> Box | None:
        """Write masks into the buffer, and return the box of what changed."""
        buffer = self._buffer()
        if isinstance(masks, np.ndarray):
            found = extents(masks != (buffer != 0))
            buffer[...] = masks
            return found
        box: Box | None = None
        for (axis, index), mask in masks.items():
            plane = np.moveaxis(buffer, axis, 0)[index]
            changed = extents(mask != (plane != 0))
            if changed is not None:
                box = around(box, (*changed[:axis], (index, index + 1), *changed[axis:]))
                plane[...] = mask
        return box

    # ---- internals: on the worker's thread

    def _prompted(self) -> bool:
        return any(prompt.object_id == OBJECT for prompt in self.session.prompts)

    def _drawn(self, axis: int, index: int) -> np.ndarray | None:
        """Mask that was given as a prompt on a slice; None if there is none."""
        for found in self.session.prompts:
            if (found.object_id, found.axis, found.index) == (OBJECT, axis, index) and found.prompt.mask is not None:
                return self._volume.view(axis).plane_back(found.prompt.mask)
        return None

    def _answer(self, places: Iterable[SliceKey]) -> dict[SliceKey, str]:
        """Answer prompts on their slices; return the slices where the network sees nothing, with a sentence."""
        failed = {}
        for axis, index in sorted(places):
            try:
                self.session.predict_slice(OBJECT, axis, index)
                self._changed.add((axis, index))
            except PromptError as error:
                failed[axis, index] = str(error)
        return failed

    def _propagate(self) -> None:
        """Begin a propagation of all prompts instead of the one before."""
        self._cancel()
        self._task = None
        if self._prompted():
            self._task = self._worker.start(self._steps(self.session.propagation([OBJECT], nearest_first=True)))

    def _steps(self, propagation: Iterator[Progress]) -> Iterator[Progress]:
        for progress in propagation:
            self._changed.add((progress.axis, progress.index))
            yield progress

    def _take_back(self, unfinished: bool) -> None:
        """Undo the session's latest step, and begin the propagation again that ran before it."""
        self.session.undo()
        self._cancel()
        if unfinished:
            self._propagate()

    def _collect(self) -> dict[SliceKey, np.ndarray] | np.ndarray:
        """Masks that may differ from the buffer: of slices, or of the whole image where slices do not tell.

        Prompts that wait for a prediction stay as they are.
        """
        changed, stale = self._changed - self._memo.queued, self._stale
        axes = {prompt.axis for prompt in self.session.prompts if prompt.object_id == OBJECT}
        masks: dict[SliceKey, np.ndarray] | np.ndarray = {}
        if stale or (changed and (len(axes) != 1 or self._memo.started)):
            known = OBJECT in self.session.object_ids
            masks = self.session.mask_so_far(OBJECT) if known else np.zeros(self.shape, dtype=bool)
        elif changed:
            masks = {place: self._mask_of(*place) for place in changed}
        self._changed.clear()
        self._stale = False
        return masks

    def _mask_of(self, axis: int, index: int) -> np.ndarray:
        # rounded as in InteractiveSession.mask
        return self.session.predict_slice(OBJECT, axis, index).logits.astype(np.float16) > 0


def around(first: Box | None, second: Box | None) -> Box | None:
    """Smallest box around two; None stands for an empty one."""
    if first is None or second is None:
        return first or second
    return tuple((min(a, c), max(b, d)) for (a, b), (c, d) in zip(first, second, strict=True))


def as_slices(box: Box) -> tuple[slice, ...]:
    """Index of a box in an array."""
    return tuple(slice(low, high) for low, high in box)
