"""Padding and cropping: every voxel, and every coarse voxel's centre, stays where it was."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnunetv2_sam2_3dmed.baselines.padding import PaddedNetwork, deep_supervision_size, padded_size


class Recorder(nn.Module):
    """The identity; keeps what it was given."""

    def forward(self, x):
        self.seen = x
        return x


class Pyramid(nn.Module):
    """The input at full resolution and the means of blocks of 2, 4 and 8 voxels."""

    def forward(self, x):
        return [x, *(F.avg_pool3d(x, 2**level) for level in (1, 2, 3))]


def test_sizes():
    assert padded_size([40, 56, 40], 32) == [64, 64, 64]
    assert padded_size([40, 56, 40], 16) == [48, 64, 48]
    assert padded_size([64, 32, 96], 32) == [64, 32, 96]
    assert padded_size([5, 1, 33], 32) == [32, 32, 64]
    assert padded_size([20, 32, 1], 32) == [64, 64, 64], "one voxel is no grid to normalise over"
    assert deep_supervision_size([40, 56, 6], 3) == [5, 7, 1]


def test_a_divisible_input_is_passed_on():
    network = PaddedNetwork(Recorder(), 8)
    x = torch.randn(2, 3, 8, 16, 24)
    assert network(x) is x and network.network.seen is x


def test_voxels_stay_where_they_were():
    network = PaddedNetwork(Recorder(), 8)
    x = torch.randn(2, 3, 5, 8, 14)
    assert torch.equal(network(x), x)
    seen = network.network.seen
    assert seen.shape == (2, 3, 8, 8, 16)
    # 3 voxels are missing on the first axis, none on the second, 2 on the third
    assert torch.equal(seen[:, :, 1:6, :, 1:15], x)
    assert seen.abs().sum() == pytest.approx(float(x.abs().sum())), "around it is nothing but zeros"


def test_the_gradient_is_that_of_the_unpadded_identity():
    x = torch.randn(1, 1, 5, 6, 7, requires_grad=True)
    PaddedNetwork(Recorder(), 4)(x).square().sum().backward()
    assert torch.allclose(x.grad, 2 * x)


@pytest.mark.parametrize("size", [(16, 24, 32), (10, 24, 14), (12, 20, 28), (9, 8, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # positions must not lose what logits may
def test_coarse_outputs_lie_where_nnunet_s_targets_do(size, dtype):
    """The means of blocks of a linear ramp are the ramp at the blocks' centres, wherever the blocks begin."""
    axes = [torch.arange(n, dtype=torch.float32) for n in size]
    ramp = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]  # each voxel holds its own coordinates
    # the padding would be a kink in the ramp, so that the network sees the coordinates instead
    padded = padded_size(size, 8)
    before = [(new - old) // 2 for new, old in zip(padded, size)]

    class RampPyramid(Pyramid):
        def forward(self, x):
            axes = [torch.arange(n, dtype=torch.float32) - first for n, first in zip(padded, before)]
            full, *coarse = super().forward(torch.stack(torch.meshgrid(*axes, indexing="ij"))[None])
            return [full, *(level.to(dtype) for level in coarse)]  # multiples of 0.5, which bfloat16 holds

    outputs = PaddedNetwork(RampPyramid(), 8)(ramp)
    assert torch.equal(outputs[0], ramp)
    for level, output in enumerate(outputs[1:], start=1):
        target = deep_supervision_size(size, level)
        assert list(output.shape[2:]) == target
        for axis, (n, whole) in enumerate(zip(target, size)):
            centres = (torch.arange(n) + 0.5) * whole / n - 0.5  # of n equal parts of the patch, in voxels
            # beyond the outermost coarse centre there is nothing to interpolate with
            low, high = 2**level / 2 - 0.5 - before[axis], padded[axis] - before[axis] - 2**level / 2 - 0.5
            expected = centres.clamp(low, high)
            found = output[0, axis].float().movedim(axis, 0).flatten(1)
            assert torch.allclose(found, expected[:, None].expand_as(found), atol=1e-4)


def test_without_padding_coarse_outputs_are_the_network_s():
    x = torch.randn(1, 2, 16, 24, 32)
    for output, plain in zip(PaddedNetwork(Pyramid(), 8)(x), Pyramid()(x), strict=True):
        assert torch.equal(output, plain)
