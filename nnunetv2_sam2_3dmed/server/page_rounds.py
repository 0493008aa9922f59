"""A round's queue in the page: cases one by one, with the model's masks, until the person has seen all of them.

=====================  ================================================================================================
``GET round``          ``{"round": null}``, or of the round named at the start ``{"round": {"name", "cases": [{"case",
                       "stage": "outline" or "volume", "done", "taken": another page has it, "chosen": false where
                       another case of the same patient was chosen}]}}``
``POST round/open``    ``{"case"}``, by default the one after that which is open, of those that are chosen, not done
                       and can be read: answers as ``GET session``, whose image has ``"round": {"id", "name", "case",
                       "stage", "axis", "objects": [{"id", "slice": with most of it}], "extents": {ID: {"axis", "first",
                       "last"}, as they were named}}``, and with ``"notes"``: a sentence for each case that cannot be
                       read. If none is left, ``{"finished": {"name", "command": null while cases are open elsewhere,
                       "elsewhere": their names, "others": number of those that were not chosen}}``, also with
                       ``"notes"``
``POST round/done``    ``{"case", "stage", "seconds": {ID: seconds of the person}, "sitting": number, "extents": {ID:
                       [first, last]}, "empty": true to say that there is no object in the image, in the first
                       stage}``: writes the masks of the case, which has to be open, into the round's folder;
                       ``{"left": number of cases}``; refused while a propagation runs. Seconds of a sitting that is
                       sent again are not counted again
=====================  ================================================================================================

Paths are below ``/page/``; ``GET round`` needs no place. Objects are the labels of the round's dataset: none is added
or removed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel, Field

from nnunetv2_sam2_3dmed.annotation.times import Sitting
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.windows import window_of
from nnunetv2_sam2_3dmed.server.page_cases import OpenCase
from nnunetv2_sam2_3dmed.server.page_loading import check_masks
from nnunetv2_sam2_3dmed.server.page_places import Place, Places
from nnunetv2_sam2_3dmed.server.page_sessions import PageSession
from nnunetv2_sam2_3dmed.server.state import ServerState

if TYPE_CHECKING:
    from nnunetv2_sam2_3dmed.annotation.queue import QueuedCase, RoundQueue

_DAY_S = 86400.0
Seconds = Annotated[float, Field(ge=0, le=_DAY_S)]


class CaseRequest(BaseModel):
    case: str | None = Field(None, max_length=400)


class DoneRequest(BaseModel):
    case: str = Field(max_length=400)
    stage: str = Field(max_length=20)
    seconds: dict[int, Seconds]
    sitting: int | None = None
    extents: dict[int, tuple[int, int]] = Field(default_factory=dict)
    empty: bool = False


def router(
    state: ServerState,
    places: Places,
    find_place: Callable[..., Place],
    find_page: Callable[..., PageSession],
    describe: Callable[[Place], dict[str, Any]],
) -> APIRouter:
    """Make the routes of a round.

    Args:
        state: of the server.
        places: of the pages.
        find_place: dependency that finds the place of a request.
        find_page: dependency that finds what is open there.
        describe: returns the answer of ``GET session``.
    """
    routes = APIRouter()
    queue = state.settings.round
    opening: dict[str, str] = {}  # cases that are being opened, by the token of their place
    choosing = threading.Lock()

    def named() -> RoundQueue:
        if queue is None:
            raise UserError("this server was started without --round: start it with one.")
        return queue

    def taken(place: Place | None = None) -> set[str]:
        """Cases that other places have open."""
        others = [other for other in list(places.by_token.values()) if other is not place]
        coming = [opening.get(other.token) for other in others]
        pages = [other.page for other in others]  # afterwards: what was coming may be open by now
        opened = [page.case for page in pages if page is not None]
        return {one.queued.name for one in opened if one is not None} | {name for name in coming if name is not None}

    def next_case(place: Place, unreadable: set[str]) -> QueuedCase | None:
        """Choose the case after that which is open, of those that wait, the first one after the last; or None."""
        elsewhere = taken(place) | unreadable
        left = [case for case in named().cases() if case.waits and case.name not in elsewhere]
        names = [case.name for case in named().cases()]
        here = None if place.page is None or place.page.case is None else place.page.case.queued.name
        passed = names[: names.index(here) + 1] if here in names else []
        return next((case for case in left if case.name not in passed), left[0] if left else None)

    def named_case(asked: str, place: Place) -> QueuedCase:
        """Return the case of a name for a place.

        Raises:
            UserError: there is none, or another place has it.
        """
        case = named().find(asked)
        if case.name in taken(place):
            raise UserError(f"{case.name} is open in another page: choose another case.")
        return case

    def finished(found: RoundQueue, place: Place) -> dict[str, Any]:
        """Tell that no case is left, and the command that goes on once nobody works on one."""
        elsewhere, cases = taken(place), found.cases()
        waiting = [case.name for case in cases if case.waits and case.name in elsewhere]
        others = sum(not case.chosen and not case.done for case in cases)
        command = None if waiting else found.command()
        name = found.folder.resolve().name
        return {"finished": {"name": name, "command": command, "elsewhere": waiting, "others": others}}

    @routes.get("/page/round")
    def show(x_page_session: Annotated[str, Header()] = "") -> dict[str, Any]:
        if queue is None:
            return {"round": None}
        elsewhere = taken(places.by_token.get(x_page_session))
        cases = [
            {
                "case": case.name,
                "stage": case.stage,
                "done": case.done,
                "taken": case.name in elsewhere,
                "chosen": case.chosen,
            }
            for case in queue.cases()
        ]
        return {"round": {"name": queue.folder.resolve().name, "cases": cases}}

    @routes.post("/page/round/open")
    def open_case(asked: CaseRequest, place: Place = Depends(find_place)) -> dict[str, Any]:
        found = named()
        unreadable: dict[str, str] = {}  # why, by case
        with state.leases.use(place.token):
            while True:
                with choosing:  # two pages at once
                    case = next_case(place, set(unreadable)) if asked.case is None else named_case(asked.case, place)
                    if case is not None:
                        opening[place.token] = case.name
                notes = [f"{name} was left out: {why}" for name, why in unreadable.items()]
                if case is None:
                    if unreadable and not any(one.done for one in found.cases()):
                        raise UserError(next(iter(unreadable.values())))
                    return {**finished(found, place), "notes": notes}
                try:
                    _open(found, case, place, places, state.settings.largest_image_bytes)
                    break
                except UserError as error:
                    if asked.case is not None:
                        raise
                    unreadable[case.name] = str(error)
                finally:
                    del opening[place.token]
            place.keep(None)  # the files of an image that was open before
            return {**describe(place), "notes": notes}

    @routes.post("/page/round/done")
    def finish(
        asked: DoneRequest, place: Place = Depends(find_place), page: PageSession = Depends(find_page)
    ) -> dict[str, Any]:
        found, opened = named(), page.case
        if opened is None:
            raise UserError("what is open is no case of the round: open one.")
        case = opened.queued
        # after an answer that was lost, or from another tab, the page may show the case before
        if (asked.case, asked.stage) != (case.name, case.stage):
            raise UserError(f"{case.name} is open here by now, and {asked.case} was not finished: reload the page.")
        strange = [number for number in (*asked.seconds, *asked.extents) if number not in found.objects]
        if strange:
            raise UserError(f"object {strange[0]} is no label of {found.made_by['dataset']}: send those of the case.")
        with state.leases.use(place.token):
            labels = page.run(page.finished_labels)
            sitting = Sitting(asked.seconds, dict(opened.machine_seconds), asked.sitting)
            found.finish(case, labels, page.volume, sitting, asked.extents, asked.empty)
            opened.written({} if asked.empty else asked.extents)
        return {"left": sum(one.waits for one in found.cases())}

    return routes


def _open(queue: RoundQueue, case: QueuedCase, place: Place, places: Places, largest: int) -> None:
    """Open a case in a place, with the masks of its objects as starts; if that fails, the one before stays open."""
    masks_fit = partial(check_masks, case.name, largest=largest)
    image, masks = queue.read(case, partial(places.check_bytes, case.image.name), masks_fit)
    extents = queue.extents(case)
    words = queue.made_by.get("window") or ["auto"]

    def begin(page: PageSession) -> None:
        axis = page.session.learned_axis if case.axis is None else case.axis
        shown = {
            "id": queue.id,
            "name": queue.folder.resolve().name,
            "case": case.name,
            "stage": case.stage,
            "axis": case.axis,
            "objects": [{"id": number, "slice": _largest(masks.get(number), axis)} for number in case.objects],
            "extents": {number: dict(zip(("axis", "first", "last"), ends)) for number, ends in extents.items()},
        }
        page.run(partial(page.begin_case, OpenCase(case, shown), masks))

    places.open(place, replace(image, name=case.name), window_of(list(words)), queue.objects, begin)


def _largest(mask: np.ndarray | None, axis: int) -> int | None:
    """Return the slice with most voxels of a mask; None if there is none."""
    if mask is None:
        return None
    return int(mask.sum(axis=tuple(k for k in range(3) if k != axis)).argmax())
