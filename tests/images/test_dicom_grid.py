"""Grids from the positions of slices, with and without rounding."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.dicom_grid import SlicePlace, grid_of

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, 1.0)  # its normal is (0.6, -0.8, 0)


def slices(steps, distance, orientation=AXIAL, origin=(-100.0, 20.0, 30.0), decimals=None, shift=(0.0, 0.0, 0.0)):
    """Slices ``steps`` times ``distance`` from the origin along their normal, and ``steps`` times ``shift``."""
    normal = np.cross(orientation[:3], orientation[3:])
    found = []
    for k in steps:
        position = np.array(origin) + k * (distance * normal + np.array(shift))
        if decimals is not None:
            position = np.round(position, decimals)
        found.append(SlicePlace(f"IM{k}", position, np.array(orientation), (0.8, 0.7), (5, 4), None))
    return found


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_slices_in_any_order_make_a_grid(orientation):
    places = slices([3, 0, 2, 1], 2.5, orientation)
    grid = grid_of("ct", places)
    assert grid.order == [1, 3, 2, 0]
    assert grid.spacing == pytest.approx((2.5, 0.8, 0.7))
    assert grid.origin == pytest.approx((-100, 20, 30))
    expected = np.stack([orientation[:3], orientation[3:], np.cross(orientation[:3], orientation[3:])], axis=1)
    np.testing.assert_allclose(grid.direction, expected, atol=1e-12)


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize(("distance", "decimals"), [(0.625, 1), (0.625, 2), (1 / 3, 2), (1.25, 1), (0.7, 1), (3.75, 1)])
def test_rounded_positions_make_the_grid_that_they_were_rounded_from(orientation, distance, decimals):
    for count in (2, 3, 40):
        grid = grid_of("ct", slices(range(count), distance, orientation, decimals=decimals))
        # both ends may be off by half a unit, along up to two axes
        assert grid.spacing[0] == pytest.approx(distance, abs=1.5 * 10**-decimals / (count - 1))


def test_positions_in_single_precision_count_as_rounded():
    places = [
        one._replace(position=one.position.astype(np.float32).astype(float))
        for one in slices(range(30), 0.625, decimals=1)
    ]
    assert not np.allclose(places[1].position * 10, np.rint(places[1].position * 10), rtol=0, atol=1e-9)
    assert grid_of("ct", places).spacing[0] == pytest.approx(0.625, abs=0.1 / 29)


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize(("distance", "decimals"), [(0.625, None), (0.625, 1), (0.625, 2), (1.25, 1), (5.0, 0)])
@pytest.mark.parametrize("count", [4, 5, 8, 40])
def test_any_missing_slice_is_found(orientation, distance, decimals, count):
    for missing in range(1, count - 1):
        kept = [k for k in range(count) if k != missing]
        with pytest.raises(UserError, match="lacks a slice|at unequal distances"):
            grid_of("ct", slices(kept, distance, orientation, decimals=decimals))


def test_a_missing_slice_is_named():
    with pytest.raises(UserError, match=r"lacks a slice: between IM3 \(37.50 mm\) and IM5 \(42.50 mm\) lie 5.00 mm"):
        grid_of("ct", slices([0, 1, 2, 3, 5, 6], 2.5))


def test_a_slice_out_of_its_place_is_found():
    places = slices(range(6), 2.5)
    places[3] = places[3]._replace(position=places[3].position + (0, 0, 0.5))
    with pytest.raises(UserError, match="unequal distances: between IM2 .* and IM3 .* lie 3.00 mm, between the others"):
        grid_of("ct", places)
    places[3] = places[3]._replace(position=places[3].position - (0, 0, 0.4))  # 4 % of the distance
    assert grid_of("ct", places).spacing[0] == pytest.approx(2.5)


@pytest.mark.parametrize("distance", [0.41234, 4.1234])
def test_the_tolerance_is_a_part_of_the_distance(distance):
    # one slice off by d is half of d away from the best equal steps
    for off, fits in ((0.08, True), (0.12, False)):
        places = slices(range(6), distance, origin=(0, 0, 0.05678))
        places[3] = places[3]._replace(position=places[3].position + (0, 0, off * distance))
        if fits:
            assert grid_of("ct", places).spacing[0] == pytest.approx(distance)
        else:
            with pytest.raises(UserError, match="unequal distances"):
                grid_of("ct", places)


def test_distances_that_grow_are_found():
    """Each differs from the one before by less than a twentieth; the middle would lie 8 mm from its place."""
    places = [
        one._replace(position=np.array((0.0, 0.0, 2 * k + 0.02 * k * k))) for k, one in enumerate(slices(range(41), 2))
    ]
    with pytest.raises(UserError, match="unequal distances"):
        grid_of("ct", places)


def test_slices_at_one_place_are_phases():
    with pytest.raises(
        UserError, match="two slices at the same place .IM2 and IM2, 35.00 mm.: it holds several phases"
    ):
        grid_of("ct", slices([0, 1, 2, 2, 3], 2.5))


def test_unlike_slices_are_refused():
    places = slices(range(4), 2.5)
    turned = places[2]._replace(orientation=np.array((1.0, 0, 0, 0, 0, -1)))
    with pytest.raises(UserError, match="several orientations .IM0 and IM2."):
        grid_of("ct", [*places[:2], turned])
    with pytest.raises(UserError, match=r"several sizes .IM0 5 x 4, IM2 6 x 4 voxels."):
        grid_of("ct", [*places[:2], places[2]._replace(shape=(6, 4))])
    with pytest.raises(UserError, match=r"several pixel spacings .IM0 0.8 x 0.7, IM2 0.9 x 0.7 mm."):
        grid_of("ct", [*places[:2], places[2]._replace(spacing=(0.9, 0.7))])


@pytest.mark.parametrize("degrees", [3, 15])
def test_a_tilted_gantry_is_refused(degrees):
    with pytest.raises(UserError, match="tilted gantry"):
        grid_of("ct", slices(range(30), 2.5, shift=(0, 2.5 * np.tan(np.deg2rad(degrees)), 0)))


def test_cosines_of_few_digits_are_no_tilt():
    exact = (np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0, 0.0, 1.0)
    rounded = np.array((0.707, 0.707, 0.0, 0.0, 0.0, 1.0))
    places = [one._replace(orientation=rounded) for one in slices(range(100), 2.5, exact)]
    grid = grid_of("ct", places)
    np.testing.assert_allclose(grid.direction.T @ grid.direction, np.eye(3), atol=1e-12)
    assert grid.spacing[0] == pytest.approx(2.5, rel=1e-3)


def test_what_is_no_orientation_is_refused():
    wrong = slices([0], 1)[0]._replace(orientation=np.array((1.0, 0, 0, 1, 0, 0)), step=1.0)
    with pytest.raises(UserError, match=r"1 0 0 1 0 0 for Image Orientation .Patient. .0020,0037. of IM0"):
        grid_of("ct", [wrong])


def test_one_slice_is_as_thick_as_its_header_says():
    (one,) = slices([0], 1)
    assert grid_of("ct", [one._replace(step=4.0)]).spacing == (4.0, 0.8, 0.7)
    with pytest.raises(UserError, match="neither Spacing Between Slices .0018,0088. nor Slice Thickness"):
        grid_of("ct", [one])
