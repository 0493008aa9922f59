"""The page's label map, which is refreshed slice by slice, is the session's."""

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.server.page_labels import LabelMap
from tests.interactive.reference import phantom


@pytest.fixture
def two_objects(beside):
    """A session with two overlapping objects, prompted on slices along one axis."""
    beside.set_image(phantom(), spacing=(3.0, 1.0, 1.0))
    beside.add_box((3, 8, 8), (3, 30, 36), object_id=1)
    beside.add_points([(3, 15, 20)], object_id=2)
    beside.add_points([(5, 12, 28)], object_id=2)
    return beside


def refreshed(session):
    found = LabelMap(session.image.shape)
    for step in session.propagation(nearest_first=True):
        found.refresh_slice(session, step.axis, step.index)
    return found


def test_slices_of_a_propagation_make_up_the_labels(two_objects):
    found = refreshed(two_objects)
    expected = two_objects.labels()
    assert set(np.unique(expected)) == {0, 1, 2}
    np.testing.assert_array_equal(found.array, expected)


@pytest.mark.parametrize("protected", [(1,), (2,), (2, 1)])
def test_protected_objects_come_first(two_objects, protected):
    for number in protected:
        two_objects.protect(number)
    found = refreshed(two_objects)
    np.testing.assert_array_equal(found.array, two_objects.labels())
    np.testing.assert_array_equal(found.array == protected[0], two_objects.mask(protected[0]))


def test_an_object_without_a_mask_along_the_axis_keeps_its_voxels(two_objects):
    start = np.zeros(two_objects.image.shape, bool)
    start[:, 2:6, 2:6] = True
    found = LabelMap(two_objects.image.shape)
    found.array[start] = 7
    found.refresh_slice(two_objects, 0, 3)
    plane = found.plane(0, 3)
    # what the prompted objects cover is theirs, the rest stays as it was
    covered = sum(two_objects.predict_slice(number, 0, 3).mask for number in (1, 2)) > 0
    np.testing.assert_array_equal(plane == 7, start[3] & ~covered)


def test_numbers_above_255_fit(beside):
    beside.set_image(phantom(), spacing=(3.0, 1.0, 1.0))
    beside.add_box((3, 8, 8), (3, 30, 36), object_id=300)
    found = LabelMap(beside.image.shape)
    found.refresh_slice(beside, 0, 3)
    np.testing.assert_array_equal(found.plane(0, 3) == 300, beside.predict_slice().mask)


def test_every_change_has_a_version_of_its_own(two_objects):
    found = LabelMap(two_objects.image.shape)
    versions = [found.version]
    found.refresh_slice(two_objects, 0, 3)
    versions.append(found.version)
    found.refresh(two_objects)
    versions.append(found.version)
    assert versions == sorted(set(versions))


STEPS = {
    "a prompt": lambda session: (session.add_points([(2, 9, 9)], 0, object_id=1), session.predict_slice(), [1])[-1],
    "an undo": lambda session: session.undo(),
    "a removal": lambda session: (session.remove_object(2), [2])[1],
    "a lock": lambda session: (session.protect(1), [1])[1],
    "a start": lambda session: (session.set_start(phantom() > 600, object_id=3), [3])[1],
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("locked", [(), (2,)], ids=["no lock", "a lock"])
def test_only_what_has_changed_is_computed_anew(two_objects, step, locked, monkeypatch):
    for number in locked:
        two_objects.protect(number)
    two_objects.propagate(slices=(1, 4))
    two_objects.add_points([(3, 30, 30)], object_id=1)
    found = LabelMap(two_objects.image.shape)
    found.refresh(two_objects)
    before = found.array.copy()
    changed = STEPS[step](two_objects)
    with monkeypatch.context() as alone:
        alone.setattr(type(two_objects), "labels", None)  # is not called
        found.refresh(two_objects, changed)
    expected = two_objects.labels()
    np.testing.assert_array_equal(found.array, expected)
    assert (expected != before).any() or (step, locked) == ("a lock", (2,))
    two_objects.add_points([(3, 20, 24)], object_id=1, axis=2)
    found.refresh(two_objects, [1])
    np.testing.assert_array_equal(found.array, two_objects.labels())
    found.refresh(two_objects, two_objects.undo())
    np.testing.assert_array_equal(found.array, two_objects.labels())
