"""Servers with random weights on real sockets, and the official client."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import numpy as np
import pytest

from nnunetv2_sam2_3dmed.commands.serve import listen
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base
from nnunetv2_sam2_3dmed.server.app import create_app, make_server
from nnunetv2_sam2_3dmed.server.settings import Settings
from nnunetv2_sam2_3dmed.server.state import ServerState
from tests.interactive.reference import build, phantom, random_weights
from tests.server.browser import Viewer, chromium
from tests.server.page_phantom import SIDE, write_image

# httpx would send requests to this machine through a proxy of the environment
os.environ["NO_PROXY"] = "127.0.0.1,localhost"
os.environ.pop("NN_INTERACTIVE_API_KEY", None)


class Served:
    """A running server.

    Attributes:
        url: of it.
        state: its parts.
    """

    def __init__(self, url: str, state: ServerState):
        self.url = url
        self.state = state


@contextmanager
def running(settings: Settings) -> Iterator[Served]:
    """Run a server in a thread, at a free port."""
    app = create_app(settings)
    (found,) = listen("127.0.0.1", 0)
    server = make_server(app)
    thread = threading.Thread(target=server.run, args=([found],), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    try:
        yield Served(f"http://127.0.0.1:{found.getsockname()[1]}", app.state.server)
    finally:
        server.should_exit = True
        thread.join(120)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def model() -> SAM2Base:
    """Random weights on slices of 64 pixels. Not to be changed."""
    return build(random_weights())


@pytest.fixture
def serve(model) -> Iterator[Callable[..., Served]]:
    """Function that starts a server, with settings other than the default ones; it ends after the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(
            running(Settings(**{"model": model, "device": "cpu", "precision": "float32", **options}))
        )


@pytest.fixture
def beside(model) -> InteractiveSession:
    """A session in this process, to be given the same prompts."""
    return session_like(model)


def session_like(model: SAM2Base) -> InteractiveSession:
    """A session that rounds as those of a server on a CPU, which encode slices one by one."""
    session = InteractiveSession(model, device="cpu", precision="float32")
    session._network.slices_at_once = 1
    return session


SPACING = (3.0, 1.0, 1.0)  # of ``image``, z, y, x


def connect(server: Served, **options):
    """The official client, with a buffer for its masks once there is an image."""
    from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession

    return nnInteractiveRemoteInferenceSession(server.url, **options)


def begin(client, image: np.ndarray, spacing=SPACING, direction=None, dtype=np.uint8) -> np.ndarray:
    """Send an image, and return the target buffer."""
    properties = {"spacing": list(spacing)} | ({} if direction is None else {"direction": list(direction)})
    client.set_image(image[None], properties)
    buffer = np.zeros(image.shape, dtype)
    client.set_target_buffer(buffer)
    return buffer


def raw(server, client) -> httpx.Client:
    """The same lease, with HTTP's own words."""
    headers = {"X-Lease-Token": client._lease_token}
    return httpx.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False)


def meta(answer: httpx.Response) -> dict:
    """The ``X-Meta`` of an answer that went well."""
    assert answer.status_code == 200
    return json.loads(answer.headers["X-Meta"])


@pytest.fixture(scope="session")
def image() -> np.ndarray:
    """Voxels (z, y, x) as of a CT. Not to be changed."""
    return (phantom() - 200).astype(np.int16)


@pytest.fixture
def server(serve) -> Served:
    """A server with default settings."""
    return serve()


@pytest.fixture
def client(server):
    """The official client of ``server``."""
    with connect(server) as client:
        yield client


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; the test is skipped where there is none."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def network() -> SAM2Base:
    """Random weights for slices of the size at which ``RegionEngine`` is exact on ``page_phantom``."""
    return build(random_weights(), size=4 * SIDE)


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    """The image of ``page_phantom``."""
    return write_image(tmp_path_factory.mktemp("images") / "balls.nii.gz")


@pytest.fixture
def viewer(browser, server):
    """The page of ``server``, in which no error may have been noted at the end."""
    viewer = Viewer(browser, server.url)
    try:
        yield viewer
        assert viewer.errors == []
    finally:
        viewer.context.close()
