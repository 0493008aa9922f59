"""Trainers with seeds, as nnU-Net's own search finds them."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.training_length.nnUNetTrainer_Xepochs import nnUNetTrainer_5epochs

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments.trainers import (
    check_seeded_names,
    find_trainer,
    write_seeded_trainers,
)
from nnunetv2_sam2_3dmed.nnunet.environment import search_path
from nnunetv2_sam2_3dmed.training.seeding import Seeded, seeded_class
from nnunetv2_sam2_3dmed.training.trainer import SAM2_3dMedTrainer

USERS = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from a_helper import EPOCHS

class UsersTrainer(nnUNetTrainer):
    epochs = EPOCHS

class nnUNetTrainer_seed5(nnUNetTrainer):
    pass
"""


@pytest.fixture
def folders(tmp_path, monkeypatch) -> str:
    """A user's folder with a trainer and a module that it imports, and the generated folder."""
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "users_trainers.py").write_text(USERS)
    (tmp_path / "users" / "a_helper.py").write_text("EPOCHS = 7\n")
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "users"))
    names = ("nnUNetTrainer_5epochs", "SAM2_3dMedTrainer", "UsersTrainer", "Missing")
    write_seeded_trainers(tmp_path / "generated", "table-1", names, (0, 7))
    return search_path(tmp_path / "generated")


@pytest.mark.parametrize("base", [nnUNetTrainer_5epochs, SAM2_3dMedTrainer])
def test_bases_of_nnunet_and_ours_are_the_very_classes(folders, base):
    found = find_trainer(f"{base.__name__}_seed7", folders)
    assert found.__name__ == f"{base.__name__}_seed7"  # the name of its results folder
    assert found.__bases__ == (Seeded, base) and found.seed == 7


def test_a_base_in_a_users_folder(folders):
    found = find_trainer("UsersTrainer_seed0", folders)
    assert (found.__bases__[1].__name__, found.epochs, found.seed) == ("UsersTrainer", 7, 0)
    assert issubclass(found, nnUNetTrainer)


def test_what_is_not_there_and_what_is_there_already(folders):
    for name in ("Missing", "Missing_seed0", "UsersTrainer_seed1"):
        with pytest.raises(UserError, match="expected one that nnU-Net finds"):
            find_trainer(name, folders)
    check_seeded_names(["UsersTrainer", "SAM2_3dMedTrainer"], [0, 7])
    with pytest.raises(UserError, match="there is a trainer nnUNetTrainer_seed5 already"):
        check_seeded_names(["nnUNetTrainer"], [5])


def test_names_of_earlier_calls_stay(folders, tmp_path):
    write_seeded_trainers(tmp_path / "generated", "table-1", ["nnUNetTrainer_5epochs"], [8])
    for seed in (0, 7, 8):
        assert find_trainer(f"nnUNetTrainer_5epochs_seed{seed}", folders).seed == seed
    assert find_trainer("UsersTrainer_seed0", folders).seed == 0
    (file,) = (tmp_path / "generated").glob("*.py")
    file.write_text(file.read_text()[:-20])
    with pytest.raises(UserError, match=r"seeded_table_1\.py cannot be read .*: remove it"):
        write_seeded_trainers(tmp_path / "generated", "table-1", ["nnUNetTrainer_5epochs"], [8])


def test_a_module_that_does_not_import(folders, tmp_path):
    (tmp_path / "users" / "a_first.py").write_text("import no_such_package\n")
    with pytest.raises(UserError, match="'UsersTrainer' cannot be used .*no_such_package"):
        find_trainer("UsersTrainer", folders)


class Draws:
    """Stands for a trainer: draws when it is made, and after its checkpoint is loaded."""

    def __init__(self, plans, configuration, fold, dataset_json, device=None):
        self.current_epoch = 0
        self.drawn = self.draw()

    def load_checkpoint(self, checkpoint):
        self.current_epoch = checkpoint

    def print_to_log_file(self, text):
        self.said = text

    @staticmethod
    def draw() -> tuple[float, ...]:
        return (random.random(), np.random.rand(), torch.rand(1).item(), *torch.nn.Linear(3, 3).weight[0].tolist())


def test_the_seed_decides_every_generator():
    zero, one = (seeded_class(Draws, seed, "somewhere") for seed in (0, 1))
    first, other, again = (trainer({}, "", 0, {}) for trainer in (zero, one, zero))
    assert first.drawn == again.drawn
    assert all(a != b for a, b in zip(first.drawn, other.drawn, strict=True))
    assert first.said == "seed 0"


def test_a_training_that_goes_on_does_not_repeat_its_draws():
    trainer = seeded_class(Draws, 0, "somewhere")({}, "", 0, {})
    draws = [trainer.drawn]
    for epoch in (1, 2):
        trainer.load_checkpoint(epoch)
        draws.append(trainer.draw())
    assert len({value for draw in draws for value in draw}) == sum(map(len, draws))
    trainer.load_checkpoint(2)
    assert trainer.draw() == draws[2]
