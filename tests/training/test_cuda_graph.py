"""Steps that are recorded and replayed, with a recorder that needs no GPU: a replay computes into the same memory."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from nnunetv2_sam2_3dmed.training import cuda_graph
from nnunetv2_sam2_3dmed.training.cuda_graph import WARM_UP, GraphedStep
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from tests.training.test_compilation import OneLayer


class Terms(NamedTuple):
    total: torch.Tensor
    missing: None = None


class Work:
    """A linear layer with the squared error; counts how often Python computed it."""

    def __init__(self):
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 2)
        self.computed = 0
        self.failures: list[Exception] = []
        self.step = GraphedStep(self.gradients, self.layer.parameters(), self.failures.append)

    def gradients(self, data: torch.Tensor, target: torch.Tensor) -> Terms:
        self.computed += 1
        self.layer.zero_grad(set_to_none=True)
        total = (self.layer(data) - target).square().sum()
        total.backward()
        return Terms(total)


class Recorder:
    """Stand-in for CUDA graphs of a layer: a replay changes the tensors that were there at the recording."""

    def __init__(self, layer: nn.Module):
        self.layer = layer
        self.recorded = self.replayed = 0

    def __call__(self, function: Callable[[], Any], device: torch.device) -> tuple[Any, Callable[[], None]]:
        self.recorded += 1
        terms = function()
        gradients = [p.grad for p in self.layer.parameters()]

        def replay() -> None:
            self.replayed += 1
            kept = [p.grad for p in self.layer.parameters()]
            again = function()
            with torch.no_grad():
                terms.total.copy_(again.total)
                for static, p, before in zip(gradients, self.layer.parameters(), kept, strict=True):
                    static.copy_(p.grad)
                    p.grad = before

        return terms, replay


def expected(work: Work, data: torch.Tensor, target: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Loss and the gradient of the weight, by formula: 2 (W x + b - y) x^T."""
    error = (data @ work.layer.weight.T + work.layer.bias - target).detach()
    return float(error.square().sum()), 2 * error.T @ data


def check(work: Work, data: torch.Tensor, target: torch.Tensor) -> None:
    loss, gradient = expected(work, data, target)
    terms = work.step(data, target)
    assert terms.total.item() == pytest.approx(loss, rel=1e-5) and terms.missing is None
    assert torch.allclose(work.layer.weight.grad, gradient, atol=1e-5)


# ---------------------------------------------------------------- GraphedStep


@pytest.fixture
def work(monkeypatch) -> Work:
    work = Work()
    work.recorder = Recorder(work.layer)
    monkeypatch.setattr(cuda_graph, "record", work.recorder)
    return work


def batches(number: int, size: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.randn(size, 3), torch.randn(size, 2)) for _ in range(number)]


def test_later_steps_are_replayed_with_their_own_batch(work):
    for batch in batches(WARM_UP + 4):
        check(work, *batch)
    assert (work.recorder.recorded, work.recorder.replayed) == (1, 4)
    assert work.computed - work.recorder.replayed == WARM_UP + 1  # as usual, and once for the recording


def test_weights_that_change_between_steps_count(work):
    optimizer = torch.optim.SGD(work.layer.parameters(), lr=0.01)
    for batch in batches(WARM_UP + 4):
        check(work, *batch)
        optimizer.step()


def test_gradients_that_were_taken_away_come_back(work):
    for batch in batches(WARM_UP + 3):
        work.layer.zero_grad(set_to_none=True)
        check(work, *batch)


def test_another_shape_is_computed_as_usual(work):
    for batch in batches(WARM_UP + 1):
        check(work, *batch)
    for batch in batches(2, size=7):
        check(work, *batch)
    assert work.recorder.replayed == 1
    for batch in batches(2):
        check(work, *batch)
    assert (work.recorder.recorded, work.recorder.replayed) == (1, 3)


def test_terms_do_not_keep_what_they_were_computed_from(work):
    for batch in batches(WARM_UP + 1):
        terms = work.step(*batch)
    assert terms.total.grad_fn is None


