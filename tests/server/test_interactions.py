"""Prompts of viewers on their slices, by hand and by formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive import PromptError
from nnunetv2_sam2_3dmed.server.interactions import (
    BoxOnSlice,
    Drawing,
    box_on_slice,
    check_inside,
    check_point,
    drawing_on_slice,
    extents,
    own_axis,
    points_of_box,
    points_of_stroke,
)

SHAPE = (7, 40, 48)


@pytest.mark.parametrize(
    ("shape", "spacing", "axis"),
    [
        ((1, 40, 48), (1, 1, 1), 0),
        ((40, 1, 48), (9, 1, 1), 1),
        (SHAPE, (3, 1, 1), 0),
        (SHAPE, (0.8, 1.2, 0.9), 1),  # exactly 1.5 times the smallest
        (SHAPE, (0.8, 1.19, 0.9), 2),
        (SHAPE, (1, 1, 1), 2),
    ],
)
def test_the_axis_of_an_image_is_that_of_thick_slices_or_the_learned_one(shape, spacing, axis):
    assert own_axis(shape, spacing, learned=2) == axis


def test_boxes_are_rounded_half_to_even_and_clipped():
    assert box_on_slice([(2.5, 3.4), (-4, 12.4), (40, 99)], SHAPE, 0) == BoxOnSlice(0, (2, 0, 40), (2, 11, 47))
    for outside in ([(7, 8), (0, 5), (0, 5)], [(0, 1), (-9, 0), (0, 5)]):
        with pytest.raises(PromptError, match="outside the image of 7 x 40 x 48"):
            box_on_slice(outside, SHAPE, 0)
    with pytest.raises(PromptError, match="from 3 to 3 along axis 1"):
        box_on_slice([(0, 1), (3, 3.2), (0, 5)], SHAPE, 0)


def test_a_box_lies_on_the_slice_of_its_axis_of_width_1():
    assert box_on_slice(((2, 5), (4, 5), (10, 20)), SHAPE, preferred=0) == BoxOnSlice(1, (2, 4, 10), (4, 4, 19))
    assert box_on_slice(((2, 3), (4, 5), (10, 20)), SHAPE, preferred=1).axis == 1
    assert box_on_slice(((2, 3), (4, 5), (10, 20)), SHAPE, preferred=2).axis == 0
    with pytest.raises(PromptError, match="3 x 2 x 10 voxels"):
        box_on_slice(((2, 5), (4, 6), (10, 20)), SHAPE, preferred=0)


def test_clipping_makes_no_slice_of_a_box():
    # of the second axis, one voxel is inside
    assert box_on_slice(((2, 3), (39, 50), (10, 20)), SHAPE, preferred=1) == BoxOnSlice(0, (2, 39, 10), (2, 39, 19))
    with pytest.raises(PromptError, match="4 x 9 x 10 voxels"):
        box_on_slice(((6, 10), (4, 13), (10, 20)), SHAPE, preferred=0)


def test_a_negative_box_has_five_points():
    points = points_of_box(BoxOnSlice(1, (0, 4, 10), (8, 4, 20)))
    np.testing.assert_array_equal(points, [(4, 4, 15), (2, 4, 12.5), (2, 4, 17.5), (6, 4, 12.5), (6, 4, 17.5)])


def test_a_drawing_lies_in_its_box():
    assert check_inside([(1, 2), (3, 9), (5, 48)], SHAPE, (1, 6, 43)) == ((1, 2), (3, 9), (5, 48))
    for box in ([(1, 2), (3, 9), (5, 49)], [(-1, 0), (3, 9), (5, 48)], [(1, 1), (3, 9), (5, 48)]):
        with pytest.raises(UserError, match="inside the image of 7 x 40 x 48"):
            check_inside(box, SHAPE, (1, 6, 43))
    with pytest.raises(UserError, match="has 1 x 6 x 42 voxels, but its interaction_bbox 1 x 6 x 43"):
        check_inside([(1, 2), (3, 9), (5, 48)], SHAPE, (1, 6, 42))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("crop", [True, False])
def test_a_drawing_is_placed_on_its_slice(axis, crop):
    whole = np.zeros(SHAPE, np.uint8)
    index = (3, 17, 30)[axis]
    plane = np.moveaxis(whole, axis, 0)[index]
    plane[2:6, 4:7] = 255
    box = extents(whole) if crop else tuple((0, length) for length in SHAPE)
    drawn = whole[tuple(slice(*ends) for ends in box)]
    found = drawing_on_slice(drawn, box, SHAPE, preferred=0)
    assert (found.axis, found.index) == (axis, index)
    np.testing.assert_array_equal(found.mask, plane > 0)


def test_of_several_flat_axes_the_preferred_one_counts():
    drawn = np.ones((1, 1, 9))
    assert drawing_on_slice(drawn, ((2, 3), (5, 6), (0, 9)), SHAPE, preferred=1).axis == 1
    # the part that was sent is flat along axis 0, whatever was drawn in it
    drawn = np.zeros((1, 8, 9))
    drawn[0, 2, 3:5] = 1
    assert drawing_on_slice(drawn, ((2, 3), (0, 8), (0, 9)), SHAPE, preferred=1).axis == 0


def test_drawings_without_a_slice():
    box = ((0, 3), (0, 4), (0, 5))
    with pytest.raises(PromptError, match="is empty"):
        drawing_on_slice(np.zeros((3, 4, 5)), box, SHAPE, 0)
    with pytest.raises(PromptError, match="covers 2 x 3 x 4 voxels"):
        drawn = np.zeros((3, 4, 5))
        drawn[1:, :3, 1:] = 1
        drawing_on_slice(drawn, box, SHAPE, 0)


@pytest.mark.parametrize("thickness", [1, 3])
def test_points_of_a_stroke_are_spread_along_its_middle(thickness):
    line = np.zeros((40, 48), bool)
    line[20, 4:44] = True
    mask = line if thickness == 1 else binary_dilation(line, np.ones((thickness, thickness)))
    points = points_of_stroke(Drawing(1, 5, mask))
    assert len(points) == 8 and len(np.unique(points, axis=0)) == 8
    assert (points[:, 1] == 5).all() and np.abs(points[:, 0] - 20).max() <= thickness - 1
    along = np.sort(points[:, 2])
    # the first in the middle, then the ends, then halves of what is left
    assert abs(points[0, 2] - 23.5) <= 1
    assert along[0] <= 5 and along[-1] >= 42
    assert np.diff(along).min() >= 4


def test_points_of_small_strokes():
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    np.testing.assert_array_equal(points_of_stroke(Drawing(2, 1, mask)), [[4, 4, 1]])
    mask[4, 5] = True
    found = {tuple(point) for point in points_of_stroke(Drawing(0, 2, mask))}
    assert found <= {(2, 4, 4), (2, 4, 5)} and found


def test_points_are_rounded_half_to_even():
    assert check_point((-0.5, 39.4, 46.5), SHAPE) == (0, 39, 46)
    for point in ((0, 0, 47.6), (-0.6, 0, 0), (7, 0, 0)):
        with pytest.raises(PromptError, match="outside the image of 7 x 40 x 48"):
            check_point(point, SHAPE)


def test_extents():
    array = np.zeros((4, 5))
    assert extents(array) is None
    array[1, 2] = array[3, 0] = 1
    assert extents(array) == ((1, 4), (0, 3))
