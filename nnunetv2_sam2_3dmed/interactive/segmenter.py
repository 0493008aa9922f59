"""Answers to prompts and propagation through the volume, for the objects of a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nnunetv2_sam2_3dmed.interactive.engine import Engine
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.interactive.results import Progress
from nnunetv2_sam2_3dmed.interactive.slices import AxisSlices
from nnunetv2_sam2_3dmed.interactive.tracks import DRAWN, HOST, Key, Objects, Place, SliceOutput, join

DIRECTIONS = ("both", "forward", "backward")
# objects that share a batch; more take memory and save no time
MAX_BATCH = 8


class Run(NamedTuple):
    """Objects that go through the same slices from the same conditioning slices, and so fit in a batch.

    Attributes:
        objects: their numbers.
        conditioning: their memories by slice, of all objects, on the host.
        slices: in the order of propagation; those with prompts are only passed.
        reverse: towards slice 0.
    """

    objects: tuple[int, ...]
    conditioning: dict[int, SliceOutput]
    slices: tuple[int, ...]
    reverse: bool


def plan_runs(
    conditioning: Mapping[int, Mapping[int, SliceOutput]], first: int, last: int, directions: Sequence[bool]
) -> list[Run]:
    """Plan the propagation of several objects.

    As ``SAM2VideoPredictor`` does by default, for each object: forward from its first slice with a prompt, so that
    slices between two of them attend to both, and backward from there.

    Args:
        conditioning: by object, the memories of its slices with prompts.
        first: of the slices to be segmented.
        last: of these, included.
        directions: False for forward, True for reverse. A lone reverse run starts at the last slice with a prompt: it
            is the forward run of the turned volume.

    Returns:
        The runs; objects without a prompt between ``first`` and ``last`` are in none.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, memories in conditioning.items():
        groups.setdefault(tuple(sorted(memories)), []).append(number)
    runs = []
    for prompted, numbers in groups.items():
        inside = [index for index in prompted if first <= index <= last]
        if not inside:
            continue
        for k in range(0, len(numbers), MAX_BATCH):
            batch = tuple(numbers[k : k + MAX_BATCH])
            joined = {index: join([conditioning[number][index] for number in batch]) for index in prompted}
            for reverse in directions:
                origin = inside[-1] if reverse and len(directions) == 1 else inside[0]
                # the reverse run need not pass the slice that the forward run has passed
                start_back = origin - 1 if len(directions) > 1 else origin
                way = range(start_back, first - 1, -1) if reverse else range(origin, last + 1)
                runs.append(Run(batch, joined, tuple(way), reverse))
    return runs


