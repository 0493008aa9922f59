"""torch.compile done before the clock starts, and given up where it fails, on trainers of a few parameters."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network import compilation
from nnunetv2_sam2_3dmed.training.budget import compile_now
from nnunetv2_sam2_3dmed.training.losses import LossTerms
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer

BATCH = {"data": torch.ones(2, 3), "target": torch.zeros(2, 1)}


# ---------------------------------------------------------------- compile_now


class SmallTrainer:
    """nnU-Net's two steps for one layer, dropout included; its batches are drawn at random."""

    device = torch.device("cpu")
    grad_scaler = None

    def __init__(self):
        self.network = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.1)
        self.dataloader_train = self.dataloader_val = iter(lambda: torch.randn(4, 3), None)
        self.steps: list[tuple[str, bool, bool]] = []

    def train_step(self, batch):
        self.steps.append(("train", self.network.training, torch.is_grad_enabled()))
        self.optimizer.zero_grad(set_to_none=True)
        self.network(batch).square().sum().backward()
        self.optimizer.step()

    def validation_step(self, batch):
        self.steps.append(("validate", self.network.training, torch.is_grad_enabled()))
        self.network(batch)


@pytest.mark.parametrize("steps", [1, 5], ids=["compiled", "recorded"])
@pytest.mark.parametrize("steps_before", [0, 3], ids=["at the start", "continued"])
def test_preparing_before_the_clock_starts_changes_nothing(steps_before, steps):
    trainer = SmallTrainer()
    for _ in range(steps_before):
        trainer.train_step(next(trainer.dataloader_train))
    trainer.steps.clear()
    weights, state = deepcopy(trainer.network.state_dict()), deepcopy(trainer.optimizer.state_dict())
    stream = torch.get_rng_state()
    compile_now(trainer, steps)
    assert trainer.steps == [("train", True, True)] * steps + [("validate", False, False)]
    assert torch.equal(torch.get_rng_state(), stream)
    after = trainer.network.state_dict()
    assert weights.keys() == after.keys() and all(torch.equal(weights[name], after[name]) for name in weights)
    assert all(p.grad is None for p in trainer.network.parameters())
    assert trainer.optimizer.state_dict()["param_groups"] == state["param_groups"]
    assert trainer.optimizer.state_dict()["state"].keys() == state["state"].keys()
    for number, values in state["state"].items():
        for name, value in values.items():
            assert torch.equal(trainer.optimizer.state_dict()["state"][number][name], value)


def test_training_goes_as_it_would_without():
    """From the same weights, the same steps: also the optimizer's moments are what they would be."""
    networks = []
    for first in (compile_now, lambda _: None):
        torch.manual_seed(1)
        trainer = SmallTrainer()
        first(trainer)
        trainer.network.train()
        for seed in range(3):
            torch.manual_seed(seed)
            trainer.train_step(torch.randn(4, 3))
        networks.append(trainer.network.state_dict())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


# ---------------------------------------------------------------- train_step


class OneLayer(SAM2_3dMedTrainer):
    """The trainer's own step with a network of one layer and a loss of one term."""

    is_ddp = False

    def __init__(self, network: nn.Module):
        self.network, self.device, self.grad_scaler = network, torch.device("cpu"), None
        self.optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        self.loss = SimpleNamespace(terms=self.terms)
        self.lines: list[str] = []
        self.configuration_manager = SimpleNamespace(
            patch_size=(6, 56, 40), batch_size=4, network_arch_init_kwargs={"image_size": 96}
        )
        self.plans_manager = SimpleNamespace(dataset_name="Dataset004_Hippocampus")

    @staticmethod
    def terms(output: torch.Tensor, target: torch.Tensor) -> LossTerms:
        loss = (output - target).square().mean()
        return LossTerms(loss, loss, None, None)

    def loss_terms(self) -> list[str]:
        return ["segmentation"]

    def print_to_log_file(self, *line, **_):
        self.lines.append(" ".join(map(str, line)))


def raising(error: Exception):
    """A network whose forward pass raises."""
    network = nn.Linear(3, 1)
    network.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(error))
    return network


@pytest.fixture(autouse=True)
def compiling(monkeypatch):
    monkeypatch.setattr(compilation._Compiler, "given_up", False)


def failing_once(error: Exception) -> nn.Module:
    """A network whose first backward pass raises, as where torch cannot compile it."""
    network, errors = nn.Linear(3, 1), [error]

    def hook(gradient: torch.Tensor) -> None:
        if errors:
            raise errors.pop()

    network.weight.register_hook(hook)
    return network


def test_a_backward_pass_that_cannot_be_compiled_is_done_without():
    network = failing_once(torch._dynamo.exc.TorchDynamoException("no C++ compiler here"))
    plain = OneLayer(nn.Linear(3, 1))
    plain.network.load_state_dict(network.state_dict())
    trainer = OneLayer(network)
    with pytest.warns(UserWarning, match="goes on without it, more slowly: no C\\+\\+ compiler here"):
        losses = trainer.train_step(BATCH)
    assert losses == plain.train_step(BATCH) and compilation.has_given_up()
    assert torch.equal(network.weight, plain.network.weight)  # one step, not two


def test_errors_of_the_compiler_are_raised_where_they_cannot_be_helped():
    error = torch._dynamo.exc.TorchDynamoException("of something else")
    trainer = OneLayer(raising(error))
    with pytest.warns(UserWarning), pytest.raises(torch._dynamo.exc.TorchDynamoException, match="of something else"):
        trainer.train_step(BATCH)
    trainer = OneLayer(failing_once(error))
    trainer.is_ddp = True  # the other processes are in their backward pass
    with pytest.raises(torch._dynamo.exc.TorchDynamoException, match="of something else"):
        trainer.train_step(BATCH)


def test_other_errors_are_raised_and_compiling_goes_on():
    trainer = OneLayer(raising(ValueError("not for this input")))
    with pytest.raises(ValueError, match="not for this input"):
        trainer.train_step(BATCH)
    assert not compilation.has_given_up()


@pytest.mark.parametrize("step", ["train_step", "validation_step"])
def test_running_out_of_memory_names_what_needs_less(step):
    trainer = OneLayer(raising(torch.OutOfMemoryError("CUDA out of memory")))
    trainer.network.eval()
    with pytest.raises(UserError) as raised:
        getattr(trainer, step)(BATCH)
    message = str(raised.value)
    assert "4 stacks of 6 slices of 96 pixels" in message
    assert "repeat your `sam2_3dmed plan -d Dataset004_Hippocampus ...` with --checkpointing on (slower), or" in message
    assert "--batch-size" in message


def test_checkpointing_is_not_proposed_to_who_has_it():
    trainer = OneLayer(raising(torch.OutOfMemoryError("CUDA out of memory")))
    trainer.configuration_manager.network_arch_init_kwargs["activation_checkpointing"] = True
    with pytest.raises(UserError) as raised:
        trainer.train_step(BATCH)
    assert "--checkpointing" not in str(raised.value) and "--image-size" in str(raised.value)
