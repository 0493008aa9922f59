"""Guard of the server: who sends a request, from which web site, and how large it is, before it is read."""

from __future__ import annotations

import hmac
import json
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from nnunetv2_sam2_3dmed.server.settings import is_loopback

BEARER = "Bearer "
LARGEST_JSON = 2**24  # bytes; its parsed content takes many times as much


class Refusal(Exception):
    """A request that is refused.

    Args:
        status: of HTTP.
        detail: a sentence.
    """

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Guard:
    """ASGI middleware that refuses requests of strangers, of other web sites, and with bodies that are too large.

    A web site that the user visits can send requests to a server on the user's machine. It cannot choose the headers
    ``Host`` (other than the name under which it was reached, which a rebound DNS name keeps), ``Origin`` and
    ``Sec-Fetch-Site``, which browsers set.

    Args:
        app: what is guarded.
        key: that clients send as a bearer token; None for none.
        local: the server listens to this machine only, so that ``Host`` must be a name of it.
        largest_body: in bytes.
        open_paths: that need no key; one that ends in a slash stands for all below it.
    """

    def __init__(self, app: ASGIApp, key: str | None, local: bool, largest_body: int, open_paths: Collection[str]):
        self._app = app
        self._key = None if key is None else key.encode()
        self._local = local
        self._largest_body = largest_body
        self._open = frozenset(open_paths)
        self._open_below = tuple(path for path in open_paths if path.endswith("/") and path != "/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the app do so."""
        if scope["type"] == "http":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            try:
                self._check(scope["method"], scope["path"], headers)
            except Refusal as refusal:
                await _answer(send, refusal)
                return
        elif scope["type"] == "websocket":  # no page of ours opens one
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._app(scope, receive, send)

    def _check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        self._check_site(method, path, headers)
        if self._key is not None and path not in self._open and not path.startswith(self._open_below or ("\0",)):
            given = headers.get("authorization", "")
            if not given.startswith(BEARER):
                raise Refusal(401, "Missing bearer token: give the key with which this server was started.")
            if not hmac.compare_digest(given.removeprefix(BEARER).encode("latin-1"), self._key):
                raise Refusal(401, "Invalid bearer token: give the key with which this server was started.")
        _check_length(headers, self._largest_body)

    def _check_site(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if self._local and not is_loopback(name):
            raise Refusal(403, f"the host is {host[:100]!r}, but this server answers to 127.0.0.1 and localhost only.")
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise Refusal(403, f"the web site {origin[:100]!r} may not use this server.")
        # requests for pictures and links have no Origin; a link from another site may lead to the page
        follows_link = method == "GET" and path == "/" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not follows_link:
            raise Refusal(403, "another web site may not use this server.")


def _check_length(headers: Mapping[str, str], largest: int) -> None:
    """Check the length of the body; the HTTP server reads no more than what is stated.

    Raises:
        Refusal: it is too large, or not stated.
    """
    if "transfer-encoding" in headers:
        raise Refusal(411, "the length of the body is not stated: send it with Content-Length.")
    if "json" in headers.get("content-type", ""):
        largest = min(largest, LARGEST_JSON)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or len(length) > 20:
        raise Refusal(400, f"Content-Length is {length[:30]!r}, but must be a number.")
    if int(length) > largest:
        raise Refusal(
            413,
            f"the body has {int(length) / 2**20:.0f} MiB, but this server takes {largest / 2**20:.0f} MiB: start it "
            "with a larger --largest-image, or send a part of the image.",
        )


async def _answer(send: Send, refusal: Refusal) -> None:
    body = json.dumps({"detail": refusal.detail}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # a body that is not read would be taken for the next request
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
