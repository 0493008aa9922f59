import math

from nnunetv2_sam2_3dmed.training.early_stopping import EarlyStopping


def test_it_waits_for_as_many_epochs_as_the_patience_says():
    curve = [0.1, 0.5, 0.4, 0.4, 0.4]  # best in epoch 1, three epochs ago
    assert EarlyStopping(4).reason(curve) is None
    reason = EarlyStopping(3).reason(curve)
    assert "after 5 epochs" in reason and "0.5000 of epoch 1" in reason and "patience 3" in reason


def test_a_new_best_starts_the_wait_again_and_an_equal_value_does_not():
    assert EarlyStopping(2).reason([0.5, 0.4, 0.6, 0.5]) is None
    assert EarlyStopping(2).reason([0.5, 0.5, 0.5]) is not None


def test_nothing_to_judge_yet():
    assert EarlyStopping(1).reason([]) is None


def test_epochs_without_a_dice_are_no_progress():
    assert EarlyStopping(2).reason([0.5, math.nan, math.nan]) is not None
    assert EarlyStopping(2).reason([math.nan, math.nan]) is None
