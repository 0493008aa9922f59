"""Trainers by naming rule, as nnU-Net's own search finds them."""

from __future__ import annotations

import importlib
import os
import pickle
import random
import subprocess
import sys

import nnunetv2_sam2_3dmed.trainers.sam2_3dmed_trainers as found_by_nnunet
import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.training_length.nnUNetTrainer_Xepochs import nnUNetTrainer_5epochs
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunetv2_sam2_3dmed.baselines.trainers import MonaiTrainer, WarmupCosineTrainer, nnUNetTrainer_SwinUNETR
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet.environment import search_path, trainers_folder
from nnunetv2_sam2_3dmed.prompt_training.variants import SAM2_PromptTrainer_noPretrain_tuned
from nnunetv2_sam2_3dmed.training import names
from nnunetv2_sam2_3dmed.training.budget import WallClockBudget
from nnunetv2_sam2_3dmed.training.checked import CheckedTraining
from nnunetv2_sam2_3dmed.training.names import EpochBudget, find_trainer
from nnunetv2_sam2_3dmed.training.seeding import Seeded
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer
from nnunetv2_sam2_3dmed.training.variants import SAM2_3dMedTrainer_noPretrain_tuned
from nnunetv2_sam2_3dmed.training.whole_files import WholeFilesTrainer

USERS = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from a_helper import PATIENCE

class UsersTrainer(nnUNetTrainer):
    patience = PATIENCE

class UsersTrainer_8minutes(UsersTrainer):
    pass
"""


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
    """A user's folder with a module of trainers and one that it imports, on ``nnUNet_extTrainer``."""
    (tmp_path / "users_trainers.py").write_text(USERS)
    (tmp_path / "a_helper.py").write_text("PATIENCE = 7\n")
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    monkeypatch.setenv("nnUNet_extTrainer", search_path())
    monkeypatch.setattr(names, "_made", {})
    return tmp_path


@pytest.mark.parametrize(
    "base", [SAM2_3dMedTrainer_noPretrain_tuned, SAM2_PromptTrainer_noPretrain_tuned, nnUNetTrainer_SwinUNETR]
)
@pytest.mark.parametrize(
    ("ending", "mixin", "attribute", "value"),
    [
        ("45minutes", WallClockBudget, "minutes", 45),
        ("120epochs", EpochBudget, "epochs", 120),
        ("seed0", Seeded, "seed", 0),
    ],
)
def test_every_trainer_of_ours_with_every_ending(monkeypatch, base, ending, mixin, attribute, value):
    monkeypatch.setenv("nnUNet_extTrainer", trainers_folder())
    name = f"{base.__name__}_{ending}"
    found = recursive_find_trainer_class_by_name(name)
    assert found.__name__ == name  # of the results folder, and in checkpoints
    assert found.__bases__ == (mixin, base) and getattr(found, attribute) == value
    # processes of distributed training unpickle it, from the module that it says
    assert recursive_find_trainer_class_by_name(name) is found
    assert getattr(importlib.import_module(found.__module__), name) is found
    assert pickle.loads(pickle.dumps(found)) is found
    assert getattr(found_by_nnunet, name) is found


def test_nnunets_own_trainer_gets_our_checks_and_whole_files():
    for name in ("nnUNetTrainer_2minutes", "nnUNetTrainer_7epochs", "nnUNetTrainer_seed4"):
        assert find_trainer(name).__bases__[1:] == (CheckedTraining, WholeFilesTrainer, nnUNetTrainer)
    assert find_trainer("nnUNetTrainer_5epochs_seed4").__mro__[2:4] == (CheckedTraining, WholeFilesTrainer)


def test_a_class_that_somebody_has_written_goes_first(users_folder):
    assert find_trainer("nnUNetTrainer_5epochs") is nnUNetTrainer_5epochs
    assert find_trainer("nnUNetTrainer_5epochs_seed7").__bases__[-1] is nnUNetTrainer_5epochs
    written = recursive_find_trainer_class_by_name("UsersTrainer_8minutes")
    assert written.__module__ == "users_trainers" and not issubclass(written, WallClockBudget)


def test_a_base_in_a_users_folder(users_folder):
    found = find_trainer("UsersTrainer_20minutes_seed3")
    seeded, limited = found.__mro__[0], found.__bases__[1]
    assert (seeded.seed, limited.__name__, limited.minutes, found.patience) == (3, "UsersTrainer_20minutes", 20, 7)
    assert issubclass(found, nnUNetTrainer) and limited.__bases__[1].__name__ == "UsersTrainer"


