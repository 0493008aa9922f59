"""Ways to prompt an object, one turn at a time, after published experiments; see docs/explanation/decisions.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import (
    Click,
    bounding_box,
    diameters,
    error_click,
    extent_of,
    key_slice,
    middle_slice,
)
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated_user import SimulatedUser

CORRECTIONS = 3


class Turn(NamedTuple):
    """Result of one interaction.

    Attributes:
        number: from 1.
        prompts: clicks, boxes or masks that the session has accepted so far.
        rejected: prompts so far in which SAM 2 saw no object, so that the session took them back.
        seconds: from the prompt until the masks of all slices are there.
        found: the object, bool, in the view.
    """

    number: int
    prompts: int
    rejected: int
    seconds: float
    found: np.ndarray


# prompts object NUMBER of a user's case; the generator is the source of randomness
Interact = Callable[[SimulatedUser, int, np.random.Generator], Iterator[Turn]]


class Protocol(NamedTuple):
    """A way to prompt.

    Attributes:
        name: name of its output folder.
        title: description.
        source: publication with results of it.
        interact: the interaction itself.
    """

    name: str
    title: str
    source: str
    interact: Interact


def clicks_on_the_middle_slice(turns: int) -> Interact:
    """Click on the largest error of the middle slice, once per turn, and propagate the slice at the end.

    As in section 3.3 of arXiv 2408.02635, the slice is annotated first and then propagated; where to click, and that
    clicks are answered without memory, is not stated there. The result of a turn is therefore that of a user who stops
    there: the object is removed, all clicks so far are given one after the other, and one propagation follows. The
    seconds are those of the turn's own click and the propagation.
    """

    def interact(user: SimulatedUser, number: int, rng: np.random.Generator) -> Iterator[Turn]:
        gt = user.gt[number]
        index = middle_slice(gt)
        found = user.found(number)
        clicks: list[Click] = []
        for turn in range(1, turns + 1):
            click = error_click(gt[index], found[index], rng, clicks)
            if click is None:
                return  # no error is left on the slice
            user.forget(number)
            accepted = sum(user.click(number, index, earlier) for earlier in clicks)
            start = time.perf_counter()
            accepted += user.click(number, index, click)
            clicks.append(click)
            user.propagate(number)
            found = user.found(number)
            yield Turn(turn, accepted, len(clicks) - accepted, time.perf_counter() - start, found)

    return interact


def mask_of_the_middle_slice(within: bool = False) -> Interact:
    """Give the ground truth mask of the middle slice and propagate it.

    Args:
        within: propagate to the first and the last slice with the object, which the user names, instead of to all: the
            second stage of MedSAM2's annotation of lesions.
    """

    def interact(user: SimulatedUser, number: int, rng: np.random.Generator) -> Iterator[Turn]:
        gt = user.gt[number]
        index = middle_slice(gt)
        extent = extent_of(gt) if within else None
        yield _once(user, number, lambda: [user.mask(number, index, gt[index])], extent)

    return interact


def box_on_the_middle_slice(within: bool = False) -> Interact:
    """Give the ground truth box of the middle slice and propagate it.

    Args:
        within: see :func:`mask_of_the_middle_slice`.
    """

    def interact(user: SimulatedUser, number: int, rng: np.random.Generator) -> Iterator[Turn]:
        gt = user.gt[number]
        index = middle_slice(gt)
        extent = extent_of(gt) if within else None
        yield _once(user, number, lambda: [user.box(number, index, bounding_box(gt[index]))], extent)

    return interact


def recist_on_the_key_slice(lines: int) -> Interact:
    """Give the RECIST measurement of an object, and propagate the box that the session makes of it.

    RECIST measures a lesion on the slice of its longest diameter, of equal ones on that nearest to the middle slice. It
    is often not the slice of :func:`box_on_the_middle_slice`, so that the two differ in more than the prompt.

    Args:
        lines: 1 for the longest diameter alone, 2 with the perpendicular one.
    """

    def interact(user: SimulatedUser, number: int, rng: np.random.Generator) -> Iterator[Turn]:
        gt = user.gt[number]
        index = key_slice(gt, user.plane_spacing)
        ends = diameters(gt[index], user.plane_spacing)[: 2 * lines]
        yield _once(user, number, lambda: [user.recist(number, index, ends)])

    return interact


def box_and_corrections(corrections: int, within: bool = False) -> Interact:
    """Give the ground truth box of the middle slice, propagate, and correct what was propagated, one click per turn.

    Each click is at the centre of the largest error of the slice with most wrong voxels, wherever it is, and a
    propagation from all prompted slices follows. Where the object is already whole, the turns end.

    Args:
        corrections: maximum number of clicks.
        within: see :func:`mask_of_the_middle_slice`; clicks are then on slices of the object, too.
    """

    def interact(user: SimulatedUser, number: int, rng: np.random.Generator) -> Iterator[Turn]:
        gt = user.gt[number]
        index = middle_slice(gt)
        extent = extent_of(gt) if within else None
        first = _once(user, number, lambda: [user.box(number, index, bounding_box(gt[index]))], extent)
        yield first
        accepted, found = first.prompts, first.found
        clicks: dict[int, list[Click]] = {}
        for turn in range(2, corrections + 2):
            worst = int((gt ^ found).sum(axis=(1, 2)).argmax())
            before = clicks.setdefault(worst, [])
            click = error_click(gt[worst], found[worst], rng, before)
            if click is None:
                return  # no error is left, or all of them were clicked on
            start = time.perf_counter()
            accepted += user.click(number, worst, click)
            before.append(click)
            user.propagate(number, extent)
            found = user.found(number)
            yield Turn(turn, accepted, turn - accepted, time.perf_counter() - start, found)

    return interact


def box_on_every_slice(user: SimulatedUser, number: int, rng: np.random.Generator) -> Iterator[Turn]:
    """Give the ground truth box of every slice with the object, without propagation."""
    gt = user.gt[number]
    slices = [int(index) for index in np.flatnonzero(gt.any(axis=(1, 2)))]
    yield _once(
        user, number, lambda: [user.box(number, index, bounding_box(gt[index])) for index in slices], propagated=False
    )


def _once(
    user: SimulatedUser,
    number: int,
    prompt: Callable[[], list[bool]],
    extent: tuple[int, int] | None = None,
    propagated: bool = True,
) -> Turn:
    """Return the only turn of a protocol; ``prompt`` returns for each prompt if the session has accepted it."""
    start = time.perf_counter()
    accepted = prompt()
    if propagated:
        user.propagate(number, extent)
    found = user.found(number)  # which waits for the device: within the seconds
    return Turn(1, sum(accepted), len(accepted) - sum(accepted), time.perf_counter() - start, found)


def protocols(clicks: int = 5) -> dict[str, Protocol]:
    """Return all protocols by their names.

    Args:
        clicks: maximum number of clicks in the protocol of clicks; 5 in arXiv 2408.02635.
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
            "ground truth mask of the middle slice",
            "Interactive 3D Medical Image Segmentation with SAM 2",
            mask_of_the_middle_slice(),
        ),
        Protocol("box", "box on the middle slice", "MedSAM2", box_on_the_middle_slice()),
        Protocol("boxes", "box on every slice", "no memory: each slice alone", box_on_every_slice),
        Protocol("recist", "both RECIST diameters on the slice of the longest", "ours", recist_on_the_key_slice(2)),
        Protocol(
            "1_mask_within",
            "ground truth mask of the middle slice, first and last slice named",
            "MedSAM2's annotation of lesions",
            mask_of_the_middle_slice(within=True),
        ),
        Protocol(
            "box_within",
            "box on the middle slice, first and last slice named",
            "ours",
            box_on_the_middle_slice(within=True),
        ),
        Protocol("recist_line", "longest RECIST diameter on its slice", "ours", recist_on_the_key_slice(1)),
        Protocol(
            "box_corrected",
            f"box on the middle slice, then {CORRECTIONS} clicks on errors of any slice",
            "ours",
            box_and_corrections(CORRECTIONS),
        ),
        Protocol(
            "box_within_corrected",
            f"box on the middle slice, first and last slice named, then {CORRECTIONS} clicks on errors between them",
            "ours",
            box_and_corrections(CORRECTIONS, within=True),
        ),
    )
    return {protocol.name: protocol for protocol in known}
