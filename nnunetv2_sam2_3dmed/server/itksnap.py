"""Routes of ITK-SNAP's deep learning extension: whole masks, without a lease but with a session in each path.

Volumes are x fastest in memory, which is numpy's z, y, x. ITK-SNAP states the orientation. It knows no key and gives no
sign of life: a session ends with its last call, or an hour after it.
"""

from __future__ import annotations

import base64
import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel, Field, FiniteFloat, PositiveInt, ValidationError
from starlette.datastructures import UploadFile

from nnunetv2_sam2_3dmed import __version__
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volume import Volume, volume_from_array
from nnunetv2_sam2_3dmed.server.leases import Lease, LeaseGone
from nnunetv2_sam2_3dmed.server.opened import open_image, opened
from nnunetv2_sam2_3dmed.server.prompted_object import CallAnswer, PromptedObject
from nnunetv2_sam2_3dmed.server.sessions import content_key
from nnunetv2_sam2_3dmed.server.state import ServerState
from nnunetv2_sam2_3dmed.server.wire import TooLarge, gunzip

# ITK-SNAP compares it with the oldest release of its own server that it can use
VERSION_SPOKEN = "0.1.6"
MODEL = "SAM2-3dMed"
IDLE_S = 3600.0
# whose bodies are volumes; the session's token follows
LARGE_PATHS = tuple(
    f"{version}/{call}/"
    for version in ("", "/v2")
    for call in ("upload_raw", "process_scribble_interaction", "process_lasso_interaction")
)

Three = tuple[FiniteFloat, FiniteFloat, FiniteFloat]


class Metadata(BaseModel):
    """Geometry of an uploaded volume, in the order x, y, z; ``direction`` row by row."""

    dimensions: tuple[PositiveInt, PositiveInt, PositiveInt]
    spacing: Three = (1.0, 1.0, 1.0)
    origin: Three = (0.0, 0.0, 0.0)
    direction: list[FiniteFloat] = Field(default=[1, 0, 0, 0, 1, 0, 0, 0, 1], min_length=9, max_length=9)
    components_per_pixel: Literal[1] = 1
    component_type: Literal["float32"] = "float32"


class Upload(BaseModel):
    """Parts of a multipart body: gzip of raw voxels, and their geometry."""

    file: bytes
    metadata: Metadata


async def read_upload(request: Request) -> Upload:
    """Read a multipart body.

    Raises:
        UserError: a part is missing or cannot be read.
    """
    async with request.form(max_files=2, max_fields=8) as form:
        parts = {name: await part.read() if isinstance(part, UploadFile) else part for name, part in form.items()}
    for name in ("file", "metadata"):
        if name not in parts:
            raise UserError(f"the body has no part {name!r}: send multipart/form-data with file and metadata.")
    file = parts["file"]
    try:
        metadata = Metadata.model_validate_json(parts["metadata"])
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"metadata.{'.'.join(map(str, first['loc']))} cannot be read: {first['msg']}.") from error
    return Upload(file=file.encode() if isinstance(file, str) else file, metadata=metadata)


Uploaded = Annotated[Upload, Depends(read_upload)]


def read_voxels(upload: Upload, max_bytes: int) -> np.ndarray:
    """Return the voxels (z, y, x) of an upload, float32.

    Raises:
        UserError: it is larger than ``max_bytes``, or holds other than that many voxels.
    """
    shape = upload.metadata.dimensions[::-1]
    size = 4 * math.prod(shape)
    if size > max_bytes:
        raise TooLarge(
            f"the volume has {size / 2**20:.0f} MiB, but this server takes {max_bytes / 2**20:.0f} MiB: start it with "
            "a larger --largest-image."
        )
    return np.frombuffer(gunzip(upload.file, size), dtype="<f4").reshape(shape)


def read_image(upload: Upload, max_bytes: int) -> Volume:
    """Return an uploaded image with its geometry.

    Raises:
        UserError: see :func:`read_voxels`; or the geometry is no geometry.
    """
    stated = upload.metadata
    array = read_voxels(upload, max_bytes)
    return volume_from_array(array, stated.spacing[::-1], stated.origin, stated.direction)


