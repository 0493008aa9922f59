"""A whole step of every trainer, and one of its validation, on a GPU that is not there: devices, precisions, waits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nnunetv2_sam2_3dmed.training import losses
from nnunetv2_sam2_3dmed.training.memory import PeakBytes, TrainingStep
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from tests.fake_cuda.checks import check, check_results
from tests.fake_cuda.gpu import FakeGPU, Watch
from tests.fake_cuda.trainers import EXPORTED, IN_PLANE, STEPS, batch_for, build
from tests.plans.test_planner import DATASET, REGIONS

WITHOUT_PROMPTS = [name for name in STEPS if not name.startswith("SAM2_PromptTrainer")]
LOADED = ["trainer._optimize"] * 2  # images and targets, from the loader's pinned memory
LABELS = "targets.__call__"  # the first step alone
READ = ["trainer.numbers_of"]
IGNORED = {**DATASET, "labels": {**DATASET["labels"], "ignore": 3}}
IGNORED_REGIONS = {**REGIONS, "labels": {**REGIONS["labels"], "ignore": 3}}


def train(trainer: SAM2_3dMedTrainer, gpu: FakeGPU, *trackers: Any) -> Watch:
    """A training step; checks what the network and the losses give."""
    results: list[Any] = []
    trainer.network.register_forward_hook(lambda _, __, output: results.append(output))
    terms = trainer.loss.terms
    trainer.loss.terms = lambda *arguments: results.append(terms(*arguments)) or results[-1]
    batch = batch_for(trainer, gpu)
    with gpu.running(*trackers) as watch:
        trainer.train_step(batch)
    assert len(results) == 2
    check_results(results, gpu.device)
    for name, parameter in trainer.network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.device == gpu.device, name
            assert trainer.optimizer.state[parameter]["exp_avg"].device == gpu.device, name
    return watch


def validate(trainer: SAM2_3dMedTrainer, gpu: FakeGPU) -> Watch:
    """A validation step, within nnU-Net's autocast."""
    results: list[Any] = []
    trainer.network.eval().register_forward_hook(lambda _, __, output: results.append(output))
    batch = batch_for(trainer, gpu, training=False)
    with torch.no_grad(), gpu.running() as watch:
        trainer.validation_step(batch)
    check_results(results, gpu.device)
    return watch


def check_both(trainer: SAM2_3dMedTrainer, gpu: FakeGPU, dtype: torch.dtype) -> None:
    regions = trainer.label_manager.has_regions
    check(train(trainer, gpu), dtype, READ, LOADED if regions else [*LOADED, LABELS])
    nnunet = "nnUNetTrainer.validation_step"  # loads two, and reads the loss and three counts of voxels
    check(validate(trainer, gpu), dtype, [nnunet] * 4, [nnunet] * 2)


@pytest.mark.parametrize("name", WITHOUT_PROMPTS)
def test_every_trainer(name, make_gpu):
    gpu = make_gpu()
    check_both(build(EXPORTED[name], gpu), gpu, torch.bfloat16)


def test_every_trainer_that_nnunet_finds_is_here_or_has_the_step_of_one_that_is():
    assert sorted(name for names in STEPS.values() for name in names) == sorted(EXPORTED)


def test_long_stacks(make_gpu):
    """Nine slices: the last attends to seven memories and eight object pointers."""
    gpu = make_gpu()
    watch = train(build(SAM2_3dMedTrainer, gpu, slices=9), gpu)
    check(watch, torch.bfloat16, READ, [*LOADED, LABELS])
    tokens, pointers = 16, 8 * 4
    assert max(call.shapes[1][2] for call in watch.attention if call.shapes[0][-1] == 256) == 7 * tokens + pointers


@pytest.mark.parametrize(
    "capability, precision, dtype",
    [
        ((7, 5), "auto", torch.float16),
        ((8, 0), "float32", torch.float32),
    ],
)
def test_precision(capability, precision, dtype, make_gpu):
    gpu = make_gpu(capability=capability)
    trainer = build(SAM2_3dMedTrainer, gpu, precision=precision)
    assert (trainer.grad_scaler is not None) == (dtype == torch.float16)
    check_both(trainer, gpu, dtype)


def test_second_gpu(make_gpu, monkeypatch):
    """As in the second of two processes, whose current device is what its launcher has set."""
    gpu = make_gpu("cuda:1", capability=(7, 5), current=1)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    trainer = build(SAM2_3dMedTrainer, gpu)
    assert trainer.device == gpu.device
    # from here on, what goes by the current device goes wrong
    gpu.current = 0
    check_both(trainer, gpu, torch.float16)


@pytest.mark.parametrize("dataset", [IGNORED, IGNORED_REGIONS], ids=["labels", "regions"])
def test_targets(dataset, make_gpu):
    gpu = make_gpu()
    check_both(build(SAM2_3dMedTrainer, gpu, dataset=dataset), gpu, torch.bfloat16)


def test_classes_one_after_the_other(make_gpu, monkeypatch):
    """So it is with many classes: each group's loss is computed a second time in backward."""
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", 1)
    gpu = make_gpu()
    check_both(build(SAM2_3dMedTrainer, gpu), gpu, torch.bfloat16)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_is_what_the_plan_expects(checkpointing, make_gpu):
    """Slices of 256 pixels; the tracker is that of the documented table, which is counted on tensors of the CPU."""
    gpu = make_gpu()
    trainer = build(SAM2_3dMedTrainer, gpu, slices=4, image_size=256, activation_checkpointing=checkpointing)
    train(trainer, gpu)  # the optimizer's moments are there from now on
    trainer.optimizer.zero_grad()
    moments = [m for state in trainer.optimizer.state.values() for m in state.values()]
    tracker = PeakBytes()
    for tensor in [*trainer.network.parameters(), *trainer.network.buffers(), *moments]:
        tracker.add(tensor)
    train(trainer, gpu, tracker)
    step = TrainingStep(2, (4, *IN_PLANE), 256, 2, checkpointing=checkpointing)
    assert tracker.peak == pytest.approx(step.expected_bytes(), rel=0.1)
