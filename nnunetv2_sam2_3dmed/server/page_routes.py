"""HTTP interface of the page.

``GET /`` is the page itself, ``GET /static/NAME`` a file of it. Everything else is under ``/page/`` and, but for
``POST session`` and ``GET folder``, needs the header ``X-Page-Session`` with the token of the former. Errors are
``{"detail": sentence}``. Axes are 0, 1 or 2 (z, y, x of the array), slice indices those of the array, and points are
rows and columns of the slice as it is shown: turned the same way up for every image, as ``views`` in the image's
description states (``order`` and ``flips`` of ``images.orientation.View``).

=================================  ====================================================================================
``POST session``                   a place for an image: ``{"token"}``; 503 where all are taken
``GET session``                    ``{"image": null or its description, "state"}``, to go on after a reload
``POST heartbeat``                 keeps the place, which without it is free again after five minutes, with all in it
``POST release``                   gives it up
``GET folder``                     images in the folder named at the start: ``{"images": [{"path", "kind", "bytes"}],
                                   "complete": false if there are more}``
``POST files``                     begins a batch of files, and deletes the one before: ``{"batch"}``
``PUT files?batch=ID&name=NAME``   a file as the body: an image, one of a DICOM series, or what is loaded below;
                                   ``{"name"}`` on the server; keeps the place meanwhile
``DELETE files?batch=ID``          deletes a batch; opening and loading do so too, also where they are refused
``POST open``                      ``{"path": of the folder's list, or "batch", "name": shown for that, "window",
                                   "series"}``; answers as ``GET session``, or, for a folder with several DICOM series,
                                   ``{"series": [{"id", "description", "number", "modality", "images", "rows",
                                   "columns"}]}``, after which it is asked again with the ``id`` of one; the image
                                   before is closed once this one is open
``GET slices/AXIS/INDEX``          intensities, uint16 little-endian, row by row: ``low + step * value``
``GET frames/INDEX``               of a video, whose description has ``"video": {"times", "rate", "timed"}`` and one
                                   view: a frame as JPEG
``GET labels/AXIS/INDEX``          object numbers, likewise
``GET progress``                   ``{"running", "done", "total", "axis", "index", "error", "version"}``; labels have
                                   changed if the version has
``POST objects``                   ``{"name"}``
``PATCH objects/ID``               ``{"name", "colour", "protected"}``, all optional; ``DELETE objects/ID``
``POST prompts``                   ``{"kind": "point", "box", "scribble" or "lasso", "object", "axis", "index",
                                   "label": 1 or 0, "points": [[row, column], ...]}``; a lasso adds its region to the
                                   mask of the slice, or takes it away
``POST undo``, ``POST redo``       one step
``POST propagation``               ``{"objects": [ID], "axis", "slices": [first, last], "direction", "within": {ID:
                                   {"axis", "first", "last"}: slices of the object's own}}``, all optional
``POST propagation/stop``          after the slice at hand
``GET surface/ID``                 numbers of vertices and triangles (uint32), vertices (float32, x, y, z in mm), and
                                   three vertices for each triangle (uint32)
``GET segmentation?ending=.nrrd``  the label map as a file; of a video, also .mp4 (overlay), .zip (PNG masks) and .json
                                   (COCO)
``POST segmentation``              ``{"batch", "name"}``: a file sent before, whose labels become the starts of objects
``GET prompts``                    all prompts as a JSON file
``POST prompts/file``              ``{"batch", "name"}``: such a file sent before; answers with ``"notes"`` too: a
                                   sentence for each slice on which nothing was seen
``round``, ``round/open``,         see ``page_rounds``
``round/done``
=================================  ====================================================================================

What changes objects returns ``{"state": {"version", "propagation", "objects": [{"id", "name", "colour", "protected",
"started", "propagated", "prompts": [{"axis", "index", "points": [[row, column, label]], "box", "mask"}]}]}}``. Binary
answers are compressed with gzip.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Depends, Header, HTTPException, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field, FiniteFloat
from starlette.background import BackgroundTask

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.dicom_headers import SeveralSeries
from nnunetv2_sam2_3dmed.images.untrusted import read_untrusted
from nnunetv2_sam2_3dmed.images.volumes import Volume, is_dicom_series
from nnunetv2_sam2_3dmed.interactive.prompts import check_axis, check_slice
from nnunetv2_sam2_3dmed.server import page_rounds
from nnunetv2_sam2_3dmed.server.page_files import (
    check_links,
    described,
    dicom_choices,
    inside,
    list_images,
    safe_name,
    uploaded_image,
)
from nnunetv2_sam2_3dmed.server.page_loading import read_prompts, read_starts
from nnunetv2_sam2_3dmed.server.page_places import Place, Places
from nnunetv2_sam2_3dmed.server.page_sessions import PageSession
from nnunetv2_sam2_3dmed.server.page_surface import surface
from nnunetv2_sam2_3dmed.server.page_uploads import client_names
from nnunetv2_sam2_3dmed.server.page_videos import FrameLabels
from nnunetv2_sam2_3dmed.server.page_volumes import packed
from nnunetv2_sam2_3dmed.server.state import ServerState
from nnunetv2_sam2_3dmed.video.opening import name_of
from nnunetv2_sam2_3dmed.video.untrusted import is_untrusted_video

OPEN_PATHS = ("/", "/static/")  # for which no key is needed
STATIC = Path(__file__).parent / "page"
_FRESH = {"Cache-Control": "no-store"}
_BYTES = "application/octet-stream"
# some systems have others for these, with which browsers run no script
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# scripts, styles and pictures of this server only; no other site may show the page in a frame
_POLICY = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_MOST_POINTS = 20_000  # of a line drawn by hand


class OpenRequest(BaseModel):
    path: str | None = Field(None, max_length=4096)
    batch: str | None = Field(None, max_length=100)
    series: str | None = Field(None, max_length=4096)
    name: str | None = Field(None, min_length=1, max_length=200)
    window: str | tuple[float, float] = "auto"


class ObjectRequest(BaseModel):
    name: str | None = Field(None, max_length=120)
    colour: str | None = Field(None, pattern="^#[0-9a-fA-F]{6}$")
    protected: bool | None = None


class PromptRequest(BaseModel):
    kind: Literal["point", "box", "scribble", "lasso"]
    object: int
    axis: Literal[0, 1, 2]
    index: int
    label: Literal[0, 1] = 1
    points: list[tuple[FiniteFloat, FiniteFloat]] = Field(min_length=1, max_length=_MOST_POINTS)


class OwnSlices(BaseModel):
    axis: Literal[0, 1, 2]
    first: int
    last: int


class PropagationRequest(BaseModel):
    objects: list[int] | None = None
    axis: Literal[0, 1, 2] | None = None
    slices: tuple[int, int] | None = None
    direction: Literal["both", "forward", "backward"] = "both"
    within: dict[int, OwnSlices] = {}


class FileRequest(BaseModel):
    batch: str = Field(max_length=100)
    name: str = Field(max_length=4096)


def router(state: ServerState) -> APIRouter:
    """Make the routes of the page.

    Args:
        state: of the server.
    """
    routes = APIRouter()
    served, largest = state.settings.folder, state.settings.largest_image_bytes
    places = Places(state)

    def find_place(x_page_session: Annotated[str, Header()] = "") -> Place:
        return places.find(x_page_session)

    def find_page(place: Place = Depends(find_place)) -> PageSession:
        if place.page is None:
            raise UserError("there is no image yet: open one first.")
        return place.page

    Claimed, Opened = Depends(find_place), Depends(find_page)

    def changed(page: PageSession, job: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
        """Change objects; return the answer with their state after it, and the job's result."""
        result, described = page.run(lambda: (job(), page.state()))
        return {"state": described}, result

    # ---- the page's own files

    @routes.get("/", include_in_schema=False)
    def index() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=_FRESH | {"Content-Security-Policy": _POLICY})

    @routes.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> FileResponse:
        # of the names that are there: none leads elsewhere
        files = {file.name: file for file in STATIC.iterdir() if file.is_file()}
        if name not in files:
            raise HTTPException(404, f"this page has no file {name!r}.")
        return FileResponse(files[name], media_type=_TYPES.get(files[name].suffix), headers=_FRESH)

    # ---- places and images

    @routes.post("/page/session")
    def claim() -> dict[str, Any]:
        return {"token": places.claim().token}

    @routes.get("/page/session")
    def describe(place: Place = Claimed) -> dict[str, Any]:
        page = place.page
        if page is None:
            return {"image": None, "state": None}
        return page.run(lambda: {"image": page.info(), "state": page.state()})

    @routes.post("/page/heartbeat")
    def heartbeat(place: Place = Claimed) -> dict[str, Any]:
        places.keep(place.token)
        return {}

    @routes.post("/page/release")
    def release(x_page_session: Annotated[str, Header()] = "") -> dict[str, Any]:
        state.leases.release(x_page_session)
        return {}

    @routes.get("/page/folder")
    def folder() -> dict[str, Any]:
        images, complete = ([], True) if served is None else list_images(served)
        return {"images": images, "complete": complete}

    @routes.post("/page/files")
    def begin(place: Place = Claimed) -> dict[str, Any]:
        with state.leases.use(place.token):
            return {"batch": place.begin().id}

    @routes.put("/page/files")
    async def receive(request: Request, batch: str, name: str, place: Place = Claimed) -> dict[str, Any]:
        async def parts() -> AsyncIterator[bytes]:
            async for part in request.stream():
                places.keep(place.token)  # a large file takes longer than a page may be silent
                yield part

        # the guard takes no request without its length
        length = int(request.headers.get("content-length", "0"))
        return {"name": await place.batch(batch).receive(name, length, parts())}

    @routes.delete("/page/files")
    def drop(batch: str, place: Place = Claimed) -> dict[str, Any]:
        with state.leases.use(place.token), place.used(batch):
            return {}

    def read(file: Path, root: Path, name: str) -> Volume:
        if is_dicom_series(file):
            check_links(file, root)
        return read_untrusted(file, root, partial(places.check_bytes, name))

    def open_in(place: Place, asked: OpenRequest, image: Path, root: Path) -> dict[str, Any] | None:
        """Open an image, or return what lets the user choose among several series."""
        name = asked.name or (image.name if asked.path is not None or image.is_file() else "DICOM series")
        chosen = image if asked.series is None else inside(image, asked.series)
        choices = dicom_choices(chosen, root) if chosen.is_dir() else []
        if len(choices) > 1:
            return {"series": [described(choice) for choice in choices]}
        video = choices[0][0][0] if choices else chosen
        if is_untrusted_video(video):
            places.open_video(place, video, root, name)
            return None
        try:
            volume = read(chosen, root, name)
        except SeveralSeries as several:
            return {"series": [described(series) for series in several.series]}
        places.open(place, replace(volume, name=name), asked.window)
        return None

    @routes.post("/page/open")
    def open_image(asked: OpenRequest, place: Place = Claimed) -> dict[str, Any]:
        with state.leases.use(place.token):
            if asked.batch is not None:
                with place.used(asked.batch) as files, client_names(files, asked.name or "the folder"):
                    if asked.series is not None:
                        place.put_back(files)  # if this one is refused, the user can choose another
                    choice = open_in(place, asked, uploaded_image(files.folder), files.folder)
                    place.keep(files) if choice is None else place.put_back(files)
            elif asked.path is not None:
                image = inside(served, asked.path)
                assert served is not None  # as there is an image inside
                with client_names(served):
                    choice = open_in(place, asked, image, served)
                if choice is None:
                    place.keep(None)
            else:
                raise UserError("there is nothing to open: give the path of an image or a batch of files.")
            return describe(place) if choice is None else choice

    # ---- slices

    @routes.get("/page/slices/{axis}/{index}")
    def grey_slice(axis: int, index: int, page: PageSession = Opened) -> Response:
        check_slice(index, page.volume.shape, check_axis(axis))
        return _packed(packed(page.shown.grey(axis, index)))

    @routes.get("/page/frames/{index}")
    def frame(index: int, page: PageSession = Opened) -> Response:
        check_slice(index, page.volume.shape, 0)
        return Response(page.shown.frame(index), media_type="image/jpeg", headers=_FRESH)

    @routes.get("/page/labels/{axis}/{index}")
    def label_slice(axis: int, index: int, page: PageSession = Opened) -> Response:
        check_slice(index, page.volume.shape, check_axis(axis))
        return _packed(page.packed_labels(axis, index))

    @routes.get("/page/progress")
    def progress(page: PageSession = Opened) -> dict[str, Any]:
        return page.progress()

    # ---- objects and prompts

    @routes.post("/page/objects")
    def add_object(asked: ObjectRequest, page: PageSession = Opened) -> dict[str, Any]:
        answer, added = changed(page, lambda: page.add_object(asked.name))
        return answer | {"object": added.id}

    @routes.patch("/page/objects/{number}")
    def change_object(number: int, asked: ObjectRequest, page: PageSession = Opened) -> dict[str, Any]:
        return changed(page, lambda: page.change_object(number, asked.name, asked.colour, asked.protected))[0]

    @routes.delete("/page/objects/{number}")
    def remove_object(number: int, page: PageSession = Opened) -> dict[str, Any]:
        return changed(page, lambda: page.remove_object(number))[0]

    @routes.post("/page/prompts")
    def add_prompt(asked: PromptRequest, page: PageSession = Opened) -> dict[str, Any]:
        drawn = np.array(asked.points, dtype=float)
        where = (asked.kind, asked.object, asked.axis, asked.index, asked.label)
        answer, quality = changed(page, lambda: page.add_prompt(*where, drawn))
        return answer | {"quality": quality}

    @routes.post("/page/undo")
    def undo(page: PageSession = Opened) -> dict[str, Any]:
        answer, names = changed(page, page.undo)
        return answer | {"changed": names}

    @routes.post("/page/redo")
    def redo(page: PageSession = Opened) -> dict[str, Any]:
        answer, names = changed(page, lambda: page.undo(again=True))
        return answer | {"changed": names}

    # ---- propagation

    @routes.post("/page/propagation")
    def propagate(asked: PropagationRequest, page: PageSession = Opened) -> dict[str, Any]:
        within = {number: (own.axis, (own.first, own.last)) for number, own in asked.within.items()}
        page.run(lambda: page.propagate(asked.objects, asked.axis, asked.slices, asked.direction, within))
        return page.progress()

    @routes.post("/page/propagation/stop")
    def stop(page: PageSession = Opened) -> dict[str, Any]:
        return changed(page, page.stop)[0]

    # ---- results

    @routes.get("/page/surface/{number}")
    def surface_of(number: int, page: PageSession = Opened) -> Response:
        page.known(number)
        if isinstance(page.labels, FrameLabels):
            raise UserError("a video has no surface: its third axis is time.")
        vertices, triangles = surface(page.labels.array == number, page.volume)
        sizes = np.array([len(vertices), len(triangles)], dtype="<u4")
        content = b"".join(part.tobytes() for part in (sizes, vertices.astype("<f4"), triangles.astype("<u4")))
        return _packed(gzip.compress(content, 1))

    @routes.get("/page/segmentation")
    def segmentation(ending: str, page: PageSession = Opened) -> Response:
        # deleted once it is sent
        folder = tempfile.TemporaryDirectory(prefix="sam2_3dmed_")
        name = f"{safe_name(name_of(Path(page.volume.name)))}_segmentation"
        try:
            names = {one.id: one.name for one in page.objects}
            path = page.shown.write(Path(folder.name), name, ending, names, page.run)
        except BaseException:
            folder.cleanup()
            raise
        return FileResponse(
            path, media_type=_BYTES, headers=_named(path.name), background=BackgroundTask(folder.cleanup)
        )

    @routes.get("/page/prompts")
    def prompts(page: PageSession = Opened) -> Response:
        content = page.run(page.prompts_as_json).encode()
        name = f"{safe_name(name_of(Path(page.volume.name)))}_prompts.json"
        return Response(content, media_type=_BYTES, headers=_named(name))

    @routes.post("/page/prompts/file")
    def load_prompts(asked: FileRequest, place: Place = Claimed, page: PageSession = Opened) -> dict[str, Any]:
        with state.leases.use(place.token), place.used(asked.batch) as files:
            with client_names(files):
                saved = read_prompts(inside(files.folder, asked.name), page.volume, largest)
            answer, notes = changed(page, lambda: page.load_prompts(saved))
        return answer | {"notes": notes}

    @routes.post("/page/segmentation")
    def load_segmentation(asked: FileRequest, place: Place = Claimed, page: PageSession = Opened) -> dict[str, Any]:
        with state.leases.use(place.token), place.used(asked.batch) as files:
            with client_names(files):
                found = read(inside(files.folder, asked.name), files.folder, asked.name)
                masks = read_starts(found, page.volume, largest)
        return changed(page, lambda: page.load_starts(masks))[0]

    routes.include_router(page_rounds.router(state, places, find_place, find_page, describe))
    return routes


def _packed(content: bytes) -> Response:
    return Response(content, media_type=_BYTES, headers={"Content-Encoding": "gzip", **_FRESH})


def _named(name: str) -> dict[str, str]:
    """Headers of a file that the user gets; they are ASCII."""
    return {"Content-Disposition": f"attachment; filename*=utf-8''{quote(name)}", **_FRESH}
