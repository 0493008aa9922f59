"""Answers to prompts and propagation through the volume, for the objects of a session."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

import numpy as np

from nnunetv2_sam2_3dmed.interactive.engine import Engine
from nnunetv2_sam2_3dmed.interactive.objects import Objects
from nnunetv2_sam2_3dmed.interactive.planes import Planes
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.interactive.results import Progress
from nnunetv2_sam2_3dmed.interactive.runs import Run, agree, alternate, plan_corrections, plan_runs
from nnunetv2_sam2_3dmed.interactive.tracks import DRAWN, HOST, KeptOutput, Key, PromptPlace, SliceOutput
from nnunetv2_sam2_3dmed.network.resizing import logits_at


@dataclass
class _Way:
    """A run along an axis, and how far it has come.

    Attributes:
        axis: of the array.
        run: the run; its slices get their start back without a look if it has no conditioning slices.
        left: number of slices that are still to be visited.
    """

    axis: int
    run: Run
    left: int


class Segmenter:
    """Segmentation of the objects of a session.

    Its methods must be called within ``engine.running()``.

    Args:
        engine: SAM 2.
        axes: the slices of the image along each axis.
        objects: changed in place, a slice at a time, so that they are consistent whenever it stops.
        keep: where outputs of slices without prompts go; default: they stay in the host's memory.
    """

    def __init__(
        self,
        engine: Engine,
        axes: Sequence[Planes],
        objects: Objects,
        keep: Callable[[SliceOutput], KeptOutput] = SliceOutput.load,
    ):
        self.engine = engine
        self.axes = axes
        self.objects = objects
        self.keep = keep

    def propagate(
        self,
        keys: Sequence[Key],
        ends: Mapping[int, tuple[int, int]],
        direction: str,
        nearest_first: bool = False,
    ) -> Generator[Progress, None, None]:
        """Answer all prompts now, and return their propagation, slice by slice.

        The caller may stop asking after any slice, and must when a step has changed an object.

        Args:
            keys: of the objects.
            ends: by axis, the first and the last slice to segment, both included.
            direction: one of ``runs.DIRECTIONS``, in the order of the array.
            nearest_first: the directions of the same objects alternate.

        Raises:
            PromptError: see :meth:`answer`.
        """
        for key in keys:
            self.answer(key)
        for key in keys:
            self._remember(key)
        ways = []
        for axis, (first, last) in ends.items():
            flipped = self.axes[axis].view.flips[0]
            reverse = {"both": (False, True), "forward": (flipped,), "backward": (not flipped,)}[direction]
            own = [key for key in keys if key.axis == axis]
            free = {k.object_id: self.objects.tracks[k].conditioning for k in own if not self._has_start(k)}
            runs = plan_runs(free, first, last, reverse)
            for key in own:
                if self._has_start(key):
                    runs += self._corrections(key, first, last, reverse)
            ways += [_Way(axis, run, len(run.slices)) for run in runs]
        return self._visits(ways, nearest_first)

    def _has_start(self, key: Key) -> bool:
        return key.object_id in self.objects.starts

    def _corrections(self, key: Key, first: int, last: int, directions: Sequence[bool]) -> list[Run]:
        """Plan the runs of an object with a start, and of slices that neither direction reaches any more."""
        track = self.objects.tracks[key]
        runs = plan_corrections(key.object_id, track.conditioning, first, last, directions)
        if len(directions) > 1:
            planned = {index for run in runs for index in run.slices}
            behind = [index for index in sorted(track.tracked) if first <= index <= last and index not in planned]
            runs.append(Run((key.object_id,), {}, tuple(behind), False))
        return runs

    def _visits(self, ways: Sequence[_Way], nearest_first: bool) -> Generator[Progress, None, None]:
        """Propagate along all runs; the two directions of an object one after the other or alternating."""
        done = 0
        for _, of_objects in groupby(ways, key=lambda way: (way.axis, way.run.objects)):
            # no slice is on two of them, so that their order does not change which slices are encoded in a batch
            together = [self._visit(way) for way in of_objects]
            for way, index in alternate(together) if nearest_first else chain.from_iterable(together):
                done += 1
                total = done + sum(way.left for way in ways)
                yield Progress(done, total, way.axis, self.axes[way.axis].turned(index), way.run.objects)

    def _visit(self, way: _Way) -> Iterator[tuple[_Way, int]]:
        """Go a way and keep its outputs.

        That of an object with a start ends where it agrees with the start. Behind, only slices that an earlier
        propagation had changed are visited, and get the start back.

        Yields:
            The way, and the slice that was visited.
        """
        run, axis = way.run, way.axis
        key = Key(run.objects[0], axis)
        behind: Sequence[int] = () if run.conditioning else run.slices
        for index, output in self.track(run, axis) if run.conditioning else ():
            if output is not None and self._ends_at(key, index, output):
                tracked = self.objects.track(key).tracked
                further = run.slices[len(run.slices) - way.left + 1 :]
                behind = [index, *(other for other in further if other in tracked)]
                way.left = len(behind)
                break
            for number, object_id in enumerate(run.objects):
                own = None if output is None else self.keep(output.of(number))
                changed = Key(object_id, axis)
                self.objects.tracks[changed] = self.objects.track(changed).with_visit(index, run.reverse, own)
            way.left -= 1
            yield way, index
        for index in behind:
            self.objects.tracks[key] = self.objects.track(key).without(index)
            way.left -= 1
            yield way, index

    def _ends_at(self, key: Key, index: int, output: SliceOutput) -> bool:
        """True if an object has a start, and its mask on a slice agrees with that."""
        start = self.start(key, index)
        if start is None:
            return False
        return agree((logits_at(output.logits, self.axes[key.axis].shape)[0, 0] > 0).numpy(), start)

    def start(self, key: Key, index: int) -> np.ndarray | None:
        """The start of an object on a slice, bool (rows, columns); None if it has none."""
        mask = self.objects.starts.get(key.object_id)
        return None if mask is None else self.axes[key.axis].view.of(mask)[index]

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
            start = self.start(key, place) if before is None else None
            previous = None if before is None else before.logits
            if start is not None and start.any():
                previous = engine.logits_of(start)
            output = engine.answer(
                slices.features(place),
                place,
                track.prompts[place],
                slices.shape,
                slices.depth,
                reverse=bool(reverse),
                previous=previous,
                # before any propagation has reached the slice, SAM 2 segments it from the prompts alone
                conditioning={} if reverse is None else track.conditioning,
                others={
                    i: found.load()
                    for i, found in track.tracked.items()
                    if track.reverse[i] == reverse and 0 < (i - place if reverse else place - i) <= engine.reach
                },
            )
            if not bool((output.logits > 0).any()) and not self.objects.known_elsewhere(key, place):
                self.objects.take_back(PromptPlace(key, place))
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
        """Logits of an object, float16 (z, y, x).

        Prompts that were not answered yet are answered. Where slices along several axes have masks, their logits are
        averaged, each bounded as :meth:`Track.masks` says; a drawn mask stands as it is. Where no slice with a mask
        runs through, they are those of the start as a drawn mask, or minus infinity.

        Args:
            object_id: of the object.
            shape: of the image.

        Raises:
            PromptError: there is no such object.
        """
        keys = self.objects.keys(object_id)
        for key in keys:
            self.answer(key)
        start = self.objects.starts.get(object_id)
        if start is None:
            total = np.full(shape, -np.inf, dtype=np.float16)
        else:
            total = np.where(start, np.float16(DRAWN), np.float16(-DRAWN))
        count = np.zeros(shape, dtype=np.uint8) if len(keys) > 1 else None
        for key in keys:
            slices = self.axes[key.axis]
            seen, counted = slices.view.of(total), None if count is None else slices.view.of(count)
            masks = self.objects.tracks[key].masks(slices.shape, bounded=count is not None)
            for index, logits in masks.items():
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
