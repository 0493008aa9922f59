"""Memory of a training step: the counter by hand, the formula and the documented table against counts."""

import gc
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.training.losses import SAM2_3dMedLoss
from nnunetv2_sam2_3dmed.training.memory import GIB, PeakBytes, TrainingStep, fake_tensors, make_fake, step_bytes
from nnunetv2_sam2_3dmed.training.targets import TargetMaker

TABLE = Path(__file__).parents[2] / "benchmarks" / "results" / "training_memory.json"


def test_bytes_are_those_of_storages_that_live_at_once():
    with fake_tensors(), PeakBytes() as memory:
        first = torch.empty(1000)  # 4000 bytes: eight blocks of 512
        assert memory.now == 4096
        view = first[:10].view(2, 5)
        assert memory.now == 4096
        second = first + 1
        assert memory.now == memory.peak == 8192
        del first, view
        gc.collect()
        assert (memory.now, memory.peak) == (4096, 8192)
        second.add_(1)
        assert (memory.now, memory.peak) == (4096, 8192)


def test_a_step_by_hand():
    """A layer of 1024 x 1024: the weight, two moments and the gradient are 4 MiB each, all else is 1/1024 of it."""
    layer = nn.Linear(1024, 1024, bias=False)
    counted = step_bytes(layer, lambda output: output.sum(), lambda: torch.empty(1, 1024))
    assert counted == pytest.approx(4 * 2**22, rel=0.01)
    frozen = nn.Linear(1024, 1024, bias=False).requires_grad_(False)
    both = nn.Sequential(frozen, nn.Linear(1024, 1024, bias=False))
    assert step_bytes(both, lambda output: output.sum(), lambda: torch.empty(1, 1024)) == pytest.approx(
        5 * 2**22, rel=0.01
    )


def test_a_fake_network_has_the_devices_and_the_frozen_parameters_it_should():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    network[0].weight.requires_grad_(False)
    with fake_tensors():
        make_fake(network, torch.device("cuda", 1))
        tensors = [*network.parameters(), *network.buffers()]
        assert {t.device for t in tensors} == {torch.device("cuda", 1)}
    assert [n for n, p in network.named_parameters() if not p.requires_grad] == ["0.weight"]


def counted(step: TrainingStep) -> int:
    depth, height, width = step.patch_size
    network = SAM2_3dMed(
        step.channels,
        step.num_masks + 1,
        image_size=step.image_size,
        num_slices=depth,
        backbone=step.backbone,
        activation_checkpointing=step.checkpointing,
        freeze_trunk=not step.trunk_trains,
        precision="bfloat16",
    )
    maker = TargetMaker(range(1, step.num_masks + 1), None)
    loss = SAM2_3dMedLoss(maker)

    def losses(output):
        maker._labels = torch.empty(maker._labels.shape, dtype=torch.int64)
        return loss.terms(output, torch.empty(step.batch_size, 1, depth, height, width, dtype=torch.int16)).total

    shape = (step.batch_size, step.channels, depth, height, width)
    return step_bytes(network.train(), losses, lambda: torch.empty(shape))


@pytest.mark.parametrize(
    "step",
    [
        TrainingStep(2, (5, 256, 256), 256, 3),
        TrainingStep(1, (7, 128, 96), 384, 1, checkpointing=True),
        TrainingStep(1, (4, 256, 256), 256, 1, trunk_trains=True),
        TrainingStep(1, (4, 256, 256), 256, 1, channels=4),
    ],
    ids=str,
)
def test_the_formula_expects_what_is_counted(step):
    """At sizes to which it was not fitted."""
    assert step.expected_bytes() == pytest.approx(counted(step), rel=0.1)


@pytest.mark.parametrize("checkpointing", ["off", "on"])
def test_the_documented_table_is_what_is_counted(checkpointing):
    """The first row: 4 stacks of 12 slices of 512 pixels."""
    documented = json.loads(TABLE.read_text())["rows"]["SAM2_3dMedTrainer"]["checkpointing"][checkpointing]
    step = TrainingStep(4, (12, 512, 512), 512, 1, checkpointing=checkpointing == "on")
    assert counted(step) / GIB == pytest.approx(documented, rel=0.1)
    assert step.expected_bytes() / GIB == pytest.approx(documented, rel=0.1)
