"""State of an open page: a session, its objects' names and colours, and a running propagation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from skimage.draw import polygon2mask
from skimage.measure import approximate_polygon

from nnunetv2_sam2_3dmed.errors import in_one_sentence
from nnunetv2_sam2_3dmed.interactive import InteractiveSession, Progress
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError, check_slice
from nnunetv2_sam2_3dmed.interactive.saved_prompts import SavedPrompts
from nnunetv2_sam2_3dmed.server.page_cases import OpenCase
from nnunetv2_sam2_3dmed.server.page_objects import PageObject, PageObjects
from nnunetv2_sam2_3dmed.server.page_videos import ShownVideo
from nnunetv2_sam2_3dmed.server.page_volumes import ShownVolume
from nnunetv2_sam2_3dmed.server.worker import Task, Worker

_OUTLINE_ERROR = 0.05  # pixels

T = TypeVar("T")
Reach = tuple[int | None, tuple[int, int] | None]  # axis, and first and last slice along it; None for any


class PageSession:
    """An image or a video that is open in a page, with its objects.

    Methods that change objects, and :meth:`state`, are called on the worker's thread; slices, labels and
    :meth:`progress` are read from any, so that they can be shown while a slice is segmented.

    Args:
        session: with the image set.
        shown: what the page shows of it.
        worker: propagates.
        labels: names of the objects by number, where none is added or removed; default: the user adds objects.

    Attributes:
        case: of a round; None for another image.
    """

    def __init__(
        self,
        session: InteractiveSession,
        shown: ShownVolume | ShownVideo,
        worker: Worker,
        labels: Mapping[int, str] | None = None,
    ):
        self.session = session
        self.shown = shown
        self.volume = shown.volume
        self.labels = shown.labels
        self.objects = PageObjects(labels)
        self._worker = worker
        self._task: Task | None = None
        self._step: Progress | None = None
        self._closed = False
        self.case: OpenCase | None = None

    def run(self, job: Callable[[], T]) -> T:
        """Run a job that uses the session on the worker's thread; see ``Worker.run``.

        Raises:
            PromptError: the image was closed meanwhile, and the session may be another user's.
        """

        def open_still() -> T:
            if self._closed:
                raise PromptError("this image was closed: open it again.")
            return job()

        return self._worker.run(open_still)

    def close(self) -> None:
        """Stop the propagation and run no further job; called on the worker's thread."""
        if self._task is not None:
            self._task.cancel()
        self._closed = True

    # ---- what the page shows

    def info(self) -> dict[str, Any]:
        """Describe the image: what does not change while it is open."""
        return {**self.shown.info(), "round": None if self.case is None else self.case.described}

    def state(self) -> dict[str, Any]:
        """Describe the objects with their prompts; called where the session may be used."""
        prompts: dict[int, list[dict[str, Any]]] = {}
        for found in self.session.prompts:
            self.objects.listed(found.object_id)
            prompt = found.prompt
            prompts.setdefault(found.object_id, []).append(
                {
                    "axis": found.axis,
                    "index": found.index,
                    "points": [[*map(float, p), int(k)] for p, k in zip(prompt.points, prompt.labels, strict=True)],
                    "box": prompt.box,
                    "mask": prompt.mask is not None,
                }
            )
        for object_id in self.session.object_ids:
            self.objects.listed(object_id)
        protected, started = self.session.protected_ids, self.session.object_ids
        propagated = self.session.propagated_ids
        return {
            "version": self.labels.version,
            "objects": [
                asdict(one)
                | {
                    "protected": one.id in protected,
                    "started": one.id in started,
                    "propagated": one.id in propagated,
                    "prompts": prompts.get(one.id, []),
                }
                for one in self.objects
            ],
            "can_undo": self.session.can_undo,
            "can_redo": self.session.can_redo,
            "propagation": self.progress(),
        }

    def progress(self) -> dict[str, Any]:
        """Describe the latest propagation; from any thread."""
        task, step = self._task, self._step
        return {
            "running": task is not None and not task.done,
            "error": in_one_sentence(task.error) if task is not None and task.error is not None else None,
            **(
                {} if step is None else {"done": step.done, "total": step.total, "axis": step.axis, "index": step.index}
            ),
            "version": self.labels.version,
        }

    def packed_labels(self, axis: int, index: int) -> bytes:
        """Return the objects' numbers on a slice as it is shown, packed; from any thread."""
        return self.shown.packed_labels(axis, index, self.run)

    # ---- objects

    def add_object(self, name: str | None = None) -> PageObject:
        """List a new object; see ``PageObjects.add``."""
        return self.objects.add(name)

    def known(self, number: int) -> PageObject:
        """Return an object of the list; see ``PageObjects.known``."""
        return self.objects.known(number)

    def change_object(self, number: int, name: str | None, colour: str | None, protected: bool | None) -> None:
        """Rename, recolour, lock or unlock an object; None leaves a property as it is."""
        one = self.known(number)
        one.name = one.name if name is None else name.strip() or f"Object {number}"
        one.colour = one.colour if colour is None else colour
        if protected is not None and protected != (number in self.session.protected_ids):
            self.session.protect(number, protected)
            self.labels.refresh(self.session, [number])  # voxels of overlaps change hands

    def remove_object(self, number: int) -> None:
        """Remove an object with its prompts and masks; see ``PageObjects.remove``.

        Raises:
            PromptError: there is none of that number, or it is locked.
        """
        self._check_unlocked(number)
        self.stop()
        if number in self.session.object_ids:
            self.session.remove_object(number)
            self.labels.refresh(self.session, [number])
        self.objects.remove(number)

    # ---- prompts

    def add_prompt(self, kind: str, number: int, axis: int, index: int, label: int, drawn: np.ndarray) -> float:
        """Add a prompt and segment its slice.

        Args:
            kind: "point", "box", "scribble" or "lasso".
            number: of the object.
            axis: of the array.
            index: of the slice in the array.
            label: 1 inside, 0 outside.
            drawn: (N, 2), rows and columns in the slice as it is seen: points, two corners, a line or an outline.

        Returns:
            The IoU with the ground truth that SAM 2 predicts.

        Raises:
            PromptError: see the methods of ``InteractiveSession``; or the object is locked.
            Exception: the network has failed; the prompt is then taken back.
        """
        session, shape = self.session, self.volume.shape
        self._check_unlocked(number)
        check_slice(index, shape, axis)
        if self.case is not None:
            self.case.check_drawn_along(axis)
        self.stop()
        if kind == "lasso":
            session.add_mask(self._with_region(number, axis, index, label, drawn), index, number, axis)
        else:
            view = self.shown.view(axis)
            slices = np.full((len(drawn), 1), view.slice_index(index, shape))
            voxels = view.points_back(np.hstack([slices, drawn]), shape).tolist()
            if kind == "box":
                session.add_box(voxels[0], voxels[-1], number, axis)
            elif kind == "scribble":
                session.add_scribble(voxels, label, number, axis)
            else:
                session.add_points(voxels, label, number, axis)
        began = time.perf_counter()
        try:
            quality = session.predict_slice(number, axis, index).quality
        except PromptError:  # taken back by the session
            raise
        except Exception:
            session.undo(forget=True)
            raise
        self._count([number], began)
        self.labels.refresh_slice(session, axis, index)
        self._refresh_mixed()
        return quality

    def _count(self, numbers: Sequence[int], began: float) -> None:
        """Count the time since ``began`` as the machine's for objects of a round's case."""
        if self.case is not None:
            self.case.count(numbers, time.perf_counter() - began)

    def _with_region(self, number: int, axis: int, index: int, label: int, outline: np.ndarray) -> np.ndarray:
        """Return the object's mask on a slice with a region added or taken away, in the array's order."""
        view = self.shown.view(axis)
        _, *plane = view.shape(self.volume.shape)
        seen = np.zeros(plane, dtype=bool)
        first = np.clip(np.floor(outline.min(axis=0)), 0, plane).astype(int)
        end = np.clip(np.ceil(outline.max(axis=0)) + 1, 0, plane).astype(int)
        if (end > first).all():
            # of lines by hand, with points closer than pixels, most points say nothing and take time
            around = approximate_polygon(np.vstack([outline, outline[:1]]), _OUTLINE_ERROR) - first
            seen[first[0] : end[0], first[1] : end[1]] = polygon2mask(tuple(end - first), around)
        region, before = view.plane_back(seen), self.labels.plane(axis, index) == number
        return before | region if label else before & ~region

    def undo(self, again: bool = False) -> list[str]:
        """Take the latest step back, or do it again; return the names of its objects.

        Raises:
            PromptError: there is none.
        """
        self.stop()
        session = self.session
        own = session.redoable_ids if again else session.undoable_ids
        self.labels.refresh(session, session.redo() if again else session.undo())
        return [self.objects.listed(number).name for number in own]

    def _check_unlocked(self, number: int) -> None:
        one = self.known(number)
        if number in self.session.protected_ids:
            raise PromptError(f"{one.name} is locked: unlock it first, or choose another object.")

    # ---- propagation

    def propagate(
        self,
        objects: Sequence[int] | None = None,
        axis: int | None = None,
        slices: tuple[int, int] | None = None,
        direction: str = "both",
        within: Mapping[int, Reach] | None = None,
    ) -> None:
        """Propagate in the background, a slice at a time, until the end, :meth:`stop` or a new prompt.

        Args:
            objects: their numbers; default: all that are not locked.
            axis: see ``InteractiveSession.propagate``.
            slices: see ``InteractiveSession.propagate``.
            direction: see ``InteractiveSession.propagate``.
            within: axis, and first and last slice along it, of objects that have these instead of ``axis`` and
                ``slices``; those of an object without a prompt along its axis do not count.

        Raises:
            PromptError: see ``InteractiveSession.propagation``; or all objects are locked.
        """
        self.stop()
        protected = self.session.protected_ids
        for number in objects or ():
            self._check_unlocked(number)
        unlocked = [number for number in self.session.object_ids if number not in protected]
        if objects is None and self.session.object_ids and not unlocked:
            raise PromptError("all objects are locked: unlock those that are to be propagated.")
        wanted = unlocked if objects is None else objects
        parts = self._parts(wanted, (axis, slices), within) if within else [(wanted, axis, slices)]
        steps = [self.session.propagation(*part, direction, nearest_first=True) for part in parts]
        self._step = None
        self._task = self._worker.start(self._shown(chain.from_iterable(steps)))

    def _parts(
        self, objects: Sequence[int], whole: Reach, within: Mapping[int, Reach]
    ) -> list[tuple[Sequence[int], int | None, tuple[int, int] | None]]:
        """Return objects that are propagated together, with their axis and slices."""
        along = {(prompt.object_id, prompt.axis) for prompt in self.session.prompts}
        parts: dict[Reach, list[int]] = {}
        for number in sorted({number for number, _ in along}.intersection(objects)):
            own = within.get(number, whole)
            parts.setdefault(own if (number, own[0]) in along else whole, []).append(number)
        return [(numbers, *reach) for reach, numbers in parts.items()] or [(objects, *whole)]

    def _shown(self, steps: Iterator[Progress]) -> Iterator[None]:
        began = time.perf_counter()
        for step in steps:
            self.labels.refresh_slice(self.session, step.axis, step.index)  # waits for the device
            self._count(step.object_ids, began)
            self._step = step
            yield
            began = time.perf_counter()
        self._refresh_mixed()

    def _refresh_mixed(self) -> None:
        """Compute the labels anew where an object has masks along several axes, which are averaged."""
        if len({prompted.axis for prompted in self.session.prompts}) > 1:
            self.labels.refresh(self.session)

    def stop(self) -> bool:
        """Stop the propagation after its current slice, with the masks found so far; True if one was running."""
        running = self._task is not None and not self._task.done
        if self._task is not None and running:
            self._task.cancel()
            self._refresh_mixed()
        return running

    # ---- going on with earlier work

    def prompts_as_json(self) -> str:
        """Return all prompts with the objects' names and colours as JSON."""
        names, colours = ({one.id: getattr(one, what) for one in self.objects} for what in ("name", "colour"))
        return self.session.prompts_as_json(names, colours)

    def load_prompts(self, saved: SavedPrompts) -> list[str]:
        """Add prompts that :meth:`prompts_as_json` has written, and segment their slices.

        Returns:
            A sentence for each slice on which SAM 2 sees nothing; its prompts were taken back.

        Raises:
            PromptError: see ``InteractiveSession.add_prompts_from_json``; or an object of the file is locked.
            Exception: the network has failed; the objects are then as before.
        """
        numbers = [entry.get("object") for entry in saved.content["objects"] if isinstance(entry, dict)]
        self.objects.check_labels(numbers)
        for number in numbers:
            if isinstance(number, int) and number in self.objects:
                self._check_unlocked(number)
        self.stop()
        session, protected = self.session, self.session.protected_ids
        loaded = session.add_prompts_from_json(saved)
        if not loaded:
            return []
        notes = []
        try:
            for one in session.prompts:
                try:
                    session.predict_slice(one.object_id, one.axis, one.index)
                except PromptError as error:
                    notes.append(str(error))
        except Exception:
            session.undo(forget=True)
            for object_id in session.protected_ids:
                session.protect(object_id, object_id in protected)
            raise
        self.labels.refresh(session, [one.object_id for one in loaded])
        for saved_object in loaded:
            listed = self.objects.listed(saved_object.object_id)
            listed.name, listed.colour = saved_object.name or listed.name, saved_object.colour or listed.colour
        return notes

    def load_starts(self, masks: Mapping[int, np.ndarray]) -> None:
        """Let each mask be the start of an object of its number, all in one step.

        Raises:
            PromptError: an object that a mask would replace is locked.
        """
        self.objects.check_labels(list(masks))
        for number in masks:
            if number in self.objects:
                self._check_unlocked(number)
        self.stop()
        self.session.set_starts(masks)
        for number in masks:
            self.objects.listed(number)
        self.labels.refresh(self.session, list(masks))

    def begin_case(self, opened: OpenCase, masks: Mapping[int, np.ndarray]) -> None:
        """Let the masks of a round's case, bool (z, y, x) by label, be its objects' starts; that cannot be undone."""
        if masks:
            self.load_starts(masks)
            self.session.forget_steps()
        self.case = opened

    def finished_labels(self) -> np.ndarray:
        """Return the label map of a round's case (z, y, x), to be written as the person's.

        Raises:
            PromptError: it is still being propagated.
        """
        if self.progress()["running"]:
            raise PromptError("the masks are still being propagated: wait for the end, or stop it.")
        return self.session.labels()
