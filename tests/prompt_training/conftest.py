"""Stacks with two objects, and networks that take prompts."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_sam2_3dmed.prompt_training.stacks import Stacks

SIZE = 64


@pytest.fixture
def stacks() -> Stacks:
    """Two stacks of four slices, 24 x 20 voxels; the last slice of the second is padding."""
    masks = torch.zeros(2, 2, 4, 24, 20, dtype=torch.bool)
    masks[0, 0, :3, 5:15, 4:12] = True
    masks[1, 1, 1:3, 8:12, 4:9] = True
    real = torch.ones(2, 4, dtype=torch.bool)
    real[1, 3] = False
    return Stacks(torch.rand(2, 4, 24, 20), masks, torch.ones(2, 4, 24, 20, dtype=torch.bool), real)
