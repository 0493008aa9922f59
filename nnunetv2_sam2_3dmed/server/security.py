"""Guard of the server: who sends a request, from which web site, and how large it is, before it is read."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nnunetv2_sam2_3dmed.server.leases import LeaseGone
from nnunetv2_sam2_3dmed.server.settings import is_loopback

BEARER = "Bearer "
LARGEST_JSON = 2**24  # bytes; its parsed content takes many times as much
LONGEST_SILENCE = 120.0  # seconds
# headers that name a lease; ITK-SNAP names it at the end of the path
_TOKENS = ("x-lease-token", "x-page-session")


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
        open_paths: that need no key; one that ends in a slash stands for all below it.
        large_paths: beginnings of those whose bodies may have more than :data:`LARGEST_JSON` bytes.
        streamed_paths: of these, those whose bodies are not held in memory.
        largest_body: in bytes, of ``large_paths``.
        check_lease: raises a ``LeaseGone`` for a token of no lease, which may send no large body.
        at_once: large bodies that are held in memory at a time; further ones wait before they are read.
        longest_silence: seconds without a byte of such a body after which its sender is taken to be gone.
    """

    def __init__(
        self,
        app: ASGIApp,
        key: str | None,
        local: bool,
        open_paths: Collection[str],
        large_paths: Collection[str],
        streamed_paths: Collection[str],
        largest_body: int,
        check_lease: Callable[[str], object],
        at_once: int,
        longest_silence: float = LONGEST_SILENCE,
    ):
        self._app = app
        self._key = None if key is None else key.encode()
        self._local = local
        self._open = frozenset(open_paths)
        self._open_below = tuple(path for path in open_paths if path.endswith("/") and path != "/")
        self._large = tuple(large_paths)
        self._streamed = tuple(streamed_paths)
        self._largest_body = largest_body
        self._check_lease = check_lease
        self._places = asyncio.Semaphore(at_once)
        self._longest_silence = longest_silence

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the app do so."""
        held: asyncio.Semaphore | nullcontext[None] = nullcontext()
        if scope["type"] == "http":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            try:
                self._check(scope["method"], scope["path"], headers)
                large = self._check_length(scope["path"], headers)
            except Refusal as refusal:
                await _answer(send, refusal)
                return
            if large and not scope["path"].startswith(self._streamed):
                held, receive = self._places, _not_for_ever(receive, self._longest_silence)
        elif scope["type"] == "websocket":  # no page of ours opens one
            await send({"type": "websocket.close", "code": 1008})
            return
        async with held:
            await self._app(scope, receive, send)

    def _check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        self._check_site(method, path, headers)
        if self._key is not None and path not in self._open and not path.startswith(self._open_below or ("\0",)):
            given = headers.get("authorization", "")
            if not given.startswith(BEARER):
                raise Refusal(401, "Missing bearer token: give the key with which this server was started.")
            if not hmac.compare_digest(given.removeprefix(BEARER).encode("latin-1"), self._key):
                raise Refusal(401, "Invalid bearer token: give the key with which this server was started.")

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

    def _check_length(self, path: str, headers: Mapping[str, str]) -> bool:
        """Check the length of the body, of which the HTTP server reads no more than what is stated.

        Returns:
            True if it is large, and its sender may send it.

        Raises:
            Refusal: it is too large, not stated, or large and of no lease.
        """
        if "transfer-encoding" in headers:
            raise Refusal(411, "the length of the body is not stated: send it with Content-Length.")
        stated = headers.get("content-length", "0")
        if not (stated.isascii() and stated.isdigit()) or len(stated) > 20:
            raise Refusal(400, f"Content-Length is {stated[:30]!r}, but must be a number.")
        length, images = int(stated), path.startswith(self._large)
        largest = self._largest_body if images else min(self._largest_body, LARGEST_JSON)
        if length > largest:
            advice = "start it with a larger --largest-image, or send a part of the image" if images else "send less"
            raise Refusal(
                413,
                f"the body has {length / 2**20:.0f} MiB, but it may have {largest / 2**20:.0f} MiB here: {advice}.",
            )
        if length <= LARGEST_JSON:
            return False
        token = next((headers[name] for name in _TOKENS if name in headers), path.rpartition("/")[2])
        try:
            self._check_lease(token)
        except LeaseGone as gone:
            raise Refusal(410, str(gone)) from gone
        return True


def _not_for_ever(receive: Receive, longest_silence: float) -> Receive:
    """Return ``receive`` that takes a client for gone that stops in the middle of its body without a word."""
    ended = False

    async def impatient() -> Message:
        nonlocal ended
        if ended:  # then silence is that of a client that waits for its answer
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), longest_silence)
        except asyncio.TimeoutError:
            message = {"type": "http.disconnect"}
        ended = not message.get("more_body", False)
        return message

    return impatient


async def _answer(send: Send, refusal: Refusal) -> None:
    body = json.dumps({"detail": refusal.detail}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # a body that is not read would be taken for the next request
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
