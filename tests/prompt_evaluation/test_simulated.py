"""Simulated prompts against what can be read off drawn masks."""

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.interactive.recist import box_around
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import (
    Click,
    bounding_box,
    diameters,
    error_click,
    extent_of,
    key_slice,
    loose_box,
    middle_slice,
    random_click,
)


def drawn(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_middle_slice_is_that_of_the_object():
    mask = np.zeros((9, 2, 2), dtype=bool)
    mask[3:8, 0, 0] = True
    assert middle_slice(mask) == 5 and extent_of(mask) == (3, 7)
    with pytest.raises(ValueError, match="empty"):
        middle_slice(np.zeros((2, 2, 2), dtype=bool))
    with pytest.raises(ValueError, match="empty"):
        extent_of(np.zeros((2, 2, 2), dtype=bool))


def test_a_box_ends_at_the_far_edge_of_the_last_voxel():
    assert bounding_box(drawn("....", ".##.", "....", "....")) == (1, 1, 2, 3)
    # coordinates end at the last voxel, and a box has a width
    assert bounding_box(drawn("....", "....", "....", "...#")) == (2, 2, 3, 3)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5)])
@pytest.mark.parametrize("degrees", [0, 30, 45, 70, 110])
def test_the_diameters_of_an_ellipse_are_its_axes(degrees, spacing):
    turn = np.radians(degrees)
    along, across = np.array([-np.sin(turn), np.cos(turn)]), np.array([np.cos(turn), np.sin(turn)])
    places = (np.stack(np.mgrid[:120, :480], axis=-1) + 0.5) * spacing - np.array((60, 240)) * spacing
    mask = (places @ along / 50) ** 2 + (places @ across / 20) ** 2 <= 1
    ends = diameters(mask, spacing) * spacing
    longest, widest = ends[1] - ends[0], ends[3] - ends[2]
    voxel = max(spacing)
    assert np.linalg.norm(longest) == pytest.approx(100, abs=1.5 * voxel)
    assert np.linalg.norm(widest) == pytest.approx(40, abs=2 * voxel)
    assert abs(longest @ widest) < 1e-9 * 4000
    assert abs(longest @ across) / 100 < 0.1  # within six degrees of the axis
    box = np.array(box_around(diameters(mask, spacing), spacing)) * spacing
    np.testing.assert_allclose(box, np.reshape(bounding_box(mask), (2, 2)) * spacing, atol=2 * voxel)


def test_the_diameters_of_single_voxels():
    square = diameters(drawn("....", ".#..", "...."), (1, 1))
    # both diagonals of the voxel; its centre is (1.5, 1.5)
    assert sorted(map(tuple, square[:2])) in ([(1, 1), (2, 2)], [(1, 2), (2, 1)])
    np.testing.assert_allclose(square.mean(axis=0), (1.5, 1.5))
    line = diameters(drawn(".....", ".###.", "....."), (1, 1))
    assert np.linalg.norm(line[1] - line[0]) == pytest.approx(10**0.5)  # 1 x 3 voxels from corner to corner
    with pytest.raises(ValueError, match="empty"):
        diameters(drawn("..."), (1, 1))


def test_the_key_slice_is_that_of_the_longest_diameter():
    mask = np.zeros((9, 12, 12), dtype=bool)
    mask[2:7, 4:6, 4:6] = True  # sqrt(4 + 4) voxels across on slices 2 to 6; the middle one is 4
    assert key_slice(mask, (1, 1)) == 4
    mask[2, 4, 4:8] = True  # 2 rows and 4 columns
    mask[6, 4:9, 4] = True  # 5 rows and 2 columns
    assert key_slice(mask, (1, 1)) == 6  # sqrt(29) voxels, where slice 2 has sqrt(20)
    assert key_slice(mask, (0.5, 1)) == 2  # sqrt(1 + 16) mm, where slice 6 has sqrt(2.5^2 + 4)
    mask[3] = mask[6].T  # the same diameter, as near to the middle slice as slice 5
    mask[5] = np.roll(mask[6], (2, 3), (0, 1))
    assert key_slice(mask, (0.3, 0.3)) == 3
    mask[4] = mask[5]
    assert key_slice(mask, (0.3, 0.3)) == 4
    with pytest.raises(ValueError, match="empty"):
        key_slice(np.zeros((2, 2, 2), dtype=bool), (1, 1))


