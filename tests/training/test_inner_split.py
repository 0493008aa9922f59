import json
from pathlib import Path

import pytest
from nnunetv2_sam2_3dmed.trainers.sam2_3dmed_trainers import SAM2_3dMedTrainer_innerSplit

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.training.inner_split import inner_split

TRAIN = [f"case_{number:02d}" for number in range(32)]
VAL = [f"case_{number:02d}" for number in range(32, 41)]


@pytest.mark.parametrize(("cases", "aside"), [(2, 1), (4, 1), (9, 1), (10, 2), (32, 6)])
def test_a_fifth_is_set_aside_and_at_least_one_case(cases, aside):
    split = inner_split(TRAIN[:cases])
    assert len(split.val) == aside and len(split.train) == cases - aside
    assert sorted([*split.train, *split.val]) == TRAIN[:cases]


def test_it_is_drawn_and_is_always_the_same():
    split = inner_split(TRAIN)
    assert split.val not in (TRAIN[:6], TRAIN[-6:])
    assert inner_split(TRAIN[::-1]) == split


def test_a_single_case_cannot_be_split():
    with pytest.raises(UserError, match="1 training case.*without _innerSplit"):
        inner_split(["only"])


def test_the_trainer_stops_by_training_cases_and_validates_on_the_fold_s(make_trainer):
    trainer = make_trainer(SAM2_3dMedTrainer_innerSplit, TRAIN, VAL)
    train, val = trainer.get_tr_and_val_datasets()
    assert (train.identifiers, val.identifiers) == inner_split(TRAIN)
    assert not {*train.identifiers, *val.identifiers} & {*VAL}
    assert trainer.do_split() == (TRAIN, VAL)  # what nnU-Net's final validation asks
    record = json.loads((Path(trainer.output_folder) / "inner_split.json").read_text())
    assert record == {"train": train.identifiers, "val": val.identifiers}
