"""The walk through a graph gives the gradients that autograd's engine gives."""

import torch
from torch.utils.checkpoint import checkpoint

from tests.fake_cuda.backward import walk_back


def loss_of(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Broadcasts, casts, uses a tensor twice, splits, and computes a part again."""
    x = torch.linspace(-1, 1, 12).view(4, 3) @ weight + bias
    first, second = x.chunk(2, dim=1)
    again = checkpoint(lambda y: (y * bias[:1]).sin().bfloat16(), first, use_reentrant=False)
    return (again.float() * second).sum() + x.square().mean()


def test_gradients_are_those_of_the_engine():
    gradients = []
    for backward in (torch.Tensor.backward, walk_back):
        torch.manual_seed(0)
        weight, bias = torch.randn(3, 4, requires_grad=True), torch.randn(4, requires_grad=True)
        backward(loss_of(weight, bias))
        gradients.append((weight.grad, bias.grad))
    for engine, walked in zip(*gradients):
        torch.testing.assert_close(walked, engine)
