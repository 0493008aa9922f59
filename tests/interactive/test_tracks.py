"""Prompts and tracks, which need no network."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_sam2_3dmed.interactive.prompts import check_points
from nnunetv2_sam2_3dmed.interactive.tracks import SliceOutput, Track


def output(number: float = 0.0) -> SliceOutput:
    return SliceOutput(*(torch.full((1, 1), number) for _ in range(5)))


@pytest.mark.parametrize(("z", "index"), [(2.4, 2), (2.6, 3), (-0.5, 0), (6.5, 6)])
def test_a_point_is_on_the_slice_whose_middle_is_nearest(z, index):
    """Voxel coordinates are those of the middles of voxels: slice 3 reaches from 2.5 to 3.5."""
    assert check_points([(z, 1, 1)], (7, 4, 5), 0)[1] == index


@pytest.mark.parametrize(
    ("presence", "expected"), [(4.0, [-10, 3, 10]), (-2.5, [-2.5, -2.5, -2.5]), (-30.0, [-10] * 3)]
)
def test_logits_to_be_averaged_are_bounded(presence, expected):
    """SAM 2's logits are all -1024 where the object is not on the slice."""
    logits = torch.tensor([-25.0, 3.0, 14.0]).view(1, 1, 1, 3) if presence > 0 else torch.full((1, 1, 1, 3), -1024.0)
    rest = [torch.full((1, 1), presence)] * 4
    track = Track().with_visit(2, False, SliceOutput(logits, *rest))
    assert track.masks((1, 3), bounded=True)[2].tolist() == [expected]
    assert track.masks((1, 3))[2].tolist() == logits[0, 0].tolist()


def test_corrections_take_the_place_of_tracked_slices_in_ascending_order():
    """SAM2VideoPredictor removes a frame with prompts from those that were tracked."""
    track = Track()
    for index in (5, 1, 3):
        track = track.with_visit(index, False, output(index)).with_answer(index, output(10 + index))
        track = track.with_visit(index + 1, False, output(index)).with_conditioning(track.answered)
    assert list(track.conditioning) == [1, 3, 5] and sorted(track.tracked) == [2, 4, 6]
    assert [track.output(index).logits.item() for index in (1, 2, 3)] == [11, 1, 13]
