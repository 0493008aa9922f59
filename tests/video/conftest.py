"""A real echocardiogram, sessions with random weights, and SAM 2's own predictor beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import examples

from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base
from nnunetv2_sam2_3dmed.video import VideoSession
from tests.interactive.reference import Reference, build, random_weights


@pytest.fixture(scope="session")
def echo_file() -> Path:
    """An echocardiogram of 30 frames of 240 x 320 pixels in colour, which comes with pydicom."""
    return Path(str(examples.get_path("ybr_color")))


@pytest.fixture(scope="session")
def weights():
    return random_weights()


@pytest.fixture(scope="session")
def model(weights) -> SAM2Base:
    """Sessions change nothing of it."""
    return build(weights)


@pytest.fixture
def session(model) -> VideoSession:
    """A float32 session on frames of 64 pixels, without a video."""
    return VideoSession(model, device="cpu", precision="float32")


@pytest.fixture(scope="session")
def reference(weights, tmp_path_factory) -> Reference:
    return Reference(weights, tmp_path_factory.mktemp("frames"))
