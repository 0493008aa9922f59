"""Steps that are recorded and replayed, with a recorder that needs no GPU: a replay computes into the same memory."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.training import cuda_graph
from nnunetv2_sam2_3dmed.training.cuda_graph import STEPS_UNTIL_REPLAYED, WARM_UP, GraphedStep
from nnunetv2_sam2_3dmed.training.losses import DiceBCELoss, SAM2_3dMedLoss
from nnunetv2_sam2_3dmed.training.targets import TargetMaker
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from tests.training.test_compilation import OneLayer


class Terms(NamedTuple):
    total: torch.Tensor
    missing: None = None


class Work:
    """A layer with dropout and the squared error; counts how often Python computed it."""

    def __init__(self, dropout: float = 0.0):
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 2)
        self.dropout = nn.Dropout(dropout)
        self.computed = 0
        self.weight = 1.0
        self.failures: list[Exception] = []
        self.step = GraphedStep(self.gradients, self.layer.parameters(), self.failures.append, lambda: self.weight)

    def gradients(self, data: torch.Tensor, target: torch.Tensor) -> Terms:
        self.computed += 1
        self.layer.zero_grad(set_to_none=True)
        total = self.weight * (self.layer(self.dropout(data)) - target).square().sum()
        total.backward()
        return Terms(total)


class Recorder:
    """Stand-in for CUDA graphs of a layer: a replay changes the tensors that were there at the recording."""

    def __init__(self, layer: nn.Module):
        self.layer = layer
        self.wrong = 0.0  # what a replay adds to the gradients
        self.recorded = self.replayed = 0

    def __call__(
        self, function: Callable[[], Any], before_capture: Callable[[], None], device: torch.device
    ) -> tuple[Any, Callable[[], None]]:
        self.recorded += 1
        before_capture()
        assert all(p.grad is None for p in self.layer.parameters())
        terms = function()
        gradients = [p.grad for p in self.layer.parameters()]

        def replay() -> None:
            self.replayed += 1
            kept = [p.grad for p in self.layer.parameters()]
            again = function()
            with torch.no_grad():
                terms.total.copy_(again.total)
                for static, p, before in zip(gradients, self.layer.parameters(), kept, strict=True):
                    static.copy_(p.grad + self.wrong)
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
    for batch in batches(WARM_UP + 5):
        check(work, *batch)
    assert (work.recorder.recorded, work.recorder.replayed) == (1, 5)
    # as usual in the warm-up, in the recorder, and for the check
    assert work.computed - work.recorder.replayed == WARM_UP + 2
    assert not work.failures


def test_all_that_is_after_the_stated_number_of_steps_is_replayed(work):
    for batch in batches(STEPS_UNTIL_REPLAYED):
        check(work, *batch)
    before = work.recorder.replayed
    for batch in batches(3):
        computed = work.computed
        check(work, *batch)
        assert work.computed == computed + 1  # by the replay
    assert work.recorder.replayed == before + 3


def test_weights_that_change_between_steps_count(work):
    optimizer = torch.optim.SGD(work.layer.parameters(), lr=0.01)
    for batch in batches(WARM_UP + 5):
        check(work, *batch)
        optimizer.step()
    assert work.recorder.replayed == 5


def test_gradients_that_were_taken_away_come_back(work):
    for batch in batches(WARM_UP + 4):
        work.layer.zero_grad(set_to_none=True)
        check(work, *batch)


def test_another_shape_is_computed_as_usual(work):
    for batch in batches(WARM_UP + 2):
        check(work, *batch)
    for batch in batches(2, size=7):
        check(work, *batch)
    assert work.recorder.replayed == 2
    for batch in batches(2):
        check(work, *batch)
    assert (work.recorder.recorded, work.recorder.replayed) == (1, 4)


def test_terms_do_not_keep_what_they_were_computed_from(work):
    for batch in batches(WARM_UP + 3):
        terms = work.step(*batch)
    assert work.recorder.replayed == 3 and terms.total.grad_fn is None


def test_recording_fails_once_and_everything_is_computed_as_usual(work, monkeypatch):
    def fail(*_: Any) -> None:
        try:
            raise RuntimeError("operation not permitted when stream is capturing")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(cuda_graph, "record", fail)
    for batch in batches(WARM_UP + 3):
        check(work, *batch)
    assert work.computed == WARM_UP + 3
    assert [str(failure) for failure in work.failures] == ["operation not permitted when stream is capturing"]


def test_a_replay_with_other_gradients_is_not_used(work):
    given = batches(WARM_UP + 5)
    for batch in given[: WARM_UP + 1]:
        check(work, *batch)
    work.recorder.wrong = 5.0
    for batch in given[WARM_UP + 1 :]:
        check(work, *batch)
    assert work.recorder.replayed == 2
    assert len(work.failures) == 1 and "a replay's gradients differ by" in str(work.failures[0])


def test_gradients_that_overflow_are_checked_later(work):
    given = batches(WARM_UP + 4)
    for batch in given[: WARM_UP + 1]:
        check(work, *batch)
    for _ in range(2):
        terms = work.step(given[0][0] * 1e30, given[0][1])
        assert torch.isinf(terms.total) and not work.layer.weight.grad.isfinite().all()
        assert not work.step._recording.checked
    for batch in given[WARM_UP + 1 :]:
        check(work, *batch)
    assert work.step._recording.checked and not work.failures


def test_the_check_compares_with_the_same_random_numbers(monkeypatch):
    work, plain = Work(dropout=0.5), Work(dropout=0.5)
    recorder = Recorder(work.layer)
    monkeypatch.setattr(cuda_graph, "record", recorder)
    given = batches(WARM_UP + 3)
    torch.manual_seed(1)
    for batch in given[: WARM_UP + 1]:
        work.step(*batch)
    torch.manual_seed(2)
    losses = [work.step(*batch).total.item() for batch in given[WARM_UP + 1 :]]
    torch.manual_seed(2)
    assert losses == pytest.approx([plain.gradients(*batch).total.item() for batch in given[WARM_UP + 1 :]])
    assert recorder.replayed == 3 and not work.failures


def test_a_step_that_does_not_fit_beside_the_recorded_one_is_not_checked(work):
    given = batches(WARM_UP + 4)
    for batch in given[: WARM_UP + 1]:
        check(work, *batch)
    errors = [torch.OutOfMemoryError("CUDA out of memory")]

    def short_of_memory(*batch: torch.Tensor) -> Terms:
        if errors:
            raise errors.pop()
        return work.gradients(*batch)

    work.step._compute = short_of_memory
    for batch in given[WARM_UP + 1 :]:
        check(work, *batch)
    assert work.recorder.replayed == 4 and not work.failures


@pytest.mark.parametrize("change", ["a weight of the loss", "what trains", "the memory of a parameter"])
def test_a_recording_that_no_longer_holds_is_not_used(work, change):
    for batch in batches(WARM_UP + 3):
        check(work, *batch)
    assert work.recorder.replayed == 3
    if change == "a weight of the loss":
        work.weight = 3.0
    elif change == "what trains":
        work.layer.bias.requires_grad_(False)
    else:
        work.layer.weight.data = work.layer.weight.data.clone() + 1
    for batch in batches(2):
        data, target = batch
        loss, gradient = expected(work, data, target)
        assert work.step(data, target).total.item() == pytest.approx(work.weight * loss, rel=1e-5)
        assert torch.allclose(work.layer.weight.grad, work.weight * gradient, atol=1e-4)
    assert work.recorder.replayed == 3
    assert [str(failure) for failure in work.failures] == [
        "the parameters that train, or the loss's settings, have changed"
    ]


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@needs_gpu
def test_a_gpu_replays_each_batch():
    work = Work()
    work.layer.cuda()
    optimizer = torch.optim.SGD(work.layer.parameters(), lr=0.01)
    for data, target in batches(WARM_UP + 5):
        check(work, data.cuda(), target.cuda())
        optimizer.step()
    assert not work.failures and work.step._recording.checked


@needs_gpu
def test_a_gpu_draws_new_random_numbers_in_each_replay():
    work = Work(dropout=0.5)
    work.layer.cuda()
    data, target = (tensor.cuda() for tensor in batches(1, size=200)[0])
    losses = [work.step(data, target).total.item() for _ in range(WARM_UP + 5)]
    assert not work.failures and len(set(losses)) == len(losses)


@needs_gpu
def test_a_step_that_waits_for_the_gpu_is_not_recorded_and_harms_nothing():
    work = Work(dropout=0.5)
    work.layer.cuda()

    def waiting(data: torch.Tensor, target: torch.Tensor) -> Terms:
        terms = work.gradients(data, target)
        return terms if terms.total.item() > 0 else Terms(terms.total * 0)

    step = GraphedStep(waiting, work.layer.parameters(), work.failures.append)
    for data, target in batches(WARM_UP + 4):
        step(data.cuda(), target.cuda())
    torch.cuda.empty_cache()
    assert len(work.failures) == 1 and torch.cuda.get_sync_debug_mode() == 0


@needs_gpu
def test_a_gpu_trains_the_network_as_without_a_graph():
    """The whole network with its losses, and weights that change: eager and replayed steps side by side."""
    losses = {}
    for how in ("eager", "graph"):
        torch.manual_seed(0)
        network = SAM2_3dMed(1, 3, image_size=64, num_slices=3, dropout=0.0, precision="float32").cuda().train()
        loss = SAM2_3dMedLoss(TargetMaker([1, 2], None), DiceBCELoss(batch_dice=True))
        optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-4, fused=True)

        def gradients(data, target, network=network, loss=loss, optimizer=optimizer):
            optimizer.zero_grad(set_to_none=True)
            terms = loss.terms(network(data), target)
            terms.total.backward()
            return terms

        failures: list[Exception] = []
        step = gradients if how == "eager" else GraphedStep(gradients, network.parameters(), failures.append)
        losses[how] = []
        for seed in range(WARM_UP + 7):
            torch.manual_seed(seed)
            data, target = torch.randn(2, 1, 3, 40, 40), torch.randint(0, 3, (2, 1, 3, 40, 40))
            losses[how].append(step(data.cuda(), target.cuda()).total.item())
            optimizer.step()
        assert not failures
    assert losses["graph"] == pytest.approx(losses["eager"], rel=1e-3)


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
        "From now on steps are launched operation by operation, not as a CUDA graph: no kernel for this. If the "
        "training breaks off, start it with SAM2_3dMed_cuda_graphs=0."
    ]


def test_the_validation_may_need_the_memory_of_the_graph(monkeypatch):
    trainer = Replayed(nn.Linear(3, 1))
    monkeypatch.setattr(cuda_graph, "record", Recorder(trainer.network))
    for data, target in batches(WARM_UP + 3):
        trainer.train_step({"data": data, "target": target[:, :1]})
    assert trainer.graphed_step._recording is not None
    calls = []

    def validate(self, batch):
        calls.append(self.graphed_step)
        if self.graphed_step is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"loss": 1.0}

    monkeypatch.setattr(nnUNetTrainer, "validation_step", validate)
    monkeypatch.setattr(trainer, "with_finite_loss", lambda outputs, *_, **__: outputs)
    assert trainer.validation_step({}) == {"loss": 1.0}
    assert len(calls) == 2 and calls[1] is None and not SAM2_3dMedTrainer.can_be_graphed(trainer)
    assert all(p.grad is None for p in trainer.network.parameters())
    assert "the validation needs the memory" in trainer.lines[-1]


def test_nothing_of_a_graph_is_left_for_the_final_validation(monkeypatch):
    trainer = Replayed(nn.Linear(3, 1))
    monkeypatch.setattr(cuda_graph, "record", Recorder(trainer.network))
    for data, target in batches(WARM_UP + 3):
        trainer.train_step({"data": data, "target": target[:, :1]})
    monkeypatch.setattr(nnUNetTrainer, "on_train_end", lambda _: None)
    trainer.on_train_end()
    assert trainer.graphed_step is None and all(p.grad is None for p in trainer.network.parameters())


@pytest.mark.parametrize(
    "device, processes, checkpointing, variables, graphed, compiled",
    [
        ("cuda", False, False, {}, True, False),
        ("cuda:1", False, False, {}, True, False),
        ("cuda", False, False, {"nnUNet_compile": "True"}, True, True),
        ("cuda", False, False, {"nnUNet_compile": "False"}, True, False),
        ("cuda", False, False, {"SAM2_3dMed_cuda_graphs": "0"}, False, True),
        ("cuda", False, False, {"SAM2_3dMed_cuda_graphs": "False"}, False, True),
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
