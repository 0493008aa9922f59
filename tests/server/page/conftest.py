"""An image, a round, and a page without its browser; and for a browser, a server with the stand-in for the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.annotation.queue import RoundQueue
from nnunetv2_sam2_3dmed.annotation.rounds import Round
from nnunetv2_sam2_3dmed.interactive import session as session_module
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from tests.interactive.reference import phantom
from tests.server.page.round_of_phantoms import NAMES, write_labels, write_round
from tests.server.page_client import OBLIQUE, SHAPE, Client, write
from tests.server.page_phantom import FIRST
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


@pytest.fixture
def grouped(made) -> Round:
    """Three volumes of a patient, of which the one with the largest disagreement is chosen, and one of none."""
    for name, disagreement, patient in (("c", 0.2, "p"), ("d", 0.3, "p"), ("e", 0.1, "p"), ("f", 0.05, "")):
        ranked = made.cases["c"]
        write_labels(made.mask(name), FIRST * 1)
        (scored,) = ranked.objects
        made.cases[name] = replace(
            ranked,
            mask_sha256=sha256_of(made.mask(name)),
            objects=[replace(scored, between_prompts=disagreement)],
            patient=patient,
        )
    made.outlines.clear()
    made.save()
    return made
