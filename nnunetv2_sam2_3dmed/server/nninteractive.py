"""Routes of nnInteractive's protocol, which napari, MITK, 3D Slicer and any client in Python speak.

Our own are three: ``image_properties`` may have ``direction`` (nine numbers, as ITK has them), since SAM 2 is shown
slices the same way up; without it the axes of the array are taken for the patient's z, y, x. A slip of the user is
answered with status 200, no change, and a sentence as ``message`` in ``X-Meta``; so is a propagation that failed, with
the slices that it reached. ``"unfinished": true`` there says that further slices come with later answers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, FiniteFloat, StrictInt, ValidationError

from nnunetv2_sam2_3dmed import __version__
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volume import by, volume_from_array
from nnunetv2_sam2_3dmed.server import wire
from nnunetv2_sam2_3dmed.server.interactions import Box, check_inside
from nnunetv2_sam2_3dmed.server.opened import open_image, opened
from nnunetv2_sam2_3dmed.server.prompted_object import CallAnswer
from nnunetv2_sam2_3dmed.server.sessions import content_key
from nnunetv2_sam2_3dmed.server.state import ServerState

# side in voxels of the brush that is advertised; strokes are thinned to lines
BRUSH = 2
# whose bodies are arrays
LARGE_PATHS = ("/set_image", "/add_scribble_interaction", "/add_lasso_interaction", "/add_initial_seg_interaction")


class _Interaction(BaseModel):
    include_interaction: bool
    run_prediction: bool = True


class PointInteraction(_Interaction):
    """Body of ``/add_point_interaction``."""

    coordinates: tuple[FiniteFloat, FiniteFloat, FiniteFloat]


Interval = tuple[FiniteFloat, FiniteFloat]


class BoxInteraction(_Interaction):
    """Body of ``/add_bbox_interaction``: half-open intervals."""

    bbox_coords: tuple[Interval, Interval, Interval]


Voxels = tuple[int, int]


class DrawingInteraction(_Interaction):
    """``X-Meta`` of a scribble or a lasso; without a box, the drawing has the image's shape."""

    interaction_bbox: tuple[Voxels, Voxels, Voxels] | None = None


class StartInteraction(BaseModel):
    """``X-Meta`` of ``/add_initial_seg_interaction``."""

    run_prediction: bool = False


class ImageProperties(BaseModel):
    """Geometry of an image: millimetres along the axes of the array, and optionally its direction."""

    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    direction: list[float] | None = None


class ImageMeta(BaseModel):
    """``X-Meta`` of ``/set_image``."""

    image_properties: ImageProperties = ImageProperties()