def result(one: PromptedObject, answer: CallAnswer) -> dict[str, Any]:
    """Encode the whole mask."""
    assert one.buffer is not None
    content = gzip.compress(one.buffer.tobytes(), compresslevel=1)
    said = {} if answer.message is None else {"message": answer.message}
    return {"status": "success", "result": base64.b64encode(content).decode(), **said}


def router(state: ServerState) -> APIRouter:
    """Make the routes of ITK-SNAP's protocol."""
    routes, leases, largest = APIRouter(), state.leases, state.settings.largest_image_bytes

    @contextmanager
    def use(session: str) -> Iterator[Lease]:
        try:
            with leases.use(session) as lease:
                yield lease
        except LeaseGone as error:
            raise HTTPException(404, "this session has ended or is not known to this server: connect again.") from error

    @routes.get("/status")
    async def status() -> dict[str, str]:
        return {"status": "ok", "version": VERSION_SPOKEN, "server": f"sam2_3dmed {__version__}"}

    @routes.get("/v2/models")
    async def models() -> dict[str, Any]:
        model = {
            "id": MODEL,
            "dimensions": 3,
            "channels": [1],
            "interactions": ["point", "scribble", "lasso"],
        }
        return {"models": [model]}

    @routes.get("/start_session")
    def start_session() -> dict[str, str]:
        return {"session_id": leases.claim(IDLE_S, heartbeats=False).token}

    @routes.get("/v2/start_session/{model}")
    def start_session_of(model: str) -> dict[str, str]:
        if model != MODEL:
            raise HTTPException(404, f"there is no model {model[:100]!r}: take {MODEL}.")
        return start_session()

    @routes.post("/upload_raw/{session}")
    @routes.post("/v2/upload_raw/{session}")
    def upload_raw(session: str, upload: Uploaded) -> dict[str, str]:
        volume = read_image(upload, largest)
        key = content_key(volume)
        with use(session) as lease:
            # its client waits for as long as an answer takes, and has no call for what would come later
            open_image(state, lease, volume, key, budget_s=IDLE_S)
            opened(lease).set_buffer(np.dtype(np.int8))
        return {"message": "the image is set."}

    @routes.get("/v2/process_point_interaction/{session}")
    def add_point(
        session: str,
        point: Annotated[list[FiniteFloat], Query(min_length=3, max_length=3)],
        foreground: bool = True,
    ) -> dict[str, Any]:
        with use(session) as lease:
            one = opened(lease)
            return result(one, one.add_point(point[::-1], foreground, run=True))

    @routes.get("/process_point_interaction/{session}")
    def add_point_before_v2(
        session: str, x: FiniteFloat, y: FiniteFloat, z: FiniteFloat, foreground: bool = True
    ) -> dict[str, Any]:
        return add_point(session, [x, y, z], foreground)

    def drawn(session: str, upload: Upload, kind: Literal["scribble", "lasso"], foreground: bool) -> dict[str, Any]:
        drawing = read_voxels(upload, largest)
        with use(session) as lease:
            one = opened(lease)
            if drawing.shape != one.shape:
                raise UserError(f"the drawing has the shape {drawing.shape}, but the image {one.shape}.")
            box = tuple((0, length) for length in one.shape)
            add = one.add_scribble if kind == "scribble" else one.add_lasso
            return result(one, add(drawing, box, foreground, run=True))

    @routes.post("/process_scribble_interaction/{session}")
    @routes.post("/v2/process_scribble_interaction/{session}")
    def add_scribble(session: str, upload: Uploaded, foreground: bool = True) -> dict[str, Any]:
        return drawn(session, upload, "scribble", foreground)

    @routes.post("/process_lasso_interaction/{session}")
    @routes.post("/v2/process_lasso_interaction/{session}")
    def add_lasso(session: str, upload: Uploaded, foreground: bool = True) -> dict[str, Any]:
        return drawn(session, upload, "lasso", foreground)

    @routes.get("/reset_interactions/{session}")
    @routes.get("/v2/reset_interactions/{session}")
    def reset(session: str) -> dict[str, str]:
        with use(session) as lease:
            opened(lease).reset()
        return {"status": "success"}

    @routes.get("/end_session/{session}")
    @routes.get("/v2/end_session/{session}")
    def end_session(session: str) -> dict[str, str]:
        leases.release(session)
        return {"message": "Session ended"}

    return routes
