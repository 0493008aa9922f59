"""The server's application: guarded routes of all protocols on one model."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from nnunetv2_sam2_3dmed.errors import UserError, in_one_line, in_one_sentence
from nnunetv2_sam2_3dmed.server import itksnap, nninteractive, page_routes
from nnunetv2_sam2_3dmed.server.leases import AtCapacity, LeaseGone
from nnunetv2_sam2_3dmed.server.security import Guard
from nnunetv2_sam2_3dmed.server.settings import Settings, is_loopback
from nnunetv2_sam2_3dmed.server.state import ServerState, make_state
from nnunetv2_sam2_3dmed.server.wire import TooLarge

_log = logging.getLogger(__name__)
SWEEP_S = 15.0
# of a body beyond an image: forms, headers of arrays, and what cannot be compressed
_ALLOWANCE = 2**20
_PAGE_FILES = "/page/files"  # which the page sends, and which are written as they come


def create_app(settings: Settings) -> FastAPI:
    """Build the application and load its model. ``app.state.server`` is its :class:`~.state.ServerState`.

    Raises:
        UserError: there is no such model or device.
    """
    state = make_state(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stopped = threading.Event()
        sweeper = threading.Thread(target=_sweep, args=(state, stopped), name="leases", daemon=True)
        sweeper.start()
        try:
            yield
        finally:
            stopped.set()
            sweeper.join()
            state.worker.cancel()  # requests that wait for a propagation hold their leases
            state.leases.close()
            state.worker.close()

    # redirects from paths with a slash too many are not followed by clients; the interface is not described at /docs,
    # whose page would load scripts from other hosts
    app = FastAPI(title="sam2_3dmed", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.router.redirect_slashes = False
    app.state.server = state
    app.include_router(nninteractive.router(state))
    app.include_router(itksnap.router(state))
    app.include_router(page_routes.router(state))
    app.add_middleware(
        Guard,
        key=settings.key,
        local=is_loopback(settings.host),
        open_paths=("/healthz", *page_routes.OPEN_PATHS),
        large_paths=(*nninteractive.LARGE_PATHS, *itksnap.LARGE_PATHS, _PAGE_FILES),
        streamed_paths=(_PAGE_FILES,),
        largest_body=settings.largest_image_bytes + settings.largest_image_bytes // 16 + _ALLOWANCE,
        check_lease=state.leases.remaining,
        at_once=settings.sessions,
    )
    _answer_errors(app)
    return app


def make_server(app: FastAPI) -> uvicorn.Server:
    """Return the HTTP server of an application, whose ``run(sockets)`` answers until the process is interrupted.

    It trusts no header of a proxy, and waits half a minute for running predictions when it is told to end.
    """
    config = uvicorn.Config(
        app, log_level="warning", proxy_headers=False, server_header=False, timeout_graceful_shutdown=30, ws="none"
    )
    return uvicorn.Server(config)


def _sweep(state: ServerState, stopped: threading.Event) -> None:
    while not stopped.wait(min(SWEEP_S, state.leases.alive_s or SWEEP_S)):
        try:
            state.leases.sweep()
        except Exception as error:  # of what a lease held; it is gone, and the next ones are swept in the next round
            _log.error("the end of a session failed: %s", in_one_sentence(error))


def _answer_errors(app: FastAPI) -> None:
    """Answer exceptions with a sentence."""

    @app.exception_handler(UserError)
    def mistake(_: Request, error: UserError) -> JSONResponse:
        return _sentence(400, in_one_line(error))

    @app.exception_handler(TooLarge)
    def large(_: Request, error: TooLarge) -> JSONResponse:
        return _sentence(413, in_one_line(error))

    @app.exception_handler(LeaseGone)
    def gone(_: Request, error: LeaseGone) -> JSONResponse:
        return _sentence(410, str(error))

    @app.exception_handler(AtCapacity)
    def full(_: Request, error: AtCapacity) -> JSONResponse:
        return _sentence(503, str(error), {"Retry-After": "10"})

    @app.exception_handler(HTTPException)
    def other(request: Request, error: HTTPException) -> JSONResponse:
        detail = str(error.detail)
        if error.status_code in (404, 405) and detail in ("Not Found", "Method Not Allowed"):
            detail = f"this server answers no {request.method} of {request.url.path[:200]}."
        return _sentence(error.status_code, detail.rstrip(".") + ".", error.headers)

    @app.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
        return _sentence(400, f"{where} cannot be read: {first['msg']}.")

    @app.exception_handler(Exception)
    def unforeseen(_: Request, error: Exception) -> JSONResponse:
        return _sentence(500, in_one_sentence(error))


def _sentence(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status, headers)
