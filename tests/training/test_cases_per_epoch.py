import pytest
from nnunetv2_sam2_3dmed.trainers.sam2_3dmed_trainers import (
    SAM2_3dMedTrainer_casesPerEpoch,
    SAM2_3dMedTrainer_innerSplit,
)


def names(count: int, start: int = 0) -> list[str]:
    return [f"case_{number:03d}" for number in range(start, start + count)]


@pytest.mark.parametrize(
    ("train", "val", "batch_size", "iterations", "validation"),
    [(32, 9, 4, 8, 3), (33, 8, 4, 9, 2), (2, 1, 4, 1, 1), (5, 5, 1, 5, 5)],
)
def test_an_epoch_holds_each_case_once(make_trainer, train, val, batch_size, iterations, validation):
    trainer = make_trainer(SAM2_3dMedTrainer_casesPerEpoch, names(train), names(val, train), batch_size)
    assert (trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch) == (250, 50)
    datasets = trainer.get_tr_and_val_datasets()
    assert (trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch) == (iterations, validation)
    assert [dataset.identifiers for dataset in datasets] == [names(train), names(val, train)]
    assert trainer.num_epochs == 500


class Both(SAM2_3dMedTrainer_casesPerEpoch, SAM2_3dMedTrainer_innerSplit):
    """As the docstring advises."""


def test_with_an_inner_split_the_cases_that_are_trained_on_count(make_trainer):
    trainer = make_trainer(Both, names(32), names(9, 32))
    trainer.get_tr_and_val_datasets()
    # 32 cases: 6 are set aside, 26 are trained on, in batches of 4
    assert (trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch) == (7, 2)
