"""Training for a stated time instead of a stated number of epochs.

Two methods are compared fairly on the same machine when both get the same number of minutes and both
anneal their learning rate over exactly those minutes. :class:`WallClockBudget` adds that to any nnU-Net
trainer without touching its optimizer, loss, sampling or augmentation.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from statistics import median
from time import time
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.training.cuda_graph import STEPS_UNTIL_REPLAYED
from nnunetv2_sam2_3dmed.training.epoch import run_epoch

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as _Trainer
else:
    _Trainer = object


def compile_now(trainer: _Trainer, steps: int = 1) -> None:
    """Compile and record before the clock starts, by training steps and a validation step that change nothing.

    Weights, the optimizer's and the scaler's state, and torch's random numbers are what they were before.

    Args:
        trainer: with its data loaders.
        steps: of the training; the loaders give a batch for each, and one for the validation.
    """
    scaler = trainer.grad_scaler
    weights = {name: value.detach().cpu().clone() for name, value in trainer.network.state_dict().items()}
    optimizer, scaling = deepcopy(trainer.optimizer.state_dict()), None if scaler is None else scaler.state_dict()
    devices = [trainer.device] if trainer.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        trainer.network.train()
        for _ in range(steps):
            trainer.train_step(next(trainer.dataloader_train))
        trainer.network.eval()
        with torch.no_grad():
            trainer.validation_step(next(trainer.dataloader_val))
    trainer.network.load_state_dict(weights)
    trainer.optimizer.load_state_dict(optimizer)
    trainer.optimizer.zero_grad(set_to_none=True)
    if scaler is not None and scaling is not None:
        scaler.load_state_dict(scaling)


class BudgetSchedule:
    """Step a trainer's own schedule by the share of the budget that is used up, not by epochs.

    Args:
        schedule: what the trainer's ``configure_optimizers`` returned; its ``step`` takes an epoch number.
        trainer: the trainer; its schedule spans ``trainer.num_epochs``.
    """

    def __init__(self, schedule: Any, trainer: WallClockBudget):
        self.schedule = schedule
        self.trainer = trainer

    def step(self, current_epoch: int) -> None:
        # a schedule that ends at exactly zero would waste the last epoch
        self.schedule.step(min(self.trainer.share_done() * self.trainer.num_epochs, self.trainer.num_epochs - 1))


class TimeLimit:
    """Check after each iteration of an epoch if the time is over.

    In a group of processes the first one's clock decides for all. They ask it after the first iteration, then about
    every :attr:`seconds_between`, and after :attr:`most_between` iterations at the latest, since an iteration may
    suddenly take long.

    Args:
        trainer: whose budget it is.
        end: in seconds of the budget.
        not_over: called each time that the clock says so, in all processes after the same iteration.
    """

    seconds_between = 5.0
    most_between = 10

    def __init__(self, trainer: WallClockBudget, end: float, not_over: Callable[[], None] | None = None):
        self.trainer = trainer
        self.end = end
        self.not_over = not_over
        self._asked_at = trainer.seconds_used()
        self._since = 0  # iterations since then
        self._wait = 1  # iterations from then to the next time, the same in all processes

    def __call__(self) -> bool:
        self._since += 1
        if self._since < self._wait:
            return False
        now = self.trainer.seconds_used()
        # one message says both: how many iterations to wait, none because the time is over
        self._wait = int(self.trainer.agreed(0 if now >= self.end else self._iterations_to_wait(now)))
        self._asked_at, self._since = now, 0
        if self._wait and self.not_over is not None:
            self.not_over()
        return self._wait == 0

    def _iterations_to_wait(self, now: float) -> int:
        if not self.trainer.is_ddp:
            return 1  # nobody is asked
        each = max((now - self._asked_at) / self._since, 1e-3)
        return max(1, int(min(self.seconds_between / each, (self.end - now) / each, self.most_between)))


class WallClockBudget(_Trainer):
    """Mixin in front of an nnU-Net trainer: trains for :attr:`minutes` and then stops.

    The time counted is the wall clock from the start of the first epoch, with everything that a trainer does
    between epochs. What an interrupted training used is read from its log, so that ``--c`` gets the rest.
    Start-up, compilation, the recording of a CUDA graph and the final validation are not counted. Epochs are short, so
    that the last one ends near the budget: training stops when another epoch, as long as the last, would end more than
    half an epoch late. An epoch that takes longer than expected ends when the budget does: its iterations stop, at
    least one having been done, and those of its validation within another tenth of the budget. The learning rate
    follows the clock within epochs too: in a training of a few minutes an epoch is a large share of it.
    """

    minutes: float
    grace = 0.1  # of the budget: how late the validation of the last epoch may end
    iterations_per_epoch = 25
    val_iterations_per_epoch = 5

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = self.iterations_per_epoch
        self.num_val_iterations_per_epoch = self.val_iterations_per_epoch
        self.save_every = 5
        self._seconds_before = 0.0  # used up before this process took over
        self._started: float | None = None

    def configure_optimizers(self, *stage: str):
        if stage:  # nnUNetTrainer_warmup and Primus
            name = type(self).__name__
            base = name.partition(f"_{self.minutes:g}minutes")[0]  # a seed may follow
            raise UserError(
                f"{name} has a new optimizer after a number of epochs, which a training for minutes does not have: "
                f"train for epochs, such as {base}_20epochs."
            )
        optimizer, schedule = super().configure_optimizers()
        return optimizer, BudgetSchedule(schedule, self)

    def _logged_epochs(self) -> list[float]:
        """Seconds of each finished epoch of an earlier process, with the usual pause that followed it."""
        starts = self.logger.get_value("epoch_start_timestamps", step=None)
        ends = self.logger.get_value("epoch_end_timestamps", step=None)
        # the median, because the time between an interruption and --c is a pause as well
        pauses = [start - end for start, end in zip(starts[1:], ends)]
        usual = median(pauses) if pauses else 0.0
        return [end - start + usual for start, end in zip(starts, ends)]

    def agreed(self, value: float) -> float:
        """The first process's value: clocks differ between processes, and all must do the same."""
        if not self.is_ddp:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def seconds_used(self) -> float:
        """Seconds of the budget that are used up."""
        return self._seconds_before + (time() - self._started if self._started is not None else 0.0)

    def share_done(self) -> float:
        """Share of the budget that is used up, 0 to 1; the same in all processes."""
        return min(self.agreed(self.seconds_used()) / (60 * self.minutes), 1.0)

    def budget_is_used_up(self, epoch_seconds: float) -> bool:
        """Check if another epoch of ``epoch_seconds`` would overrun the budget by more than half of itself."""
        return self.agreed(self.seconds_used() + epoch_seconds / 2) > 60 * self.minutes

    def run_training(self) -> None:
        self.on_train_start()
        logged = self._logged_epochs()
        self._seconds_before = sum(logged)
        epoch_seconds = logged[-1] if logged else 0.0
        graphed = getattr(self, "can_be_graphed", bool)()  # of our trainers
        steps = STEPS_UNTIL_REPLAYED if graphed else int(self._do_i_compile())
        if steps and not self.budget_is_used_up(epoch_seconds):
            compile_now(self, steps)
        budget = 60 * self.minutes
        self._started = time()
        while not self.budget_is_used_up(epoch_seconds):
            before = self.seconds_used()
            training = TimeLimit(self, budget, not_over=lambda: self.lr_scheduler.step(self.current_epoch))
            run_epoch(self, training, TimeLimit(self, budget * (1 + self.grace)))
            epoch_seconds = self.seconds_used() - before
        self.print_to_log_file(
            f"Stopped after {self.seconds_used() / 60:.1f} minutes of training "
            f"(budget: {self.minutes:g} minutes, {self.current_epoch} epochs)"
        )
        self.on_train_end()
