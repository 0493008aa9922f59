"""The time budget, on a trainer that only pretends to train, with a clock of its own."""

import pytest
import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.training import budget
from nnunetv2_sam2_3dmed.training.budget import TimeLimit, WallClockBudget
from nnunetv2_sam2_3dmed.training.cuda_graph import STEPS_UNTIL_REPLAYED
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
    seconds_of_a_step = 2

    def __init__(self, plans, configuration, fold, dataset_json, device):
        self.logger = Log(epoch_start_timestamps=[], epoch_end_timestamps=[])
        self.current_epoch = 0
        self.iterations = self.validated = 0
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
        Clock.now += self.seconds_of_a_step
        return {}

    def validation_step(self, batch):
        self.validated += 1
        Clock.now += self.seconds_of_a_step
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

    def an_hour(compiled, steps):
        seen.append((compiled, steps, compiled.seconds_used(), compiled.iterations))
        Clock.now += 3600

    monkeypatch.setattr(budget, "compile_now", an_hour)
    monkeypatch.setattr(trainer, "_do_i_compile", lambda: True)
    trainer.run_training()
    assert seen == [(trainer, 1, 0.0, 0)]  # once, before the first step
    assert trainer.current_epoch == 9 and trainer.seconds_used() == pytest.approx(594)


def test_a_step_is_recorded_before_the_clock_starts(trainer, monkeypatch):
    seen = []
    monkeypatch.setattr(budget, "compile_now", lambda *given: seen.append(given))
    trainer.can_be_graphed = lambda: True
    trainer.run_training()
    assert seen == [(trainer, STEPS_UNTIL_REPLAYED)]


def test_nothing_is_compiled_where_nnunet_does_not(trainer, monkeypatch):
    monkeypatch.setattr(budget, "compile_now", lambda *_: pytest.fail("compiled"))
    trainer.run_training()
    assert trainer.current_epoch == 9


def test_an_epoch_that_takes_longer_than_the_budget_ends_with_it(trainer):
    """Steps of 40 s: 25 of them would be 1000 s, and another 200 s of validation."""
    trainer.seconds_of_a_step = 40
    ended = []
    trainer.on_train_epoch_end = lambda outputs: ended.append(len(outputs))
    trainer.on_validation_epoch_end = lambda outputs: ended.append(len(outputs))
    trainer.run_training()
    # the 15th step ends at 600 s; validation may last to 660 s, which its second step is the first to reach
    assert ended == [15, 2] and trainer.current_epoch == 1
    assert trainer.seconds_used() == 600 + 80 + 6


def test_the_last_of_several_epochs_ends_with_the_budget(trainer):
    """Nine epochs of 66 s would leave 6 s. A machine that gets busy in the ninth has 72 s for it."""

    def step(batch):
        trainer.iterations += 1
        Clock.now += 10 if trainer.iterations > 200 else 2

    trainer.train_step = step
    trainer.run_training()
    assert trainer.current_epoch == 9 and trainer.iterations == 200 + 8  # 8 * 10 s are the first to reach 72 s
    assert trainer.seconds_used() == 8 * 66 + 80 + 5 * 2 + 6


def test_the_learning_rate_follows_the_clock_within_an_epoch(trainer):
    """After each iteration it is the schedule's at the seconds that are used up by then."""
    found, step = [], trainer.train_step

    def train_step(batch):
        found.append((trainer.seconds_used(), trainer.optimizer.param_groups[0]["lr"]))
        return step(batch)

    trainer.train_step = train_step
    trainer.run_training()
    reference = CosineSchedule(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), 500)
    assert len(found) > 25
    for seconds, rate in found:
        assert rate == pytest.approx(reference.share(500 * seconds / 600))


def test_however_slow_one_step_of_each_is_done(trainer):
    trainer.seconds_of_a_step = 1000
    trainer.run_training()
    assert (trainer.current_epoch, trainer.iterations, trainer.validated) == (1, 1, 1)


def test_an_epoch_that_was_cut_short_is_not_continued(trainer):
    trainer.seconds_of_a_step = 40
    trainer.run_training()
    continued = TenMinutes({}, "3d", 0, {}, torch.device("cpu"))
    continued.logger, continued.current_epoch = trainer.logger, trainer.current_epoch
    continued.run_training()
    assert continued.current_epoch == 1 and continued.iterations == 0


class OneOfTwo:
    """The budget of one of two processes: its own clock, and what the first process says."""

    is_ddp = True

    def __init__(self, told=None):
        self.now, self.told, self.said = 0.0, told, []

    def seconds_used(self):
        return self.now

    def agreed(self, value):
        self.said.append(value if self.told is None else self.told[len(self.said)])
        return self.said[-1]


@pytest.mark.parametrize(
    "seconds, waits",
    [
        (0.125, [10] * 7 + [9, 0]),  # after iterations 1, 11, ... 71 and 80, the last
        (1.0, [5, 4, 0]),  # after iterations 1, 6 and 10
        (30.0, [0]),
    ],
)
def test_all_processes_end_an_epoch_after_the_same_iteration(seconds, waits):
    first, iterations = OneOfTwo(), 1
    over = TimeLimit(first, 10.0)
    first.now = seconds
    while not over():
        iterations += 1
        first.now += seconds
    assert first.said == waits
    second = OneOfTwo(first.said)  # whose clock says that there is no end in sight
    also_over = TimeLimit(second, 10.0)
    assert [also_over() for _ in range(iterations)] == [False] * (iterations - 1) + [True]
    assert second.said == waits  # they talked at the same iterations


def test_a_trainer_whose_optimizer_changes_after_epochs_is_refused():
    named = type("Primus_10minutes_seed1", (TenMinutes,), {})
    with pytest.raises(UserError, match="Primus_10minutes_seed1 has a new optimizer .* such as Primus_20epochs"):
        named({}, "3d", 0, {}, torch.device("cpu")).configure_optimizers("warmup_all")


def test_what_follows_the_clock_is_called_wherever_it_was_asked_and_is_not_over():
    asked, called = OneOfTwo([5, 4, 0]), []
    over = TimeLimit(asked, 10.0, not_over=lambda: called.append(len(asked.said)))
    assert [over() for _ in range(10)] == [False] * 9 + [True]
    assert called == [1, 2]
