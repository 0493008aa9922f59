"""Warm-up and cosine, against MONAI's own schedule."""

import pytest
import torch

from nnunetv2_sam2_3dmed.baselines.schedule import WarmupCosineSchedule

monai_optimizers = pytest.importorskip("monai.optimizers")


def test_as_monai_s():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    schedule = WarmupCosineSchedule(optimizer, 1000, 50)
    reference = monai_optimizers.WarmupCosineSchedule(
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4), warmup_steps=50, t_total=1000
    )
    for epoch in (0, 0.5, 25, 49.9, 50, 51, 525, 999, 1000):
        schedule.step(epoch)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(3e-4 * reference.lr_lambda(epoch), abs=1e-12)


def test_half_of_the_peak_in_the_middle_of_each_part():
    schedule = WarmupCosineSchedule(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), 100, 20)
    assert schedule.share(10) == schedule.share(60) == pytest.approx(0.5)
    assert schedule.share(20) == 1.0 and schedule.share(0) == 0.0
