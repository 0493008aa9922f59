"""The time budget, on a trainer that only pretends to train, with a clock of its own."""

import pytest
import torch

from nnunetv2_sam2_3dmed.training import budget
from nnunetv2_sam2_3dmed.training.budget import WallClockBudget
from nnunetv2_sam2_3dmed.training.schedule import CosineSchedule


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Log(dict):
    def get_value(self, key, step):
        assert step is None
        return self[key]


class PretendTrainer:
    """The parts of nnU-Net's trainer that the budget uses; an epoch takes 60 s, and 6 s more pass between epochs."""

    is_ddp = False
    num_epochs = 500

    def __init__(self, plans, configuration, fold, dataset_json, device):
        self.logger = Log(epoch_start_timestamps=[], epoch_end_timestamps=[])
        self.current_epoch = 0
        self.iterations = 0
        self.rates: list[float] = []
        self.dataloader_train = self.dataloader_val = iter(lambda: 0, 1)
        self.optimizer, self.lr_scheduler = self.configure_optimizers()

    def configure_optimizers(self):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return optimizer, CosineSchedule(optimizer, self.num_epochs)

    def _do_i_compile(self):
        return False

    def on_epoch_start(self):
        self.logger["epoch_start_timestamps"].append(budget.time())

    def on_train_epoch_start(self):
        self.lr_scheduler.step(self.current_epoch)
        self.rates.append(self.optimizer.param_groups[0]["lr"])

    def train_step(self, batch):
        self.iterations += 1
        Clock.now += 2
        return {}

    def validation_step(self, batch):
        Clock.now += 2
        return {}

    def on_epoch_end(self):
        self.logger["epoch_end_timestamps"].append(budget.time())
        self.current_epoch += 1
        Clock.now += 6  # plots and checkpoints

    def nothing(self, *_):
        pass

    on_train_start = on_train_end = on_train_epoch_end = nothing
    on_validation_epoch_start = on_validation_epoch_end = print_to_log_file = nothing


class TenMinutes(WallClockBudget, PretendTrainer):
    minutes = 10


@pytest.fixture
def trainer(monkeypatch):
    Clock.now = 1000.0
    monkeypatch.setattr(budget, "time", Clock())
    return TenMinutes({}, "3d", 0, {}, torch.device("cpu"))


def test_it_stops_within_half_an_epoch_of_the_budget(trainer):
    trainer.run_training()
    # an epoch is 25 + 5 steps of 2 s and 6 s of overhead: 9 epochs are 594 s, and a tenth would end 60 s late
    assert trainer.current_epoch == 9 and trainer.iterations == 225
    assert trainer.seconds_used() == pytest.approx(594)


def test_the_learning_rate_follows_the_budget(trainer):
    trainer.run_training()
    shares = [66 * epoch / 600 for epoch in range(9)]
    expected = CosineSchedule(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), 500)
    assert trainer.rates == pytest.approx([expected.share(500 * share) for share in shares])
    assert trainer.rates[0] == 1.0 and trainer.rates[-1] < 0.2
    assert trainer.share_done() == pytest.approx(0.99)


def test_a_continued_training_gets_what_is_left(trainer):
    """Four epochs of 60 s with 6 s between them, but for the second pause, an interruption of an hour."""
    trainer.logger["epoch_start_timestamps"] = [0.0, 66.0, 3726.0, 3792.0]
    trainer.logger["epoch_end_timestamps"] = [60.0, 126.0, 3786.0, 3852.0]
    trainer.current_epoch = 4
    trainer.run_training()
    assert trainer.current_epoch == 9  # as without the interruption: 4 * 66 s are used up


def test_a_finished_training_is_not_continued(trainer):
    trainer.run_training()
    continued = TenMinutes({}, "3d", 0, {}, torch.device("cpu"))
    continued.logger, continued.current_epoch = trainer.logger, trainer.current_epoch
    continued.run_training()
    assert continued.current_epoch == 9 and continued.iterations == 0


def test_compiling_does_not_count(trainer, monkeypatch):
    """An hour of it, of a budget of ten minutes."""
    seen = []

    def an_hour(compiled):
        seen.append((compiled, compiled.seconds_used(), compiled.iterations))
        Clock.now += 3600

    monkeypatch.setattr(budget, "compile_now", an_hour)
    monkeypatch.setattr(trainer, "_do_i_compile", lambda: True)
    trainer.run_training()
    assert seen == [(trainer, 0.0, 0)]  # once, before the first step
    assert trainer.current_epoch == 9 and trainer.seconds_used() == pytest.approx(594)


def test_nothing_is_compiled_where_nnunet_does_not(trainer, monkeypatch):
    monkeypatch.setattr(budget, "compile_now", lambda _: pytest.fail("compiled"))
    trainer.run_training()
    assert trainer.current_epoch == 9
