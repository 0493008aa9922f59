"""One object, prompted in millimetres, in copies of a volume that are stored in other ways."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nnunetv2_sam2_3dmed.images.orientation import (
    LEFT,
    POSTERIOR,
    SUPERIOR,
    axis_along,
    normal_along,
    patient_axes,
    view_along,
)
from nnunetv2_sam2_3dmed.images.volumes import Volume, volume_from_array
from tests.interactive.reference import phantom

SPACING = (3.0, 0.8, 1.1)
ORIGIN = (-20.0, 15.0, 100.0)


def rotation(degrees: float, axis: int) -> np.ndarray:
    a, b = (k for k in range(3) if k != axis)
    matrix = np.eye(3)
    turn = np.deg2rad(degrees)
    matrix[a, a] = matrix[b, b] = np.cos(turn)
    matrix[a, b], matrix[b, a] = -np.sin(turn), np.sin(turn)
    return matrix


def stored_as(order: tuple[int, int, int], flips: tuple[bool, bool, bool], turned: np.ndarray | None = None) -> Volume:
    """The phantom with its axes exchanged and turned, at the same place in space, or with all of space rotated."""
    array = phantom()
    matrix = np.eye(3) if turned is None else turned
    original = volume_from_array(array, SPACING, ORIGIN)
    copy = np.ascontiguousarray(np.flip(array.transpose(order), [k for k in range(3) if flips[k]]))
    corner = np.zeros(3)  # of the phantom, where the copy has its voxel 0
    for k in range(3):
        corner[order[k]] = array.shape[order[k]] - 1 if flips[k] else 0
    steps = np.zeros((3, 3))  # columns: a step along the copy's index axes x, y, z in space
    for k in range(3):
        steps[2 - order[k], 2 - k] = -1 if flips[k] else 1
    spacing = [SPACING[k] for k in order]
    return volume_from_array(copy, spacing, matrix @ original.to_physical(corner[None])[0], matrix @ steps, name="copy")


def segmented(session, volume: Volume, space: np.ndarray, patient_axis: int) -> np.ndarray:
    """Voxels of the mask in mm, in the space of the phantom that was not rotated; sorted."""
    reference = volume_from_array(phantom(), SPACING, ORIGIN)
    axis = next(k for k in range(3) if view_along(volume.direction, k).order == view_order(volume, patient_axis, k))
    voxels = {0: [(3, 10, 12), (3, 30, 33)], 1: [(1, 16, 12), (5, 16, 33)], 2: [(1, 10, 20), (5, 30, 20)]}[patient_axis]
    corners = volume.to_voxels(reference.to_physical(np.array(voxels)) @ space.T)
    session.set_image(volume)
    session.add_box(corners[0], corners[1], axis=axis)
    corner = volume.to_voxels(reference.to_physical(np.array(voxels[:1]) + 1 - np.eye(3)[patient_axis]) @ space.T)
    session.add_points(corner, 0, axis=axis)
    index = session.prompts[0].index
    session.propagate(slices=(index - 2, index + 2))
    mask = session.mask()
    across = mask.any(axis=tuple(k for k in range(3) if k != axis))
    assert across.sum() == 5 and not mask.take(index, axis).all()
    points = volume.to_physical(np.argwhere(mask)) @ space
    points = np.round(points, 3) + 0.0
    return points[np.lexsort(points.T)]


def view_order(volume: Volume, patient_axis: int, axis: int):
    """The order of the view along ``axis`` if that runs along the patient's axis (0 S, 1 P, 2 L), else None."""
    normal = np.abs(volume.direction[:, 2 - axis]).argmax()
    return view_along(volume.direction, axis).order if normal == 2 - patient_axis else None


LPS = ((0, 1, 2), (False, False, False))
RAS = ((0, 1, 2), (False, True, True))
COPIES = {
    "RAS": (*RAS, None),
    "LPI": ((0, 1, 2), (True, False, False), None),
    "permuted": ((2, 0, 1), (True, False, True), None),
    "permuted and oblique": ((1, 2, 0), (False, True, False), rotation(12, 0) @ rotation(-20, 2)),
}


@pytest.mark.parametrize("patient_axis", [0, 1, 2], ids=["axial", "coronal", "sagittal"])
def test_the_mask_is_at_the_same_place_in_space(session, patient_axis):
    expected = segmented(session, stored_as(*LPS), np.eye(3), patient_axis)
    for name, (order, flips, turned) in COPIES.items():
        space = np.eye(3) if turned is None else turned
        found = segmented(session, stored_as(order, flips, turned), space, patient_axis)
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_views_are_those_of_a_radiologist():
    """Axial: anterior at the top, the patient's right on the left; coronal and sagittal: superior at the top."""
    # in LPS, voxel indices grow towards left, posterior and superior
    assert view_along(np.eye(3), 0) == ((0, 1, 2), (False, False, False))
    assert view_along(np.eye(3), 1) == ((1, 0, 2), (False, True, False))
    assert view_along(np.eye(3), 2) == ((2, 0, 1), (False, True, False))
    # in RAS, x and y grow towards right and anterior
    assert view_along(np.diag([-1.0, -1.0, 1.0]), 0) == ((0, 1, 2), (False, True, True))


def test_all_ways_of_storing_come_back():
    array = np.arange(24).reshape(2, 3, 4)
    place = np.argwhere(array == 13)
    for order in itertools.permutations(range(3)):
        for signs in itertools.product([1, -1], repeat=3):
            for axis in range(3):
                view = view_along(np.eye(3)[:, list(order)] * np.array(signs), axis)
                seen = view.of(array)
                assert view.order[0] == axis and seen.shape == view.shape(array.shape)
                np.testing.assert_array_equal(view.back(seen), array)
                points = view.points(place, array.shape)
                assert seen[tuple(points[0].astype(int))] == 13
                np.testing.assert_array_equal(view.points_back(points, array.shape), place)
                index = place[0][axis]
                plane = np.take(array, index, axis)
                np.testing.assert_array_equal(view.plane(plane), seen[view.slice_index(index, array.shape)])
                np.testing.assert_array_equal(view.plane_back(view.plane(plane)), plane)


@pytest.mark.parametrize("seed", range(20))
def test_which_axis_is_which_does_not_depend_on_the_order_of_storage(seed):
    """However oblique; nibabel's orientation, which takes axes one after another, depends on it."""
    rng = np.random.default_rng(seed)
    turned = Rotation.random(random_state=seed).as_matrix()
    order, signs = rng.permutation(3), rng.choice([-1.0, 1.0], size=3)
    again = turned[:, order] * signs
    for normal in (LEFT, POSTERIOR, SUPERIOR):
        first, second = (d[:, 2 - axis_along(d, normal)] for d in (turned, again))  # x, y, z in the columns
        assert abs(first @ second) == pytest.approx(1.0)
        assert normal_along(turned, axis_along(turned, normal)) == normal
        for shown in ((view_along(d, axis_along(d, normal)), d) for d in (turned, again)):
            view, d = shown
            steps = [d[:, 2 - axis] * (-1 if flip else 1) for axis, flip in zip(view.order, view.flips, strict=True)]
            assert steps[0][normal] > 0  # slices run towards left, posterior or superior
    assert sorted(axis for axis, _ in patient_axes(turned)) == [LEFT, POSTERIOR, SUPERIOR]
