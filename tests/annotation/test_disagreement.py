"""Numbers worked out by hand, with a session that answers what the test says."""

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.annotation.disagreement import (
    SegmentedObject,
    between_directions,
    between_prompts,
    between_slices,
    segmented_objects,
)
from nnunetv2_sam2_3dmed.images.volumes import volume_from_array
from nnunetv2_sam2_3dmed.interactive import PromptError
from nnunetv2_sam2_3dmed.interactive.prompts import SlicePrompt
from nnunetv2_sam2_3dmed.interactive.results import PromptedSlice

SHAPE = (5, 6, 7)


def block(*slices: int, rows: slice = slice(1, 3), columns: slice = slice(2, 6)) -> np.ndarray:
    """Two rows of four voxels on each of ``slices``."""
    mask = np.zeros(SHAPE, dtype=bool)
    for index in slices:
        mask[index, rows, columns] = True
    return mask


class ScriptedSession:
    """Session that records prompts and returns the next of ``masks`` after a propagation (None: nothing found)."""

    def __init__(self, *masks, direction=None):
        self.image = volume_from_array(np.zeros(SHAPE), (1, 1, 1), direction=direction)
        self.masks = list(masks)
        self.asked = []

    def reset(self):
        self.asked.append("reset")

    def add_points(self, points, labels, object_id, axis):
        self.asked.append(("points", points, labels, object_id, axis))

    def add_box(self, first, last, object_id, axis):
        self.asked.append(("box", first, last, object_id, axis))

    def add_mask(self, mask, index, object_id, axis):
        self.asked.append(("mask", int(mask.sum()), index, object_id, axis))

    def propagate(self, object_ids, axis, slices=None):
        self.asked.append(("propagate", object_ids, axis, slices))
        self.found = self.masks.pop(0)
        if self.found is None:
            raise PromptError("sees nothing")

    def mask(self, object_id):
        return self.found


def test_a_click_is_set_against_a_box():
    first = block(1, 2, 3)  # 24 voxels
    session = ScriptedSession(block(2, 3))  # 16, all of them common
    assert between_prompts(session, SegmentedObject(4, 0, 2, True, first)) == pytest.approx(1 - 2 * 16 / (24 + 16))
    # the four voxels furthest from the edge are those in the middle of both rows
    _, (kind, ((z, y, x),), label, *rest), propagated = session.asked
    assert (kind, label, rest) == ("points", 1, [4, 0]) and z == 2 and y in (1, 2) and x in (3, 4)
    assert propagated == ("propagate", [4], 0, None)


def test_the_second_prompt_goes_no_further_than_the_first():
    session = ScriptedSession(block(2, 3))
    between_prompts(session, SegmentedObject(4, 0, 2, True, block(1, 2, 3), extent=(1, 3)))
    assert session.asked[-1] == ("propagate", [4], 0, (1, 3))


@pytest.mark.parametrize(
    ("direction", "corners"),
    [
        (None, ([2, 1, 2], [2, 3, 6])),
        # rows and columns are shown the other way round: the box ends behind its last voxel as it is seen
        (np.diag([-1.0, -1.0, 1.0]), ([2, 2, 5], [2, 0, 1])),
    ],
)
def test_a_box_is_set_against_all_else(direction, corners):
    session = ScriptedSession(block(1, 2, 3), direction=direction)
    assert between_prompts(session, SegmentedObject(1, 0, 2, False, block(1, 2, 3))) == 0
    assert session.asked[1] == ("box", *corners, 1, 0)


def test_nothing_seen_is_nothing_in_common():
    assert between_prompts(ScriptedSession(None), SegmentedObject(1, 0, 2, True, block(2))) == 1
    empty = ScriptedSession()
    assert between_prompts(empty, SegmentedObject(1, 0, 0, True, block(2))) == 1 and not empty.asked


def test_out_and_back_on_both_sides():
    first = block(0, 1, 2, 3)
    # back from slice 0: slice 1 comes back whole, slice 2 in half; from slice 3: nothing on slice 2
    half = block(2, rows=slice(1, 2))
    session = ScriptedSession(block(0, 1) | half, block(3))
    # slices 2 and 1, then 2: out 8 + 8 + 8, back 8 + 4 + 0, common 8 + 4 + 0
    assert between_directions(session, SegmentedObject(1, 0, 2, True, first)) == pytest.approx(1 - 2 * 12 / (24 + 12))
    assert session.asked == [
        *("reset", ("mask", 8, 0, 1, 0), ("propagate", [1], 0, (0, 2))),
        *("reset", ("mask", 8, 3, 1, 0), ("propagate", [1], 0, (2, 3))),
    ]


