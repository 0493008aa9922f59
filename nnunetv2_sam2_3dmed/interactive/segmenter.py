"""What a session does with SAM 2: answers to prompts, and masks carried through the volume."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from nnunetv2_sam2_3dmed.interactive import prompts as checks
from nnunetv2_sam2_3dmed.interactive.masks import volume_logits
from nnunetv2_sam2_3dmed.interactive.memory import HOST
from nnunetv2_sam2_3dmed.interactive.objects import Key, Objects, Place
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.interactive.propagation import Run, plan_runs, propagate
from nnunetv2_sam2_3dmed.interactive.results import Progress
from nnunetv2_sam2_3dmed.interactive.shown_image import ShownImage
from nnunetv2_sam2_3dmed.network.prompted_sam2 import PromptedSAM2

DIRECTIONS = ("both", "forward", "backward")


class Segmenter:
    """Moves the objects of a session on.

    Args:
        network: SAM 2.
        image: as it is shown.
        objects: changed in place, a slice at a time, so that they are whole whenever it ends.
    """

    def __init__(self, network: PromptedSAM2, image: ShownImage, objects: Objects):
        self.network = network
        self.image = image
        self.objects = objects

    def propagate(
        self,
        object_ids: Sequence[int] | None,
        axis: int | None,
        slices: tuple[int, int] | None,
        direction: str,
        progress: Callable[[Progress], None] | None,
        stopped: threading.Event,
    ) -> bool:
        """See ``InteractiveSession.propagate``; it ends after a slice at which ``stopped`` is set."""
        if direction not in DIRECTIONS:
            raise PromptError(f"direction is {direction!r}, but must be one of {', '.join(DIRECTIONS)}.")
        keys = self._keys(object_ids, axis)
        axes = sorted({key.axis for key in keys})
        ranges = {a: self._range(slices, a) for a in axes}
        for key in keys:
            self._check_sources(key, ranges[key.axis])
        for key in keys:
            for index in sorted(self.objects.track(key).unanswered):
                self.answer(Place(key, index))
        for key in keys:
            self._remember_answers(key)
        runs = [(a, run) for a in axes for run in self._runs(keys, a, ranges[a], direction)]
        total = sum(len(run.slices) for _, run in runs)
        done = 0
        with self.network.running():  # the weights are cast once for all slices
            for a, run in runs:
                features = partial(self.image.features_along, a)
                for step in propagate(self.network, run, features, self.image.volume.shape[a]):
                    for number, object_id in enumerate(step.objects):
                        key = Key(object_id, a)
                        outputs = {step.index: step.outputs[number]} if step.outputs else {}
                        track = self.objects.track(key).with_tracked(outputs, {step.index: step.reverse})
                        self.objects.tracks[key] = track
                    done += 1
                    if progress is not None:
                        progress(Progress(done, total, a, self.image.seen_index(a, step.index), step.objects))
                    if stopped.is_set():
                        return done == total
        return True

    def answer(self, place: Place) -> None:
        """Asks SAM 2 about the prompts on a slice.

        Raises:
            PromptError: it sees nothing where the first prompts of an object are; they are taken back.
        """
        key, index = place.key, place.index
        track = self.objects.track(key)
        before = track.output(index)
        reverse = track.reverse.get(index, False)
        depth, rows, columns = self.image.seen_shape(key.axis)
        output = self.network.answer(
            self.image.features(key.axis, index),
            index,
            track.prompts[index],
            (rows, columns),
            depth,
            first_look=index not in track.reverse,
            reverse=reverse,
            previous=None if before is None else before.logits,
            conditioning=track.conditioning,
            others={
                i: found
                for i, found in track.tracked.items()
                if track.reverse.get(i) == reverse and 0 < (i - index if reverse else index - i) <= self.network.reach
            },
        ).to(HOST)
        if not bool((output.logits > 0).any()) and not self.objects.has_prompts_elsewhere(place):
            self.objects.take_back(place)
            raise PromptError(
                f"SAM 2 sees no object at the prompts of object {key.object_id} on slice "
                f"{self.image.seen_index(key.axis, index)} along axis {key.axis}: they were taken back, try a box or "
                "other points."
            )
        self.objects.tracks[key] = track.with_answer(index, output)

    def _remember_answers(self, key: Key) -> None:
        """Makes conditioning memories of an object's answered prompts."""
        track = self.objects.track(key)
        remembered = {
            index: self.network.remember(self.image.features(key.axis, index), output).to(HOST)
            for index, output in track.answered.items()
        }
        self.objects.tracks[key] = track.with_conditioning(remembered)

    def _runs(self, keys: Sequence[Key], axis: int, ends: tuple[int, int], direction: str) -> list[Run]:
        """What a propagation along one axis consists of."""
        flipped = self.image.volume.view(axis).flips[0]
        ways = {"both": (False, True), "forward": (flipped,), "backward": (not flipped,)}[direction]
        conditioning = {key.object_id: self.objects.track(key).conditioning for key in keys if key.axis == axis}
        return plan_runs(conditioning, *ends, ways)

    def _keys(self, object_ids: Sequence[int] | None, axis: int | None) -> list[Key]:
        """What is to be propagated."""
        for object_id in object_ids or ():
            self.objects.check_known(object_id)
        if axis is not None:
            checks.check_axis(axis)
        keys = [
            key
            for key in sorted(self.objects.tracks)
            if (object_ids is None or key.object_id in object_ids) and axis in (None, key.axis)
        ]
        if not keys:
            where = "" if axis is None else f" along axis {axis}"
            raise PromptError(f"there are no prompts{where} to propagate: add points, a box, a mask or a scribble.")
        return keys

    def _range(self, slices: tuple[int, int] | None, axis: int) -> tuple[int, int]:
        """First and last slice, in the view."""
        depth = self.image.volume.shape[axis]
        first, last = (0, depth - 1) if slices is None else slices
        for index in (first, last):
            checks.check_slice(index, self.image.volume.shape, axis)
        if first > last:
            raise PromptError(f"the slices go from {first} to {last}, but the first must not be behind the last.")
        ends = sorted((self.image.seen_index(axis, first), self.image.seen_index(axis, last)))
        return ends[0], ends[1]

    def _check_sources(self, key: Key, ends: tuple[int, int]) -> None:
        """That an object has a prompt in a range of slices."""
        sources = self.objects.track(key).sources()
        if not any(ends[0] <= index <= ends[1] for index in sources):
            first, last = sorted(self.image.seen_index(key.axis, index) for index in ends)
            there = ", ".join(str(index) for index in sorted(self.image.seen_index(key.axis, i) for i in sources))
            raise PromptError(
                f"object {key.object_id} has no prompt on slices {first} to {last} along axis {key.axis}, only on "
                f"{there}: add one there, or choose other slices."
            )

    def logits(self, object_id: int) -> np.ndarray:
        """Logits of an object, float16 (z, y, x); prompts that were not answered yet are.

        Raises:
            PromptError: there is no such object.
        """
        self.objects.check_known(object_id)
        for key in [key for key in self.objects.tracks if key.object_id == object_id]:
            for index in sorted(self.objects.track(key).unanswered):
                self.answer(Place(key, index))
        tracks = {key.axis: track for key, track in self.objects.tracks.items() if key.object_id == object_id}
        return volume_logits(tracks, self.image.volume)
