"""Masks carried from the slices with prompts through the volume, for several objects at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nnunetv2_sam2_3dmed.interactive.memory import HOST, SliceOutput, join
from nnunetv2_sam2_3dmed.network.prompted_sam2 import PromptedSAM2
from nnunetv2_sam2_3dmed.network.slice_cache import LevelFeatures

# objects that share a batch; more take memory and save no time
MAX_BATCH = 8


@dataclass(frozen=True)
class Step:
    """One slice for a batch of objects.

    Attributes:
        index: the slice.
        objects: those that were segmented there.
        outputs: one per object, on the host; none on a slice with prompts, whose masks are known.
        reverse: the run goes towards slice 0.
    """

    index: int
    objects: tuple[int, ...]
    outputs: tuple[SliceOutput, ...]
    reverse: bool


class Run(NamedTuple):
    """Objects that go through the same slices from the same conditioning slices, and so fit in a batch.

    Attributes:
        objects: their numbers.
        conditioning: their memories by slice, of all objects, on the host.
        slices: the way, in order; those with prompts are only passed.
        reverse: towards slice 0.
    """

    objects: tuple[int, ...]
    conditioning: dict[int, SliceOutput]
    slices: tuple[int, ...]
    reverse: bool


def plan_runs(
    conditioning: Mapping[int, Mapping[int, SliceOutput]], first: int, last: int, directions: Sequence[bool]
) -> list[Run]:
    """Which objects go where.

    As ``SAM2VideoPredictor`` does by default, for each object: forward from its first slice with a prompt, so that
    slices between two of them know both, and backward from there.

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
                # the way back need not pass what the way forward did
                start_back = origin - 1 if len(directions) > 1 else origin
                way = range(start_back, first - 1, -1) if reverse else range(origin, last + 1)
                runs.append(Run(batch, joined, tuple(way), reverse))
    return runs


def propagate(
    network: PromptedSAM2,
    run: Run,
    features: Callable[[Sequence[int]], Iterator[LevelFeatures]],
    num_slices: int,
) -> Iterator[Step]:
    """Goes through a run, a slice at a time; who stops asking stops it.

    A run begins with the conditioning memories alone: the two directions know nothing of each other, so that the result
    does not depend on which comes first, nor on which way the image is stored.

    On the device are the conditioning memories, and those of the latest slices that attention still reaches: at 512
    pixels 0.2 MB for each object and slice with prompts, and 3 MB for each object. What was found goes to the host,
    slice by slice.

    Args:
        network: SAM 2.
        run: from :func:`plan_runs`.
        features: of slices, in the order in which they are asked for.
        num_slices: in the volume.
    """
    conditioning = {index: output.to(network.device) for index, output in run.conditioning.items()}
    others: dict[int, SliceOutput] = {}
    count = len(run.objects)
    onward = -1 if run.reverse else 1
    found = features([index for index in run.slices if index not in run.conditioning])
    for index in run.slices:
        others.pop(index - onward * (network.reach + 1), None)
        if index in conditioning:
            yield Step(index, run.objects, (), run.reverse)
            continue
        others[index] = network.track(next(found), index, count, num_slices, run.reverse, conditioning, others)
        output = others[index].to(HOST)
        yield Step(index, run.objects, tuple(output.of(number) for number in range(count)), run.reverse)