def test_an_object_on_one_slice_has_no_way_back():
    assert between_directions(ScriptedSession(), SegmentedObject(1, 0, 2, True, block(2))) is None
    assert between_directions(ScriptedSession(), SegmentedObject(1, 0, 2, True, block())) is None


def test_a_last_slice_that_is_too_small_to_see():
    assert between_directions(ScriptedSession(None), SegmentedObject(1, 0, 2, True, block(2, 3))) == 1


def test_slices_along_another_axis():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:3, 2:4, 3:6] = True
    session = ScriptedSession(mask)
    assert between_directions(session, SegmentedObject(1, 2, 3, True, mask)) == 0
    assert session.asked[1:] == [("mask", 4, 5, 1, 2), ("propagate", [1], 2, (3, 5))]


def test_the_slice_of_several_with_prompts_is_the_one_with_most_of_the_object():
    session = ScriptedSession()
    session.found = block(1, 2) | block(3, rows=slice(0, 4))
    session.object_ids = [7]
    box, click = SlicePrompt.empty().with_box((0, 0, 3, 3)), SlicePrompt.empty()
    session.prompts = [PromptedSlice(7, 0, 1, box), PromptedSlice(7, 0, 3, click)]
    (segmented,) = segmented_objects(session)
    assert (segmented.object_id, segmented.axis, segmented.index, segmented.boxed) == (7, 0, 3, False)
    session.prompts = session.prompts[:1]
    assert segmented_objects(session)[0].boxed


def test_slice_boxes_are_set_against_a_3d_box_on_the_median_slice():
    first = block(0, 1, 2, 3, 4)
    propagated = block(0, 1, 2, 3, rows=slice(1, 2))
    session = ScriptedSession(propagated)
    segmented = SegmentedObject(4, 0, 2, True, first, prompted=(1, 2, 3), box=(1.0, 2.0, 3.0, 6.0))
    assert segmented.on_every_slice
    # on slices 1 to 3 alone: 24 voxels, 12 of them common
    assert between_slices(session, segmented) == pytest.approx(1 - 2 * 12 / (24 + 12))
    assert session.asked == ["reset", ("box", [2, 1, 2], [2, 3, 6], 4, 0), ("propagate", [4], 0, (1, 3))]
    assert between_slices(ScriptedSession(None), segmented) == 1


def test_the_3d_box_in_the_rows_and_columns_that_are_displayed():
    # slices, rows and columns are shown the other way round
    session = ScriptedSession(block(0, 1, 2), direction=np.diag([-1.0, -1.0, 1.0]))
    view = session.image.view(0)
    shown = view.points_back(
        np.array([[view.slice_index(1, SHAPE), 1.0, 2.0], [view.slice_index(1, SHAPE), 3.0, 6.0]]), SHAPE
    )
    segmented = SegmentedObject(1, 0, 1, True, block(0, 1, 2), prompted=(0, 1, 2), box=(1.0, 2.0, 3.0, 6.0))
    assert between_slices(session, segmented) == 0
    assert session.asked[1] == ("box", *shown.tolist(), 1, 0) and shown[0, 0] == 1


def test_after_other_prompts_the_mask_of_the_median_slice_is_propagated():
    session = ScriptedSession(block(0, 1, 2))
    assert between_slices(session, SegmentedObject(1, 0, 1, False, block(0, 1, 2), prompted=(0, 1, 2))) == 0
    assert session.asked[1:] == [("mask", 8, 1, 1, 0), ("propagate", [1], 0, (0, 2))]


@pytest.mark.parametrize(
    ("prompted", "extent", "every"),
    [
        ((1, 2, 3), None, True),
        ((1, 2, 3), (1, 3), True),
        ((1, 2, 3), (0, 3), False),
        ((1, 3, 4), None, False),
        ((1, 2), None, False),
    ],
)
def test_prompts_on_every_slice(prompted, extent, every):
    assert SegmentedObject(1, 0, 2, True, block(2), extent, prompted).on_every_slice == every


def test_the_box_around_the_boxes_of_all_slices():
    session = ScriptedSession()
    session.found, session.object_ids = block(1, 2), [1]
    boxes = [SlicePrompt.empty().with_box(box) for box in ((1, 2, 3, 4), (0, 3, 2, 6))]
    session.prompts = [PromptedSlice(1, 0, 2, boxes[0]), PromptedSlice(1, 0, 1, boxes[1])]
    (segmented,) = segmented_objects(session)
    assert segmented.prompted == (1, 2) and segmented.box == (0, 2, 3, 6)
    session.prompts[0] = PromptedSlice(1, 0, 2, boxes[0].with_points(np.array([[1.0, 2.0]]), np.array([0])))
    assert segmented_objects(session)[0].box is None
