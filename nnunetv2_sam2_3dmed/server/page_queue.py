"""A round's queue that open pages share: which of them has which case."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.windows import window_of
from nnunetv2_sam2_3dmed.server.page_cases import OpenCase
from nnunetv2_sam2_3dmed.server.page_loading import check_masks
from nnunetv2_sam2_3dmed.server.page_places import Place, Places
from nnunetv2_sam2_3dmed.server.page_sessions import PageSession

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.annotation.queue import QueuedCase, RoundQueue


class SharedQueue:
    """A round's queue of which each open page has a case of its own.

    Args:
        queue: of the round.
        places: of the pages.
        largest: size in bytes above which masks are not made.
    """

    def __init__(self, queue: RoundQueue, places: Places, largest: int):
        self.queue = queue
        self._places = places
        self._largest = largest
        self._opening: dict[str, str] = {}  # cases that are being opened, by the token of their place
        self._choosing = threading.Lock()

    def describe(self, token: str) -> dict[str, Any]:
        """Describe the round for the page of a token, which may have no place."""
        elsewhere = self._taken(self._places.by_token.get(token))
        cases = [
            {
                "case": case.name,
                "stage": case.stage,
                "done": case.done,
                "taken": case.name in elsewhere,
                "chosen": case.chosen,
            }
            for case in self.queue.cases()
        ]
        return {"name": self._name, "cases": cases}

    def open(self, place: Place, asked: str | None) -> tuple[bool, list[str]]:
        """Open a case in a place: that of a name, or the next one that can be read.

        Returns:
            True if a case is open, False if none is left; and a sentence for each case that was left out because it
            cannot be read.

        Raises:
            UserError: there is no case of that name, another place has it, or it cannot be read; or, without a name,
                no case is done, and of those that no other place has, none can be read.
        """
        unreadable: dict[str, str] = {}  # why, by case
        while True:
            with self._choosing:  # two pages at once
                case = self._next(place, set(unreadable)) if asked is None else self._named(asked, place)
                if case is not None:
                    self._opening[place.token] = case.name
            if case is None:
                if unreadable and not any(one.done for one in self.queue.cases()):
                    raise UserError(next(iter(unreadable.values())))
                break
            try:
                self._open(case, place)
                break
            except UserError as error:
                if asked is not None:
                    raise
                unreadable[case.name] = str(error)
            finally:
                del self._opening[place.token]
        return case is not None, [f"{name} was left out: {why}" for name, why in unreadable.items()]

    def none_left(self, place: Place) -> dict[str, Any]:
        """Tell a place that no case is left, and the command that goes on once nobody works on one."""
        elsewhere, cases = self._taken(place), self.queue.cases()
        waiting = [case.name for case in cases if case.waits and case.name in elsewhere]
        others = sum(not case.chosen and not case.done for case in cases)
        command = None if waiting else self.queue.command()
        return {"name": self._name, "command": command, "elsewhere": waiting, "others": others}

    @property
    def _name(self) -> str:
        return self.queue.folder.resolve().name

    def _taken(self, place: Place | None) -> set[str]:
        """Return the cases that other places have open."""
        others = [other for other in list(self._places.by_token.values()) if other is not place]
        coming = [self._opening.get(other.token) for other in others]
        pages = [other.page for other in others]  # afterwards: what was coming may be open by now
        opened = [page.case for page in pages if page is not None]
        return {one.queued.name for one in opened if one is not None} | {name for name in coming if name is not None}

    def _next(self, place: Place, unreadable: set[str]) -> QueuedCase | None:
        """Choose the case after that which is open, of those that wait, the first one after the last; or None."""
        cases = self.queue.cases()
        elsewhere = self._taken(place) | unreadable
        left = [case for case in cases if case.waits and case.name not in elsewhere]
        names = [case.name for case in cases]
        here = None if place.page is None or place.page.case is None else place.page.case.queued.name
        passed = names[: names.index(here) + 1] if here in names else []
        return next((case for case in left if case.name not in passed), left[0] if left else None)

    def _named(self, asked: str, place: Place) -> QueuedCase:
        case = self.queue.find(asked)
        if case.name in self._taken(place):
            raise UserError(f"{case.name} is open in another page: choose another case.")
        return case

    def _open(self, case: QueuedCase, place: Place) -> None:
        """Open a case with the masks of its objects as starts; if that fails, the one before stays open."""
        queue = self.queue
        masks_fit = partial(check_masks, case.name, largest=self._largest)
        image, masks = queue.read(case, partial(self._places.check_bytes, case.image.name), masks_fit)
        extents = queue.extents(case)
        words = queue.made_by.get("window") or ["auto"]

        def begin(page: PageSession) -> None:
            axis = page.session.learned_axis if case.axis is None else case.axis
            shown = {
                "id": queue.id,
                "name": self._name,
                "case": case.name,
                "stage": case.stage,
                "axis": case.axis,
                "objects": [{"id": number, "slice": _largest(masks.get(number), axis)} for number in case.objects],
                "extents": {number: dict(zip(("axis", "first", "last"), ends)) for number, ends in extents.items()},
            }
            page.run(partial(page.begin_case, OpenCase(case, shown), masks))

        self._places.open(place, replace(image, name=case.name), window_of(list(words)), queue.objects, begin)


def _largest(mask: np.ndarray | None, axis: int) -> int | None:
    """Return the slice with most voxels of a mask; None if there is none."""
    if mask is None:
        return None
    return int(mask.sum(axis=tuple(k for k in range(3) if k != axis)).argmax())
