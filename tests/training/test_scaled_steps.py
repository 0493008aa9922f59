"""The optimizer's step in float16: losses are scaled up, gradients back down, and what overflows is left out."""

import pytest
import torch
from torch import nn

from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer


class Stepping(SAM2_3dMedTrainer):
    """Only what a step needs, without nnU-Net's folders."""

    def __init__(self, scaler: torch.amp.GradScaler | None):
        torch.manual_seed(0)
        self.network = nn.Linear(3, 1)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.1, fused=True)
        self.grad_scaler = scaler

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.network.parameters()])


def test_a_scaled_step_is_the_plain_one():
    x = torch.tensor([[1.0, -2.0, 0.5]])
    plain, scaled = Stepping(None), Stepping(torch.amp.GradScaler("cpu", init_scale=2.0**12))
    for trainer in (plain, scaled):
        trainer._backward(trainer.network(x).square().sum() * 100)  # beyond the largest norm: clipped
        trainer._descend()
    torch.testing.assert_close(plain.weights(), scaled.weights())
    norms = [nn.utils.get_total_norm([p.grad for p in t.network.parameters()]).item() for t in (plain, scaled)]
    assert norms == pytest.approx([12.0, 12.0], rel=1e-4)


def test_a_step_that_overflows_changes_nothing_but_the_scale():
    trainer = Stepping(torch.amp.GradScaler("cpu", init_scale=2.0**12))
    before = trainer.weights()
    trainer._backward(trainer.network(torch.full((1, 3), float("inf"))).sum())
    trainer._descend()
    assert torch.equal(trainer.weights(), before)
    assert trainer.grad_scaler.get_scale() == 2.0**11