@pytest.mark.parametrize(
    "name",
    [
        *("nnUNetTrainer_0minutes", "nnUNetTrainer_0epochs", "nnUNetTrainer_08minutes", "nnUNetTrainer_seed01"),
        *("nnUNetTrainer_8minutes_5epochs", "nnUNetTrainer_seed1_seed2", "nnUNetTrainer_seed1_8minutes"),
        *("nnUNetTrainer_-1minutes", "nnUNetTrainer_1.5minutes", "Missing", "Missing_8minutes", "Missing_seed0"),
    ],
)
def test_names_that_stand_for_nothing(name):
    with pytest.raises(UserError, match=f"the trainer is '{name}', expected one that nnU-Net finds"):
        find_trainer(name)
    assert not hasattr(names, name) and not hasattr(found_by_nnunet, name)


def test_nnunet_says_itself_that_it_has_not_found_it(monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", trainers_folder())
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer nnUNetTrainer_0minutes"):
        recursive_find_trainer_class_by_name("nnUNetTrainer_0minutes")


def test_a_module_that_does_not_import(users_folder):
    (users_folder / "a_first.py").write_text("import no_such_package\n")
    with pytest.raises(UserError, match="'UsersTrainer' cannot be used .*no_such_package"):
        find_trainer("UsersTrainer")
    # our own trainers are found before it, also those by rule
    assert find_trainer("SAM2_3dMedTrainer_9minutes").__bases__ == (WallClockBudget, SAM2_3dMedTrainer)


def test_a_process_that_has_not_looked_for_it_unpickles_it(tmp_path):
    file = tmp_path / "trainer.pkl"
    file.write_bytes(pickle.dumps(find_trainer("SAM2_3dMedTrainer_3minutes_seed2")))
    code = f"import pickle; print(pickle.load(open({str(file)!r}, 'rb')).__mro__[1:3])"
    clean = {name: value for name, value in os.environ.items() if name != "nnUNet_extTrainer"}
    printed = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True).stdout
    assert "Seeded" in printed and "SAM2_3dMedTrainer_3minutes" in printed


def test_the_table_lists_every_trainer_once():
    # those that others derive from, and cannot be trained
    abstract = {MonaiTrainer, WarmupCosineTrainer}
    expected = []
    for name in found_by_nnunet.TRAINERS:
        module = importlib.import_module(f"nnunetv2_sam2_3dmed.{name}")
        classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, nnUNetTrainer)]
        expected += [c.__name__ for c in classes if c.__module__ == module.__name__ and c not in abstract]
    assert sorted(found_by_nnunet.__all__) == sorted(expected)
    assert all(getattr(found_by_nnunet, name).__name__ == name for name in expected)


class Draws:
    """Stand-in for a trainer: draws when it is made, and after its checkpoint is loaded."""

    def __init__(self, plans, configuration, fold, dataset_json, device=None):
        self.num_epochs = 1000
        self.current_epoch = 0
        self.drawn = self.draw()

    def load_checkpoint(self, checkpoint):
        self.current_epoch = checkpoint

    def print_to_log_file(self, text):
        self.said = text

    @staticmethod
    def draw() -> tuple[float, ...]:
        return (random.random(), np.random.rand(), torch.rand(1).item(), *torch.nn.Linear(3, 3).weight[0].tolist())


def seeded(seed: int) -> Draws:
    return type("Trainer", (Seeded, Draws), {"seed": seed})({}, "", 0, {})


def test_the_seed_decides_every_generator():
    first, other, again = seeded(0), seeded(1), seeded(0)
    assert first.drawn == again.drawn
    assert all(a != b for a, b in zip(first.drawn, other.drawn, strict=True))
    assert first.said == "seed 0"


def test_a_training_that_goes_on_does_not_repeat_its_draws():
    trainer = seeded(0)
    draws = [trainer.drawn]
    for epoch in (1, 2):
        trainer.load_checkpoint(epoch)
        draws.append(trainer.draw())
    assert len({value for draw in draws for value in draw}) == sum(map(len, draws))
    trainer.load_checkpoint(2)
    assert trainer.draw() == draws[2]


def test_each_gpu_draws_its_own(monkeypatch):
    alone = seeded(3).drawn
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    draws = []
    for rank in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        draws.append(seeded(3).drawn)
    assert draws[0] == alone
    assert len({value for draw in draws for value in draw}) == sum(map(len, draws))


def test_the_number_of_epochs():
    assert type("Trainer", (EpochBudget, Draws), {"epochs": 12})({}, "", 0, {}).num_epochs == 12


def test_the_trainer_of_the_paper_is_found():
    assert find_trainer("SAM2_3dMedTrainer") is SAM2_3dMedTrainer