def test_loose_boxes_move_either_way_and_by_no_more_than_asked(rng):
    boxes = np.array([loose_box((10, 20, 26, 40), (50, 60), (2, 4), rng) for _ in range(600)])
    outwards = (boxes - [10, 20, 26, 40]) * [-1, -1, 1, 1]
    assert (np.abs(outwards) <= [2, 4, 2, 4]).all()
    assert (outwards.max(axis=0) > [1.9, 3.8, 1.9, 3.8]).all() and (
        outwards.min(axis=0) < [-1.9, -3.8, -1.9, -3.8]
    ).all()
    # uniform on (-2, 2) and (-4, 4): means of 0, within four standard errors
    assert (np.abs(outwards.mean(axis=0)) < 4 * np.array([2, 4, 2, 4]) / np.sqrt(3 * 600)).all()


def test_loose_boxes_keep_half_of_a_small_object_and_end_with_the_slice(rng):
    boxes = np.array([loose_box((0, 20, 4, 22), (50, 60), (9, 9), rng) for _ in range(300)])
    assert (boxes[:, 2] - boxes[:, 0] >= 2).all() and (boxes[:, 3] - boxes[:, 1] >= 1).all()
    assert (boxes[:, 0] >= 0).all() and boxes[:, 0].max() > 0.9  # a quarter of four rows


def test_the_first_click_is_at_the_centre_of_the_object(rng):
    truth = drawn(".......", ".#####.", ".#####.", ".#####.", ".#####.", ".#####.", ".......")
    assert error_click(truth, None, rng) == Click(3, 3, 1)


def test_a_click_goes_to_the_largest_error_and_says_what_it_is(rng):
    truth = drawn(
        "###.......",
        "###.......",
        "###.......",
        "..........",
        "..........",
    )
    found = drawn(
        "###...###.",
        "###...###.",
        "##....###.",
        "..........",
        "..........",
    )
    # nine voxels are too much, one is missing
    assert error_click(truth, found, rng) == Click(1, 7, 0)
    assert error_click(truth, found & truth, rng) == Click(2, 2, 1)
    assert error_click(truth, truth, rng) is None


def test_the_edge_of_the_slice_counts_as_outside(rng):
    # without that, the centre of this object would be in the corner
    assert error_click(drawn("###", "###", "###"), None, rng) == Click(1, 1, 1)


def test_who_clicked_in_vain_clicks_elsewhere_on_the_error(rng):
    truth = drawn("#####")
    first = error_click(truth, None, rng)
    clicks = [first]
    while (click := error_click(truth, None, rng, clicks)) is not None:
        clicks.append(click)
    assert sorted(click.column for click in clicks) == [0, 1, 2, 3, 4]  # each voxel once, and then no more
    # furthest from what was clicked on, too: five of the seven columns remain on the right
    wide = drawn(*["#" * 9] * 5)
    assert error_click(wide, None, rng, [Click(2, 2, 1)]).column > 4
    # too much is clicked on in vain as well
    assert error_click(drawn("..."), drawn(".##"), rng, [Click(0, 1, 0)]) == Click(0, 2, 0)


def test_ties_are_drawn_and_repeat_with_the_seed():
    truth = drawn("#.#.#")
    clicks = {error_click(truth, None, np.random.default_rng(seed)) for seed in range(20)}
    assert clicks == {Click(0, 0, 1), Click(0, 2, 1), Click(0, 4, 1)}
    assert len({error_click(truth, None, np.random.default_rng(7)) for _ in range(5)}) == 1


def test_training_clicks_lie_on_errors(rng):
    truth, found = drawn("##...", "##..."), drawn("#...#", "##...")
    assert {random_click(truth, found, rng) for _ in range(60)} == {Click(0, 1, 1), Click(0, 4, 0)}
    assert {random_click(truth, truth, rng).label for _ in range(20)} == {1}
