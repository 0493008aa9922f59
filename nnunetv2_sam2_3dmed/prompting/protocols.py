"""The ways in which published experiments prompt an object, a round at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from nnunetv2_sam2_3dmed.prompting.cases import PromptedCase
from nnunetv2_sam2_3dmed.prompting.simulated import bounding_box, error_click, middle_slice


class Round(NamedTuple):
    """What one interaction led to.

    Attributes:
        number: from 1.
        prompts: given so far: clicks, boxes or masks.
        seconds: from the prompt to the masks of all slices.
        found: the object, bool, in the view.
    """

    number: int
    prompts: int
    seconds: float
    found: np.ndarray


# prompts object NUMBER of a case; what is drawn comes from the generator
Interaction = Callable[[PromptedCase, int, np.random.Generator], Iterator[Round]]


class Protocol(NamedTuple):
    """A way to prompt.

    Attributes:
        name: of its folder.
        title: what is done.
        source: who published results of it.
        interact: does it.
    """

    name: str
    title: str
    source: str
    interact: Interaction


def clicks_on_the_middle_slice(rounds: int) -> Interaction:
    """Clicks on the largest error of the middle slice, one a round, each carried through the volume."""

    def interact(case: PromptedCase, number: int, rng: np.random.Generator) -> Iterator[Round]:
        truth = case.truths[number]
        index = middle_slice(truth)
        found = case.found(number)
        for turn in range(1, rounds + 1):
            click = error_click(truth[index], found[index], rng)
            if click is None:
                return  # the slice is as it should be
            start = time.perf_counter()
            case.click(number, index, click)
            case.propagate(number)
            seconds = time.perf_counter() - start
            found = case.found(number)
            yield Round(turn, turn, seconds, found)

    return interact


def mask_of_the_middle_slice(case: PromptedCase, number: int, rng: np.random.Generator) -> Iterator[Round]:
    """The true mask of the middle slice, carried through the volume."""
    truth = case.truths[number]
    index = middle_slice(truth)
    start = time.perf_counter()
    case.mask(number, index, truth[index])
    case.propagate(number)
    yield Round(1, 1, time.perf_counter() - start, case.found(number))


def box_on_the_middle_slice(case: PromptedCase, number: int, rng: np.random.Generator) -> Iterator[Round]:
    """The box around the middle slice, carried through the volume."""
    truth = case.truths[number]
    index = middle_slice(truth)
    start = time.perf_counter()
    case.box(number, index, bounding_box(truth[index]))
    case.propagate(number)
    yield Round(1, 1, time.perf_counter() - start, case.found(number))


def box_on_every_slice(case: PromptedCase, number: int, rng: np.random.Generator) -> Iterator[Round]:
    """A box on each slice that the object is on, and nothing carried: every slice stands for itself."""
    truth = case.truths[number]
    slices = np.flatnonzero(truth.any(axis=(1, 2)))
    start = time.perf_counter()
    for index in slices:
        case.box(number, int(index), bounding_box(truth[index]))
    yield Round(1, len(slices), time.perf_counter() - start, case.found(number))


def protocols(clicks: int = 5) -> dict[str, Protocol]:
    """All protocols by their names.

    Args:
        clicks: how many at most in the protocol of clicks; the paper: 5.
    """
    known = (
        Protocol(
            f"{clicks}_clicks",
            f"{clicks} clicks on errors of the middle slice",
            "Interactive 3D Medical Image Segmentation with SAM 2",
            clicks_on_the_middle_slice(clicks),
        ),
        Protocol(
            "1_mask",
            "true mask of the middle slice",
            "Interactive 3D Medical Image Segmentation with SAM 2",
            mask_of_the_middle_slice,
        ),
        Protocol("box", "box on the middle slice", "MedSAM2", box_on_the_middle_slice),
        Protocol("boxes", "box on every slice", "no memory: each slice alone", box_on_every_slice),
    )
    return {protocol.name: protocol for protocol in known}
