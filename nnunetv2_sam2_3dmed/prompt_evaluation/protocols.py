"""Ways to prompt an object, a round at a time, after published experiments (see docs/explanation/decisions.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from nnunetv2_sam2_3dmed.prompt_evaluation.cases import PromptedCase
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import Click, bounding_box, error_click, middle_slice


class Round(NamedTuple):
    """What one interaction led to.

    Attributes:
        number: from 1.
        prompts: clicks, boxes or masks that the session has taken so far.
        rejected: those that SAM 2 answered with nothing, so that the session took them back.
        seconds: from the prompt until the masks of all slices are there.
        found: the object, bool, in the view.
    """

    number: int
    prompts: int
    rejected: int
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
    """Clicks on the largest error of the middle slice, one a round; the slice is carried through the volume at the end.

    As in section 3.3 of arXiv 2408.02635, the slice is annotated first and then propagated; where to click, and that
    clicks are answered without memory, is not stated there. What a round leads to is therefore what a user gets who
    stops there: the object is forgotten, the clicks so far are given one after the other, and one propagation follows.
    The seconds are those of the round's own click and the propagation.
    """

    def interact(case: PromptedCase, number: int, rng: np.random.Generator) -> Iterator[Round]:
        truth = case.truths[number]
        index = middle_slice(truth)
        found = case.found(number)
        clicks: list[Click] = []
        for turn in range(1, rounds + 1):
            click = error_click(truth[index], found[index], rng, clicks)
            if click is None:
                return  # the slice is as it should be
            case.forget(number)
            taken = sum(case.click(number, index, earlier) for earlier in clicks)
            start = time.perf_counter()
            taken += case.click(number, index, click)
            clicks.append(click)
            case.propagate(number)
            found = case.found(number)
            yield Round(turn, taken, len(clicks) - taken, time.perf_counter() - start, found)

    return interact


def mask_of_the_middle_slice(case: PromptedCase, number: int, rng: np.random.Generator) -> Iterator[Round]:
    """The true mask of the middle slice, carried through the volume."""
    truth = case.truths[number]
    index = middle_slice(truth)
    yield _once(case, number, lambda: [case.mask(number, index, truth[index])])


def box_on_the_middle_slice(case: PromptedCase, number: int, rng: np.random.Generator) -> Iterator[Round]:
    """The box around the middle slice, carried through the volume."""
    truth = case.truths[number]
    index = middle_slice(truth)
    yield _once(case, number, lambda: [case.box(number, index, bounding_box(truth[index]))])


def box_on_every_slice(case: PromptedCase, number: int, rng: np.random.Generator) -> Iterator[Round]:
    """A box on each slice that the object is on, and nothing carried: every slice stands for itself."""
    truth = case.truths[number]
    slices = [int(index) for index in np.flatnonzero(truth.any(axis=(1, 2)))]
    yield _once(
        case, number, lambda: [case.box(number, index, bounding_box(truth[index])) for index in slices], carried=False
    )


def _once(case: PromptedCase, number: int, prompt: Callable[[], list[bool]], carried: bool = True) -> Round:
    """The only round of a protocol; ``prompt`` says of each prompt whether the session has taken it."""
    start = time.perf_counter()
    taken = prompt()
    if carried:
        case.propagate(number)
    found = case.found(number)  # which waits for the device: within the seconds
    return Round(1, sum(taken), len(taken) - sum(taken), time.perf_counter() - start, found)


def protocols(clicks: int = 5) -> dict[str, Protocol]:
    """All protocols by their names.

    Args:
        clicks: how many at most in the protocol of clicks; arXiv 2408.02635: 5.
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
