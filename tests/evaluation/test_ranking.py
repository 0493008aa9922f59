import pytest

from nnunetv2_sam2_3dmed.evaluation.ranking import rank


def test_ranks_by_hand():
    # cases: a first, b first, a and b share first and second
    ranks = rank("Dice", {"c": [0.1, 0.2, 0.3], "b": [0.5, 0.9, 0.7], "a": [0.8, 0.6, 0.7]})
    by_method = {r.method: r.mean_rank for r in ranks}
    assert by_method == {"a": pytest.approx(4.5 / 3), "b": pytest.approx(4.5 / 3), "c": pytest.approx(3)}
    assert [r.method for r in ranks][-1] == "c"


def test_a_method_that_is_always_best_is_first_in_every_resample():
    ranks = rank("NSD", {"worse": [0.1, 0.2, 0.3, 0.4], "better": [0.2, 0.3, 0.4, 0.5]})
    assert [(r.method, r.first_share) for r in ranks] == [("better", 1), ("worse", 0)]


def test_equal_methods_share_the_first_place():
    assert [r.first_share for r in rank("Dice", {"a": [0.5, 0.6], "b": [0.5, 0.6]})] == [0.5, 0.5]
