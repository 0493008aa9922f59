"""A session with random weights, real images, and SAM 2's own predictor beside them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base
from tests.interactive.reference import Reference, build, random_weights

DATA = Path(os.environ.get("SAM2_3dMed_data", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="session")
def ct_file() -> Path:
    """A real abdominal CT of 512 x 512 x 20 voxels."""
    file = DATA / "ct" / "native20_ct.nii.gz"
    if not file.is_file():
        pytest.skip(f"there is no {file}: SAM2_3dMed_data names the folder that has it")
    return file


@pytest.fixture(scope="session")
def hippocampus_file() -> Path:
    """A real MR of about 35 x 50 x 36 voxels."""
    found = sorted((DATA / "Task04_Hippocampus" / "imagesTr").glob("hippocampus_*.nii.gz"))
    if not found:
        pytest.skip(f"there is no Task04_Hippocampus in {DATA}: SAM2_3dMed_data names the folder that has it")
    return found[0]


@pytest.fixture(scope="session")
def weights() -> dict[str, torch.Tensor]:
    return random_weights()


@pytest.fixture(scope="session")
def model(weights) -> SAM2Base:
    """Sessions change nothing of it."""
    return build(weights)


@pytest.fixture
def session(model) -> InteractiveSession:
    """A float32 session on slices of 64 pixels, without an image."""
    return InteractiveSession(model, device="cpu", precision="float32")


@pytest.fixture(scope="session")
def reference(weights, tmp_path_factory) -> Reference:
    return Reference(weights, tmp_path_factory.mktemp("video"))
