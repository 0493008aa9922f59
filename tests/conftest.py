"""Tiny networks and their patches, for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# On patches of these sizes, threads wait for each other longer than they compute (two took three times the processor
# time of one). Set before torch is imported; commands run by tests inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import SimpleITK
import torch

from nnunetv2_sam2_3dmed.network.promptable_sam2 import PromptableSAM2, build_promptable_sam2
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from tests.interactive.reference import make_lively

IMAGE_SIZE = 64  # the smallest at which the trunk's windows and the memory's downsampling all take part

WriteLabels = Callable[..., Path]


@pytest.fixture(autouse=True)
def alike() -> Iterator[None]:
    """Start each test with the same seed, and with one thread, whatever a command before has set in this process.

    What else torch keeps for the whole process has to be left as it was.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    before = _settings()
    yield
    assert _settings() == before


def _settings() -> dict[str, object]:
    return {
        "fused attention": torch.backends.cuda.flash_sdp_enabled(),
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


@pytest.fixture
def make_network():
    """A float32 network on 64-pixel images; keyword arguments as for SAM2_3dMed."""

    def make(num_classes: int = 3, input_channels: int = 1, **options) -> SAM2_3dMed:
        options = {"image_size": IMAGE_SIZE, "num_slices": 4, "precision": "float32", **options}
        return SAM2_3dMed(input_channels, num_classes, **options)

    return make


@pytest.fixture
def patches() -> torch.Tensor:
    """(2, 1, 6, 24, 20), normalised."""
    return torch.randn(2, 1, 6, 24, 20)


@pytest.fixture(scope="session")
def lively_network() -> PromptableSAM2:
    """Random weights that see objects of some size; in eval mode. Not to be changed."""
    torch.manual_seed(3)
    network = build_promptable_sam2("sam2.1_hiera_tiny", IMAGE_SIZE, dropout=0.0, precision="float32")
    make_lively(network)
    return network.eval()


def write_label_map(
    file: Path,
    labels: np.ndarray,
    spacing: Sequence[float] | None = None,
    origin: Sequence[float] | None = None,
    direction: Sequence[float] | None = None,
) -> Path:
    """Write a label map as an image file; ``spacing`` is in array order, all else in SimpleITK's."""
    image = SimpleITK.GetImageFromArray(labels.astype(np.uint8))
    image.SetSpacing([float(s) for s in (spacing or [1] * labels.ndim)[::-1]])
    if origin is not None:
        image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    file.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(file))
    return file


@pytest.fixture(scope="session")
def promptable_file(tmp_path_factory) -> Path:
    """A checkpoint of ``SAM2_PromptTrainer_noPretrain_tuned`` with random weights. To be linked, not to be changed."""
    from tests.interactive.test_trained_model import promptable_checkpoint

    file = tmp_path_factory.mktemp("promptable") / "checkpoint_final.pth"
    promptable_checkpoint(file)
    return file


@pytest.fixture
def write_labels() -> WriteLabels:
    return write_label_map
