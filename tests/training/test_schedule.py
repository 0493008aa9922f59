import pytest
import torch

from nnunetv2_sam2_3dmed.training.schedule import CosineSchedule


def rates(warmup: float, epochs: list[float]) -> list[float]:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=5e-5)
    schedule = CosineSchedule(optimizer, num_epochs=500, warmup_epochs=warmup)
    values = []
    for epoch in epochs:
        schedule.step(epoch)
        values.append(optimizer.param_groups[0]["lr"])
    return values


def test_cosine_to_one_tenth():
    """Half way the cosine is at the mean of both ends: 0.55 of the peak."""
    assert rates(0, [0, 250, 500]) == pytest.approx([5e-5, 2.75e-5, 5e-6])


def test_warm_up_is_linear_from_one_tenth():
    assert rates(10, [0, 5, 10]) == pytest.approx([5e-6, 2.75e-5, 5e-5])


def test_each_group_keeps_its_own_peak():
    parameters = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (3e-5, 6e-5)]
    optimizer = torch.optim.AdamW(parameters)
    CosineSchedule(optimizer, 10).step(10)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([3e-6, 6e-6])