class TargetBuffer(BaseModel):
    """Body of ``/set_target_buffer``."""

    model_config = ConfigDict(extra="ignore")
    shape: tuple[StrictInt, StrictInt, StrictInt]
    dtype: Literal["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]


class Refinement(BaseModel):
    """Body of ``/predict``; nothing is left to be refined after a prediction."""

    force_full_refine: bool = False


class Autozoom(BaseModel):
    """Body of ``/set_do_autozoom``; slices are always shown whole."""

    do_autozoom: bool


async def read_body(request: Request) -> bytes:
    """Read a body, whose length was checked before."""
    return await request.body()


Body = Annotated[bytes, Depends(read_body)]
Token = Annotated[str | None, Header(alias="X-Lease-Token")]


def meta(model: type[BaseModel]) -> Callable[..., Any]:
    """Return a dependency that reads ``X-Meta`` as a model."""

    def read(x_meta: Annotated[str, Header()] = "{}") -> BaseModel:
        try:
            return model.model_validate_json(x_meta)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error

    return read


def read_drawing(body: bytes, given: DrawingInteraction, shape: tuple[int, ...]) -> tuple[np.ndarray, Box]:
    """Read a scribble or a lasso, and its place in an image of ``shape``.

    Raises:
        UserError: it is no array of three dimensions, or does not fit its place.
    """
    drawn = wire.unpack(body, 8 * math.prod(shape))
    whole = tuple((0, length) for length in shape)
    if drawn.ndim != 3:
        raise UserError(f"the drawing has the shape {by(drawn.shape)}, but must have three dimensions.")
    if given.interaction_bbox is None and drawn.shape != shape:
        raise UserError(
            f"the drawing has {by(drawn.shape)} voxels, but the image {by(shape)}: send its interaction_bbox."
        )
    return drawn, check_inside(given.interaction_bbox or whole, shape, drawn.shape)


def answered(answer: CallAnswer) -> Response:
    """Encode an answer: the new content of a part of the target buffer."""
    said: dict[str, Any] = {"ran_prediction": answer.ran, "bbox": answer.box}
    if answer.message is not None:
        said["message"] = answer.message
    if answer.unfinished:
        said["unfinished"] = True
    body = b""
    if answer.values is not None:
        said |= {"dtype": answer.values.dtype.name, "shape": answer.values.shape}
        body = wire.pack(answer.values)
    headers = {"X-Meta": json.dumps(said, separators=(",", ":"))}
    return Response(body, media_type="application/octet-stream", headers=headers)


# resolved by name, and so outside of the function with the routes
Drawn = Annotated[DrawingInteraction, Depends(meta(DrawingInteraction))]
Started = Annotated[StartInteraction, Depends(meta(StartInteraction))]
Described = Annotated[ImageMeta, Depends(meta(ImageMeta))]


def capabilities(state: ServerState) -> dict[str, Any]:
    """Describe what this server can do."""
    return {
        "supported_interactions": {"points": True, "bbox2d": True, "bbox3d": False, "scribble": True, "lasso": True},
        "channel_mapping": {},
        "num_interaction_channels": 0,
        "supports_initial_label": True,
        "supports_zero_shot_label_refinement": False,
        "preferred_scribble_thickness": [BRUSH] * 3,
        "interaction_decay": None,
        "inference_session_version": __version__,
        "license": f"that of the weights {state.model}",
        "supports_undo": True,
        "do_autozoom": False,
        "server": {"name": "sam2_3dmed", "version": __version__, "model": state.model},
    }


def router(state: ServerState) -> APIRouter:
    """Make the routes of nnInteractive's protocol."""
    routes, settings, leases = APIRouter(), state.settings, state.leases

    # ---- leases; these wait for nothing, and so need no thread

    @routes.get("/healthz")
    async def healthz() -> dict[str, Any]:
        return {"ok": True, "name": "sam2_3dmed", "version": __version__, "model": state.model}

    @routes.get("/capabilities")
    async def describe() -> dict[str, Any]:
        return capabilities(state)

    @routes.post("/heartbeat")
    async def heartbeat(token: Token = None) -> dict[str, float]:
        return {"remaining_seconds": leases.heartbeat(token)}

    @routes.get("/lease_status")
    async def status(token: Token = None) -> dict[str, float]:
        return {"remaining_seconds": leases.remaining(token), "idle_timeout_seconds": leases.idle_s}

    @routes.post("/claim")
    def claim() -> dict[str, Any]:
        return {
            "lease_token": leases.claim().token,
            "idle_timeout_seconds": leases.idle_s,
            "liveness_timeout_seconds": leases.alive_s,
            "max_sessions": leases.most,
        }

    @routes.post("/release")
    def release(token: Token = None) -> dict[str, bool]:
        leases.release(token)
        return {"released": True}

    # ---- image and buffer

    @routes.post("/set_image")
    def set_image(body: Body, given: Described, token: Token = None) -> dict[str, list[int]]:
        leases.remaining(token)
        array = wire.unpack(body, settings.largest_image_bytes)
        if array.ndim != 4 or array.shape[0] != 1:
            raise UserError(
                f"the image has the shape {by(array.shape)}, but must have four dimensions, of which the first is its "
                "one channel."
            )
        voxels = array[0].astype(np.float32) if array.dtype == np.float16 else array[0]
        geometry = given.image_properties
        volume = volume_from_array(voxels, geometry.spacing, direction=geometry.direction)
        key = content_key(volume)
        with leases.use(token) as lease:
            open_image(state, lease, volume, key, settings.budget_s)
        return {"original_image_shape": list(array.shape)}

    @routes.post("/set_target_buffer")
    def set_target_buffer(given: TargetBuffer, token: Token = None) -> dict[str, Any]:
        with leases.use(token) as lease:
            one = opened(lease)
            if given.shape != one.shape:
                raise UserError(f"the target buffer is {by(given.shape)}, but the image {by(one.shape)} voxels.")
            dtype = np.dtype(given.dtype)
            if np.prod(one.shape, dtype=object) * dtype.itemsize > settings.largest_image_bytes:
                raise wire.TooLarge(f"a target buffer of type {dtype} is larger than this server takes: use uint8.")
            one.set_buffer(dtype)
        return {}

    @routes.post("/set_do_autozoom")
    def set_do_autozoom(_: Autozoom, token: Token = None) -> dict[str, Any]:
        with leases.use(token):
            return {}

    # ---- prompts

    @routes.post("/add_point_interaction")
    def add_point(given: PointInteraction, token: Token = None) -> Response:
        with leases.use(token) as lease:
            one = opened(lease)
            return answered(one.add_point(given.coordinates, given.include_interaction, given.run_prediction))

    @routes.post("/add_bbox_interaction")
    def add_box(given: BoxInteraction, token: Token = None) -> Response:
        with leases.use(token) as lease:
            one = opened(lease)
            return answered(one.add_box(given.bbox_coords, given.include_interaction, given.run_prediction))

    @routes.post("/add_scribble_interaction")
    def add_scribble(body: Body, given: Drawn, token: Token = None) -> Response:
        with leases.use(token) as lease:
            one = opened(lease)
            drawn, box = read_drawing(body, given, one.shape)
            return answered(one.add_scribble(drawn, box, given.include_interaction, given.run_prediction))

    @routes.post("/add_lasso_interaction")
    def add_lasso(body: Body, given: Drawn, token: Token = None) -> Response:
        with leases.use(token) as lease:
            one = opened(lease)
            drawn, box = read_drawing(body, given, one.shape)
            return answered(one.add_lasso(drawn, box, given.include_interaction, given.run_prediction))

    @routes.post("/add_initial_seg_interaction")
    def add_start(body: Body, given: Started, token: Token = None) -> Response:
        with leases.use(token) as lease:
            one = opened(lease)
            mask = wire.unpack(body, 8 * one.session.image.array.size)
            return answered(one.start(mask, given.run_prediction))

    @routes.post("/predict")
    def predict(_: Refinement, token: Token = None) -> Response:
        with leases.use(token) as lease:
            return answered(opened(lease).predict())

    @routes.post("/undo")
    def undo(token: Token = None) -> Response:
        with leases.use(token) as lease:
            return answered(opened(lease).undo())

    @routes.post("/reset_interactions")
    def reset(token: Token = None) -> dict[str, Any]:
        with leases.use(token) as lease:
            opened(lease).reset()
        return {}

    return routes
