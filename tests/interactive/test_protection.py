"""Protected objects, and undo and redo beside them."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.interactive import PromptError
from tests.interactive.reference import phantom
from tests.interactive.test_session import BOX, SPACING


@pytest.fixture
def overlapping(session):
    """A session with the objects 1 to 3, and their masks where none is protected."""
    session.set_image(phantom(), SPACING)
    session.add_box(*BOX)
    session.add_box((3, 2, 2), (3, 38, 40), object_id=2)
    session.propagate()
    cube = np.zeros(session.image.shape, dtype=bool)
    cube[2:6, 8:30, 10:40] = True
    session.set_start(cube, object_id=3)
    masks = {number: session.mask(number) for number in (1, 2, 3)}
    for one, other in ((1, 2), (1, 3), (2, 3)):
        assert (masks[one] & masks[other]).any() and (masks[one] & ~masks[other]).any()
    return session, masks


def test_no_other_object_gets_a_voxel_of_a_protected_one(overlapping, tmp_path):
    session, masks = overlapping
    free = session.labels()
    session.protect(2)
    assert session.protected_ids == [2]
    np.testing.assert_array_equal(session.mask(2), masks[2])
    for other in (1, 3):
        np.testing.assert_array_equal(session.mask(other), masks[other] & ~masks[2])
    labels = session.labels()
    np.testing.assert_array_equal(labels == 2, masks[2])
    np.testing.assert_array_equal(labels[~masks[2]], free[~masks[2]])
    saved = sitk.GetArrayFromImage(sitk.ReadImage(str(session.save(tmp_path / "mask.nii.gz"))))
    np.testing.assert_array_equal(saved, labels)
    session.protect(2, False)
    assert session.protected_ids == []
    np.testing.assert_array_equal(session.mask(1), masks[1])
    np.testing.assert_array_equal(session.labels(), free)


def test_of_two_protected_objects_the_first_one_keeps_what_both_have(overlapping):
    session, masks = overlapping
    for number in (3, 1, 3):
        session.protect(number)
    assert session.protected_ids == [3, 1]
    expected = {3: masks[3], 1: masks[1] & ~masks[3], 2: masks[2] & ~masks[3] & ~masks[1]}
    labels = session.labels()
    for number, mask in expected.items():
        np.testing.assert_array_equal(session.mask(number), mask)
        np.testing.assert_array_equal(labels == number, mask)


def test_undo_redo_and_removal_leave_protection_as_it_is_and_reset_ends_it(overlapping):
    session, masks = overlapping
    session.protect(3)
    session.remove_object(3)
    assert session.protected_ids == []
    np.testing.assert_array_equal(session.mask(1), masks[1])
    session.undo()
    assert session.protected_ids == [3]
    session.redo()
    session.undo()
    session.undo()
    session.redo()
    assert session.protected_ids == [3]
    np.testing.assert_array_equal(session.mask(1), masks[1] & ~masks[3])
    session.reset()
    session.add_box(*BOX, object_id=3)
    assert session.protected_ids == []
    with pytest.raises(PromptError, match="there is no object 1"):
        session.protect(1)


def test_undo_and_redo_name_the_objects_whose_masks_may_differ(overlapping):
    session, masks = overlapping
    session.add_points([(5, 30, 10)], 0, object_id=1)
    assert session.undo() == [1]
    session.protect(1)
    assert session.redoable_ids == [1]
    assert session.redo() == [1, 2, 3], "what is left for the others depends on it"
    session.protect(1, False)
    session.protect(2)
    assert session.undo() == [1]
    assert session.undo() == [3]
    assert session.undoable_ids == [2]
    assert session.undo() == [1, 2], "2 is protected"
