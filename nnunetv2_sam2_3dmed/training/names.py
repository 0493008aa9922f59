"""Trainers by naming rule: ``TRAINER_Nminutes``, ``TRAINER_Nepochs`` and ``TRAINER_seedN`` of any trainer.

TRAINER is any class that nnU-Net finds: nnU-Net's own, ours, or one in a user's folder on ``nnUNet_extTrainer``. A
seed may follow a length (``TRAINER_8minutes_seed1``). nnU-Net takes a module's ``__getattr__`` for a class that the
module has, so that every such name can be given to ``-tr`` and is found again for prediction.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

import torch

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet.environment import EXT_TRAINER, search_path
from nnunetv2_sam2_3dmed.training.budget import WallClockBudget
from nnunetv2_sam2_3dmed.training.seeding import Seeded

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as _Trainer
else:
    _Trainer = object

# the classes must be the same at each look-up, and in a process that unpickles them
_made: dict[str, type] = {}
# names of which only a class that somebody has written is asked for
_written_only: set[str] = set()


class EpochBudget(_Trainer):
    """Mixin in front of any nnU-Net trainer: trains for :attr:`epochs`, as nnU-Net's ``nnUNetTrainer_Xepochs``."""

    epochs: int

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.epochs


def trainer_by_rule(name: str) -> type | None:
    """Return the trainer that a name with ``_Nminutes``, ``_Nepochs`` or ``_seedN`` stands for.

    A class of this name that somebody has written, such as nnU-Net's ``nnUNetTrainer_5epochs``, goes first.

    Returns:
        None if the name has no such ending, or what precedes it is no trainer, or already has a length or a seed by
        this rule.
    """
    if name in _made:
        return _made[name]
    seeded = re.fullmatch(r"(.+)_seed(0|[1-9]\d*)", name)
    limited = re.fullmatch(r"(.+)_([1-9]\d*)(minutes|epochs)", name)
    match = seeded or limited
    if match is None or name in _written_only:
        return None
    _written_only.add(name)
    try:
        written = _search(name)
    except (AssertionError, ImportError, SyntaxError):  # a user's module that cannot be imported has no such class
        written = None
    finally:
        _written_only.remove(name)
    base = _search(match[1]) if written is None else None
    if base is None:
        return written
    mixin = Seeded if seeded else WallClockBudget if match[3] == "minutes" else EpochBudget
    if issubclass(base, Seeded) or (limited and issubclass(base, (WallClockBudget, EpochBudget))):
        return None
    attribute = "seed" if seeded else match[3]
    members = {attribute: int(match[2]), "__module__": __name__, "__doc__": f"{match[1]} with {attribute} {match[2]}."}
    _made[name] = type(name, (mixin, *_bases(base)), members)
    return _made[name]


def __getattr__(name: str) -> type:
    trainer = None if name.startswith("__") else trainer_by_rule(name)
    if trainer is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return trainer


def _bases(trainer: type) -> tuple[type, ...]:
    """``trainer``; nnU-Net's own ones with our checks of data and losses, and checkpoints that are never cut short."""
    from nnunetv2_sam2_3dmed.training.checked import CheckedTraining
    from nnunetv2_sam2_3dmed.training.whole_files import WholeFilesTrainer

    theirs = trainer.__module__.startswith("nnunetv2.")
    return (CheckedTraining, WholeFilesTrainer, trainer) if theirs else (trainer,)


def _search(name: str) -> type | None:
    """Return the class that nnU-Net finds in itself, our trainers or the user's folders."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    try:
        with _our_trainers_on_the_path(), redirect_stdout(io.StringIO()):  # it prints where it looks
            return recursive_find_trainer_class_by_name(name)
    except RuntimeError as error:
        if not str(error).startswith("Could not find requested nnunet trainer"):
            raise
        return None


@contextmanager
def _our_trainers_on_the_path() -> Iterator[None]:
    before = os.environ.get(EXT_TRAINER)
    os.environ[EXT_TRAINER] = search_path()
    try:
        yield
    finally:
        if before is None:
            del os.environ[EXT_TRAINER]
        else:
            os.environ[EXT_TRAINER] = before


def find_trainer(name: str) -> type:
    """Return the trainer that nnU-Net finds by its name, ours included.

    Raises:
        UserError: there is none, or a module on the way to it cannot be imported.
    """
    try:
        trainer = _search(name)
    except (AssertionError, ImportError, SyntaxError) as error:
        raise UserError(
            f"the trainer {name!r} cannot be used ({type(error).__name__}: {error}): correct the module that it is in, "
            "or the one in the same folder that nnU-Net imports before it."
        ) from error
    if trainer is None:
        raise UserError(
            f"the trainer is {name!r}, expected one that nnU-Net finds in itself or in {EXT_TRAINER} "
            f"({search_path()}), perhaps with _Nminutes or _Nepochs, N at least 1, and _seedN: correct the name or add "
            "the trainer's folder to that variable."
        )
    return trainer
