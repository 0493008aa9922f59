"""An image, a round, and a page without its browser; and for a browser, a server with the stand-in for the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.annotation.queue import RoundQueue
from nnunetv2_sam2_3dmed.annotation.rounds import Round
from nnunetv2_sam2_3dmed.interactive import session as session_module
from tests.interactive.reference import phantom
from tests.server.page.round_of_phantoms import NAMES, write_round
from tests.server.page_client import OBLIQUE, SHAPE, Client, write
from tests.server.region_engine import RegionEngine


@pytest.fixture
def image(tmp_path) -> Path:
    """The file of an oblique image."""
    return write(tmp_path / "patient 1.nrrd", phantom(SHAPE), OBLIQUE)


@pytest.fixture
def client(serve) -> Client:
    """A page without its browser, with a server of its own."""
    server = serve()
    client = Client(server.url)
    client.server = server
    return client


@pytest.fixture
def server(serve, network, monkeypatch):
    """A server on which ``RegionEngine`` stands in for the network."""
    monkeypatch.setattr(session_module, "Engine", RegionEngine)
    return serve(model=network)


@pytest.fixture
def made(tmp_path) -> Round:
    """A round; see :func:`write_round`."""
    return write_round(tmp_path)


@pytest.fixture
def queue(made) -> RoundQueue:
    """The round as a server has it."""
    return RoundQueue(made.folder, NAMES)
