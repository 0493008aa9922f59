"""Corrections after propagations, by a user whose model is scripted."""

import numpy as np

from nnunetv2_sam2_3dmed.prompt_evaluation.protocols import protocols
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import Click

SHAPE = (4, 9, 9)


def truth() -> np.ndarray:
    gt = np.zeros(SHAPE, dtype=bool)
    gt[:3, 2:7, 2:7] = True
    return gt


class Scripted:
    """User whose masks after each propagation are given; clicks on ``refused`` slices are taken back."""

    def __init__(self, *masks: np.ndarray, refused: tuple[int, ...] = ()):
        self.gt, self.masks, self.refused = {1: truth()}, list(masks), refused
        self.asked: list = []
        self.extents: list = []

    def box(self, number, index, box):
        self.asked.append(("box", index, box))
        return True

    def click(self, number, index, click):
        self.asked.append(("click", index, click))
        return index not in self.refused

    def propagate(self, number, extent=None):
        self.extents.append(extent)
        self.current = self.masks.pop(0)

    def found(self, number):
        return self.current


def corrected(user: Scripted, protocol: str = "box_corrected") -> list:
    return list(protocols()[protocol].interact(user, 1, np.random.default_rng(0)))


def test_each_click_is_on_the_worst_slice_of_the_last_propagation():
    missed, too_much = truth(), truth()
    missed[2] = False  # 25 voxels
    missed[0, 2, 2:7] = False  # 5
    too_much[3, 1:4, 1:4] = True  # 9 voxels where there is no object
    user = Scripted(missed, too_much, truth())
    turns = corrected(user)
    assert user.asked == [
        ("box", 1, (2, 2, 7, 7)),
        ("click", 2, Click(4, 4, 1)),
        ("click", 3, Click(2, 2, 0)),
    ]
    # the object is whole after two of three clicks
    assert [(turn.number, turn.prompts, turn.rejected) for turn in turns] == [(1, 1, 0), (2, 2, 0), (3, 3, 0)]
    assert [int((turn.found ^ truth()).sum()) for turn in turns] == [30, 9, 0]
    assert user.extents == [None] * 3


def test_with_named_ends_each_propagation_stays_between_them():
    missed = truth()
    missed[2] = False
    user = Scripted(missed, truth())
    assert len(corrected(user, "box_within_corrected")) == 2
    assert user.extents == [(0, 2)] * 2 and user.asked[1] == ("click", 2, Click(4, 4, 1))


def test_a_click_without_effect_is_not_repeated():
    missed = truth()
    missed[2] = False
    user = Scripted(*[missed] * 4, refused=(2,))
    turns = corrected(user)
    clicks = [asked[2] for asked in user.asked[1:]]
    assert len(clicks) == len(set(clicks)) == 3 and all(click.label == 1 for click in clicks)
    assert [(turn.prompts, turn.rejected) for turn in turns] == [(1, 0), (1, 1), (1, 2), (1, 3)]
