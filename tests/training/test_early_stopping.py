import math

from nnunetv2_sam2_3dmed.training.schedule import EarlyStopping


def test_it_waits_for_as_many_epochs_as_the_patience_says():
    curve = [0.1, 0.5, 0.1, 0.1, 0.1]  # averages 0.1, 0.14, then falling towards 0.1: best in epoch 1
    assert EarlyStopping(4).reason(curve) is None
    reason = EarlyStopping(3).reason(curve)
    assert "after 5 epochs" in reason and "0.1400 of epoch 1" in reason and "patience 3" in reason


def test_a_new_best_starts_the_wait_again_and_an_equal_value_does_not():
    assert EarlyStopping(2).reason([0.5, 0.4, 0.9, 0.1]) is None  # averages 0.5, 0.49, 0.531, 0.4879
    assert EarlyStopping(2).reason([0.5, 0.5, 0.5]) is not None


def test_nothing_was_found_yet():
    assert EarlyStopping(1).reason([]) is None
    assert EarlyStopping(2).reason([0.0, 0.0, 0.0, 0.0]) is None
    assert EarlyStopping(2).reason([math.nan, math.nan, math.nan]) is None


def test_an_epoch_that_cannot_be_judged_does_not_end_all_progress():
    assert EarlyStopping(2).reason([0.5, math.nan, 0.6, 0.7]) is None
    assert EarlyStopping(2).reason([0.5, math.nan, math.nan]) is not None
