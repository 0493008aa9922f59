"""Steps of the trainers for prompts on a GPU that is not there: devices, precisions, no more waits than are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nnunetv2_sam2_3dmed.prompt_training import stacks as stacks_module
from nnunetv2_sam2_3dmed.prompt_training.stacks import PromptMix, Stacks
from nnunetv2_sam2_3dmed.prompt_training.trainer import SAM2_PromptTrainer
from tests.fake_cuda.checks import check_operations, check_results
from tests.fake_cuda.gpu import FakeGPU, Watch
from tests.fake_cuda.trainers import EXPORTED, STEPS, batch_for, build

BOX = PromptMix(box=1.0, click=0.0, corrected=1.0, corrections=1)
CLICK = PromptMix(box=0.0, click=1.0, corrected=0.0)
MASK = PromptMix(box=0.0, click=0.0)
LATER = PromptMix(box=1.0, click=0.0, corrected=0.0, later=1.0)
# before the network, which objects there are and where their prompts go; in validation, the counts of voxels
KNOWN_WAITS = {"stacks._on_host", "stacks._objects", "trainer.hits_of"}
COPIES = {
    "trainer._stacks",
    "targets.__call__",
    "promptable_sam2.copy_to",
    "sam2_base._prepare_memory_conditioned_features",
}


def prepare(name: str, gpu: FakeGPU, mix: PromptMix = BOX, **architecture: Any) -> SAM2_PromptTrainer:
    trainer = build(EXPORTED[name], gpu, **architecture)
    trainer._directions = {"one": np.eye(3), "two": np.eye(3)}  # nnU-Net has them in files
    trainer._mix, trainer.rng = mix, np.random.default_rng(0)
    return trainer


def run(trainer: SAM2_PromptTrainer, gpu: FakeGPU, training: bool = True) -> Watch:
    """A step; checks what the network and the losses give."""
    results: list[Any] = []
    trainer.network.train(training).register_forward_hook(lambda _, __, answers: results.append(answers))
    loss = trainer.loss
    trainer.loss = lambda *arguments: results.append(loss(*arguments)) or results[-1]
    batch = batch_for(trainer, gpu)
    with torch.set_grad_enabled(training), gpu.running() as watch:
        (trainer.train_step if training else trainer.validation_step)(batch)
    assert len(results) == 2
    check_results(results, gpu.device)
    for name, parameter in trainer.network.named_parameters():
        if parameter.grad is not None:
            assert trainer.optimizer.state[parameter]["exp_avg"].device == gpu.device, name
    return watch


def check(watch: Watch, dtype: torch.dtype, read: str = "trainer.numbers_of") -> None:
    check_operations(watch, dtype)
    assert set(watch.waits) <= KNOWN_WAITS | {read}
    assert watch.waits.count(read) == 1
    assert set(watch.copies) <= COPIES


@pytest.mark.parametrize("name", [name for name in STEPS if issubclass(EXPORTED[name], SAM2_PromptTrainer)])
def test_every_trainer(name, make_gpu):
    gpu = make_gpu()
    trainer = prepare(name, gpu)
    check(run(trainer, gpu), torch.bfloat16)
    check(run(trainer, gpu, training=False), torch.bfloat16, "trainer.validation_step")


@pytest.mark.parametrize("mix", [CLICK, MASK, LATER], ids=["click", "mask", "corrected later"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_other_prompts(mix, checkpointing, make_gpu):
    gpu = make_gpu()
    trainer = prepare("SAM2_PromptTrainer", gpu, mix, activation_checkpointing=checkpointing)
    check(run(trainer, gpu), torch.bfloat16)


def test_single_slices(make_gpu, monkeypatch):
    def all_slices(stacks: Stacks) -> Stacks:
        return Stacks(
            stacks.grey.flatten(0, 1)[:, None],
            stacks.masks.transpose(1, 2).flatten(0, 1)[:, :, None],
            stacks.counted.flatten(0, 1)[:, None],
            stacks.real.flatten()[:, None],
        )

    monkeypatch.setattr(stacks_module, "single_slices", all_slices)  # it waits for how many are not padding
    gpu = make_gpu()
    trainer = prepare("SAM2_PromptTrainer_noPretrain_tuned", gpu, CLICK._replace(images=1.0))
    check(run(trainer, gpu), torch.bfloat16)


def test_second_gpu_without_bfloat16(make_gpu, monkeypatch):
    gpu = make_gpu("cuda:1", capability=(7, 5), current=1)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    trainer = prepare("SAM2_PromptTrainer", gpu, MASK)
    gpu.current = 0
    check(run(trainer, gpu), torch.float16)
