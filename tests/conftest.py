"""What several tests share: tiny networks and their patches."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed

IMAGE_SIZE = 64  # the smallest at which the trunk's windows and the memory's downsampling all take part


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


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
