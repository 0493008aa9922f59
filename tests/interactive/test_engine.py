"""Outputs of the engine, by hand; its logits are compared with SAM 2's in ``test_parity.py``."""

import torch

from nnunetv2_sam2_3dmed.interactive.engine import _output
from nnunetv2_sam2_3dmed.network.prompt_step import Heads


def test_the_quality_is_that_of_the_best_candidate():
    expected_iou = torch.tensor([[0.2, 0.7, 0.5], [0.9, 0.1, 0.3]])
    objects = len(expected_iou)
    heads = Heads(
        candidates=torch.zeros(objects, 3, 8, 8),
        expected_iou=expected_iou,
        logits=torch.zeros(objects, 1, 2, 2),
        pointer=torch.zeros(objects, 4),
        presence=torch.zeros(objects, 1),
    )
    assert torch.equal(_output(heads).quality, torch.tensor([0.7, 0.9]))