def test_recording_fails_once_and_everything_is_computed_as_usual(work, monkeypatch):
    def fail(*_: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda_graph, "record", fail)
    for batch in batches(WARM_UP + 3):
        check(work, *batch)
    assert work.computed == WARM_UP + 3
    assert [str(failure) for failure in work.failures] == ["operation not permitted when stream is capturing"]


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@needs_gpu
def test_a_gpu_replays_each_batch():
    work = Work()
    work.layer.cuda()
    for data, target in batches(WARM_UP + 4):
        check(work, data.cuda(), target.cuda())
    assert not work.failures and work.computed == WARM_UP + 2  # before the recording a GPU computes once more


@needs_gpu
def test_a_gpu_draws_new_random_numbers_in_each_replay():
    work = Work()
    work.layer = nn.Sequential(nn.Linear(3, 64), nn.Dropout(0.5), nn.Linear(64, 2)).cuda()
    work.step = GraphedStep(work.gradients, work.layer.parameters(), work.failures.append)
    data, target = (tensor.cuda() for tensor in batches(1)[0])
    losses = [work.step(data, target).total.item() for _ in range(WARM_UP + 4)]
    assert not work.failures and len(set(losses)) == len(losses)


# ---------------------------------------------------------------- the trainer


class Replayed(OneLayer):
    def can_be_graphed(self) -> bool:
        return True

    def _do_i_compile(self) -> bool:
        return False


def test_a_trainer_whose_steps_are_replayed_learns_the_same(monkeypatch):
    trainers = []
    for kind in (OneLayer, Replayed):
        torch.manual_seed(0)
        layer = nn.Linear(3, 1)
        recorder = Recorder(layer)
        monkeypatch.setattr(cuda_graph, "record", recorder)
        trainer = kind(layer)
        losses = [trainer.train_step({"data": d, "target": t[:, :1]})["loss"] for d, t in batches(WARM_UP + 5)]
        trainers.append((losses, layer.weight, recorder.replayed))
    (plain, expected_weight, never), (losses, weight, replayed) = trainers
    assert never == 0 and replayed == 5
    assert losses == pytest.approx(plain) and torch.allclose(weight, expected_weight)


def test_the_log_says_why_steps_are_not_recorded(monkeypatch):
    def fail(*_: Any) -> None:
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr(cuda_graph, "record", fail)
    trainer = Replayed(nn.Linear(3, 1))
    for data, target in batches(WARM_UP + 3):
        trainer.train_step({"data": data, "target": target[:, :1]})
    assert [line for line in trainer.lines if "CUDA graph" in line] == [
        "Steps are not launched as a CUDA graph, which makes them slower: no kernel for this"
    ]


@pytest.mark.parametrize(
    "device, processes, checkpointing, variables, graphed, compiled",
    [
        ("cuda", False, False, {}, True, False),
        ("cuda:1", False, False, {}, True, False),
        ("cuda", False, False, {"nnUNet_compile": "True"}, True, True),
        ("cuda", False, False, {"nnUNet_compile": "False"}, True, False),
        ("cuda", False, False, {"SAM2_3dMed_cuda_graphs": "0"}, False, True),
        ("cuda", False, True, {}, False, True),
        ("cuda", True, False, {}, False, True),
        ("cpu", False, False, {}, False, False),
    ],
)
def test_where_steps_are_graphs_and_where_they_are_compiled(
    device, processes, checkpointing, variables, graphed, compiled, make_trainer, monkeypatch
):
    monkeypatch.delenv("nnUNet_compile", raising=False)
    trainer = make_trainer(SAM2_3dMedTrainer, ["a", "b", "c", "d"], ["e"])
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    trainer.device = torch.device(device)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: processes)
    trainer.configuration_manager.network_arch_init_kwargs["activation_checkpointing"] = checkpointing
    assert trainer.can_be_graphed() == graphed
    assert trainer._do_i_compile() == compiled
