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
                       ``{"left": number of cases}``; refused while a propagation runs. Seconds that were counted for
                       a sitting of the same number are not counted again: it is one that no other sitting at the case
                       has, such as the time in ms, and is remembered until the server ends
=====================  ================================================================================================

Paths are below ``/page/``; ``GET round`` needs no place. Objects are the labels of the round's dataset: none is added
or removed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel, Field

from nnunetv2_sam2_3dmed.annotation.times import Sitting
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.server.page_places import Place, Places
from nnunetv2_sam2_3dmed.server.page_queue import SharedQueue
from nnunetv2_sam2_3dmed.server.page_sessions import PageSession
from nnunetv2_sam2_3dmed.server.state import ServerState

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
    shared = None if queue is None else SharedQueue(queue, places, state.settings.largest_image_bytes)

    def the_round() -> SharedQueue:
        if shared is None:
            raise UserError("this server was started without --round: start it with one.")
        return shared

    @routes.get("/page/round")
    def show(x_page_session: Annotated[str, Header()] = "") -> dict[str, Any]:
        return {"round": None if shared is None else shared.describe(x_page_session)}

    @routes.post("/page/round/open")
    def open_case(asked: CaseRequest, place: Place = Depends(find_place)) -> dict[str, Any]:
        cases = the_round()
        with state.leases.use(place.token):
            is_open, notes = cases.open(place, asked.case)
            if not is_open:
                return {"finished": cases.none_left(place), "notes": notes}
            place.keep(None)  # the files of an image that was open before
            return {**describe(place), "notes": notes}

    @routes.post("/page/round/done")
    def finish(
        asked: DoneRequest, place: Place = Depends(find_place), page: PageSession = Depends(find_page)
    ) -> dict[str, Any]:
        cases, opened = the_round().queue, page.case
        if opened is None:
            raise UserError("what is open is no case of the round: open one.")
        case = opened.queued
        # after an answer that was lost, or from another tab, the page may show the case before
        if (asked.case, asked.stage) != (case.name, case.stage):
            raise UserError(f"{case.name} is open here by now, and {asked.case} was not finished: reload the page.")
        strange = [number for number in (*asked.seconds, *asked.extents) if number not in cases.objects]
        if strange:
            raise UserError(f"object {strange[0]} is no label of {cases.made_by['dataset']}: send those of the case.")
        with state.leases.use(place.token):
            # at once: a prompt that is answered later counts for the next sitting
            labels, machine = page.run(lambda: (page.finished_labels(), opened.unwritten_seconds()))
            sitting = Sitting(asked.seconds, machine, asked.sitting)
            cases.finish(case, labels, page.volume, sitting, asked.extents, asked.empty)
            opened.written({} if asked.empty else asked.extents, machine)
        return {"left": sum(one.waits for one in cases.cases())}

    return routes
