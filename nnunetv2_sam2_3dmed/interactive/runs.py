"""Plans of a propagation: which slices follow which, for which objects at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from nnunetv2_sam2_3dmed.images.masks import dice
from nnunetv2_sam2_3dmed.interactive.tracks import SliceOutput, join

DIRECTIONS = ("both", "forward", "backward")
# objects that share a batch; more take memory and save no time
MAX_BATCH = 8
# Dice from which a propagated mask and the start's agree, so that a correction ends
AGREEMENT = 0.95

T = TypeVar("T")


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
        The runs, those of the same objects one behind the other; objects without a prompt between ``first`` and
        ``last`` are in none.
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


def plan_corrections(
    number: int, conditioning: Mapping[int, SliceOutput], first: int, last: int, directions: Sequence[bool]
) -> list[Run]:
    """Plan the propagation of an object with a start: outwards from each slice with a prompt.

    Runs end before the next slice with a prompt, and where two meet, half-way between. A slice on which the prompts
    leave nothing of the object has nothing to propagate, so that no run begins there.

    Args:
        number: of the object.
        conditioning: memories of its slices with prompts.
        first: of the slices to be segmented.
        last: of these, included.
        directions: False for forward, True for reverse.

    Returns:
        The runs, which have no slice in common.
    """
    prompted = sorted(conditioning)
    sources = [index for index in prompted if bool((conditioning[index].logits > 0).any())]
    runs = []
    for index in sources:
        if not first <= index <= last:
            continue
        for reverse in directions:
            onward = -1 if reverse else 1
            beyond = [other for other in prompted if (other - index) * onward > 0]
            if not beyond:
                end = first if reverse else last
            else:
                other = beyond[-1] if reverse else beyond[0]
                between = abs(other - index) - 1
                if other in sources and len(directions) > 1:
                    # of an odd number of slices, the middle one is in the forward run
                    between = between // 2 if reverse else (between + 1) // 2
                end = index + onward * between
                end = max(end, first) if reverse else min(end, last)
            # one run passes the slice itself
            origin = index + onward if reverse and len(directions) > 1 else index
            runs.append(Run((number,), dict(conditioning), tuple(range(origin, end + onward, onward)), reverse))
    return runs


def agree(mask: np.ndarray, start: np.ndarray) -> bool:
    """Return True if two masks have a Dice of at least :data:`AGREEMENT`, or both are empty.

    Args:
        mask: bool, any shape.
        start: bool, same shape.
    """
    return dice(mask, start) >= AGREEMENT


def alternate(iterators: Iterable[Iterator[T]]) -> Iterator[T]:
    """Yield an item of each in turn, until all are at their end."""
    left = list(iterators)
    while left:
        for iterator in tuple(left):
            try:
                item = next(iterator)
            except StopIteration:
                left.remove(iterator)
            else:
                yield item