class Segmenter:
    """Segmentation of the objects of a session.

    Its methods must be called within ``engine.running()``.

    Args:
        engine: SAM 2.
        axes: the slices of the image along each axis.
        objects: changed in place, a slice at a time, so that they are consistent whenever it stops.
    """

    def __init__(self, engine: Engine, axes: Sequence[AxisSlices], objects: Objects):
        self.engine = engine
        self.axes = axes
        self.objects = objects

    def propagate(self, keys: Sequence[Key], ends: Mapping[int, tuple[int, int]], direction: str) -> Iterator[Progress]:
        """Propagate all prompts slice by slice; the caller may stop asking after any slice.

        Args:
            keys: of the objects.
            ends: by axis, the first and the last slice to segment, both included.
            direction: one of :data:`DIRECTIONS`, in the order of the array.

        Raises:
            PromptError: see :meth:`answer`.
        """
        for key in keys:
            self.answer(key)
        for key in keys:
            self._remember(key)
        runs = []
        for axis, (first, last) in ends.items():
            flipped = self.axes[axis].view.flips[0]
            ways = {"both": (False, True), "forward": (flipped,), "backward": (not flipped,)}[direction]
            conditioning = {k.object_id: self.objects.tracks[k].conditioning for k in keys if k.axis == axis}
            runs += [(axis, run) for run in plan_runs(conditioning, first, last, ways)]
        total = sum(len(run.slices) for _, run in runs)
        done = 0
        for axis, run in runs:
            for index, output in self.track(run, axis):
                for number, object_id in enumerate(run.objects):
                    key = Key(object_id, axis)
                    own = None if output is None else output.of(number)
                    self.objects.tracks[key] = self.objects.track(key).with_visit(index, run.reverse, own)
                done += 1
                yield Progress(done, total, axis, self.axes[axis].turned(index), run.objects)

    def track(self, run: Run, axis: int) -> Iterator[tuple[int, SliceOutput | None]]:
        """Go through a run along an axis, a slice at a time.

        A run begins with the conditioning memories alone: the two directions are independent, so that the result
        depends neither on their order, nor on the direction in which the image is stored.

        On the device are the conditioning memories, and those of the latest slices that attention still reaches: at
        512 pixels 0.2 MB for each object and slice with prompts, and 3 MB for each object.

        Yields:
            The slice, and the output of its objects on the host; None on a slice with prompts, which has its masks.
        """
        slices, engine = self.axes[axis], self.engine
        conditioning = {index: output.to(engine.device) for index, output in run.conditioning.items()}
        others: dict[int, SliceOutput] = {}
        onward = -1 if run.reverse else 1
        features = slices.features_along([index for index in run.slices if index not in conditioning])
        for index in run.slices:
            others.pop(index - onward * (engine.reach + 1), None)
            if index in conditioning:
                yield index, None
                continue
            others[index] = engine.track(
                next(features), index, len(run.objects), slices.depth, run.reverse, conditioning, others
            )
            yield index, others[index].to(HOST)

    def answer(self, key: Key, index: int | None = None) -> None:
        """Segment slices from their prompts.

        Args:
            key: of the object.
            index: of the slice; default: all slices whose prompts were not answered yet.

        Raises:
            PromptError: SAM 2 sees nothing where the first prompts of an object are; they are taken back.
        """
        slices, engine = self.axes[key.axis], self.engine
        for place in sorted(self.objects.track(key).unanswered) if index is None else (index,):
            track = self.objects.tracks[key]
            before, reverse = track.output(place), track.reverse.get(place)
            output = engine.answer(
                slices.features(place),
                place,
                track.prompts[place],
                slices.shape,
                slices.depth,
                reverse=bool(reverse),
                previous=None if before is None else before.logits,
                # before any propagation has reached the slice, SAM 2 segments it from the prompts alone
                conditioning={} if reverse is None else track.conditioning,
                others={
                    i: found
                    for i, found in track.tracked.items()
                    if track.reverse[i] == reverse and 0 < (i - place if reverse else place - i) <= engine.reach
                },
            )
            if not bool((output.logits > 0).any()) and not track.has_prompts_elsewhere(place):
                self.objects.take_back(Place(key, place))
                raise PromptError(
                    f"SAM 2 sees no object at the prompts of object {key.object_id} on slice "
                    f"{slices.turned(place)} along axis {key.axis}: they were taken back, try a box or other points."
                )
            self.objects.tracks[key] = track.with_answer(place, output)

    def _remember(self, key: Key) -> None:
        """Make conditioning memories of an object's answers."""
        track = self.objects.tracks[key]
        remembered = {
            index: self.engine.remember(self.axes[key.axis].features(index), output)
            for index, output in track.answered.items()
        }
        self.objects.tracks[key] = track.with_conditioning(remembered)

    def logits(self, object_id: int, shape: tuple[int, int, int]) -> np.ndarray:
        """Logits of an object, float16 (z, y, x); minus infinity where no slice with a mask runs through.

        Prompts that were not answered yet are answered. Where slices along several axes have masks, their logits are
        averaged; a drawn mask stands as it is.

        Args:
            object_id: of the object.
            shape: of the image.

        Raises:
            PromptError: there is no such object.
        """
        keys = self.objects.keys(object_id)
        for key in keys:
            self.answer(key)
        total = np.full(shape, -np.inf, dtype=np.float16)
        count = np.zeros(shape, dtype=np.uint8) if len(keys) > 1 else None
        for key in keys:
            slices = self.axes[key.axis]
            seen, counted = slices.view.of(total), None if count is None else slices.view.of(count)
            for index, logits in self.objects.tracks[key].masks(slices.shape).items():
                if counted is None:
                    seen[index] = logits
                else:
                    before = np.where(counted[index] > 0, seen[index].astype(np.float32), 0)
                    counted[index] += 1
                    seen[index] = before + (logits - before) / counted[index]
        if count is not None:
            for key in keys:
                seen, track = self.axes[key.axis].view.of(total), self.objects.tracks[key]
                for index in track.prompts:
                    drawn = track.drawn(index)
                    if drawn is not None:
                        seen[index] = np.where(drawn, DRAWN, -DRAWN)
        return total
