"""Boxes of RECIST measurements, against what can be computed by hand and drawn with another library."""

import numpy as np
import pytest
from skimage.draw import ellipse

from nnunetv2_sam2_3dmed.interactive import PromptError
from nnunetv2_sam2_3dmed.interactive.prompt_lines import PromptLine
from nnunetv2_sam2_3dmed.interactive.recist import box_around
from tests.interactive.reference import phantom

ACROSS = [(10, 20), (10, 40)]  # 20 columns long


@pytest.mark.parametrize(
    ("ends", "spacing", "box"),
    [
        (ACROSS, (1, 1), (0, 20, 20, 40)),  # a circle of radius 10 around (10, 30)
        (ACROSS, (2, 1), (5, 20, 15, 40)),  # 10 mm are 5 rows
        (ACROSS, (1, 0.5), (5, 20, 15, 40)),  # the line is 10 mm long
        ([*ACROSS, (6, 30), (14, 30)], (1, 1), (6, 20, 14, 40)),
        ([*ACROSS, (14, 30), (6, 30)], (3, 0.5), (6, 20, 14, 40)),
        ([*ACROSS, (8, 35), (18, 35)], (1, 1), (8, 20, 18, 40)),  # crosses the longest one away from its middle
        # half-axes (5, 5) and (2, -2): each side is sqrt(25 + 4) from the centre (5, 5)
        ([(0, 0), (10, 10), (7, 3), (3, 7)], (1, 1), (5 - 29**0.5, 5 - 29**0.5, 5 + 29**0.5, 5 + 29**0.5)),
        # beside the longest one: the ellipse ends at column 40, and the box at the end points in column 45
        ([*ACROSS, (5, 45), (15, 45)], (1, 1), (5, 20, 15, 45)),
    ],
)
def test_boxes_by_hand(ends, spacing, box):
    low, high = box_around(np.array(ends, float), spacing)
    np.testing.assert_allclose([*low, *high], box, atol=1e-9)


@pytest.mark.parametrize("degrees", [0, 20, 45, 80, 120])
def test_a_box_surrounds_the_ellipse_that_is_drawn_with_the_diameters(degrees):
    turn = np.radians(degrees)
    along, across = np.array([-np.sin(turn), np.cos(turn)]), np.array([np.cos(turn), np.sin(turn)])
    centre = np.array([100.0, 120.0])
    ends = np.array([centre - 60 * along, centre + 60 * along, centre - 25 * across, centre + 25 * across])
    low, high = box_around(ends, (1.0, 1.0))
    rows, columns = ellipse(*centre, 25, 60, rotation=turn)
    np.testing.assert_allclose(low, [rows.min(), columns.min()], atol=1)
    np.testing.assert_allclose(high, [rows.max(), columns.max()], atol=1)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([(3, 3), (3, 3)], "begins and ends at the same point"),
        ([*ACROSS, (4, 4), (4, 4)], "begins and ends at the same point"),
        ([*ACROSS, (10, 25), (20, 35)], "meet at 45 degrees"),
        ([*ACROSS, (12, 40), (12, 20)], "meet at 0 degrees"),
    ],
)
def test_lines_that_are_no_measurement(ends, message):
    with pytest.raises(PromptError, match=message):
        box_around(np.array(ends, float), (1, 1))


def test_a_measurement_is_a_box_on_its_slice(session):
    session.set_image(phantom(), (3.0, 0.8, 0.5))
    session.add_recist([(3, 10, 20), (3, 30, 20)])
    (prompted,) = session.prompts
    # 16 mm across are 32 columns: 4 to 36
    assert prompted.index == 3 and prompted.prompt.box == pytest.approx((10, 4, 30, 36))
    session.reset()
    session.add_recist([(3, 10, 20), (3, 30, 20)], [(3, 20, 14), (3, 20, 24)])
    assert session.prompts[0].prompt.box == pytest.approx((10, 14, 30, 24))
    session.reset()
    session.add_recist([(5, 20, 2), (2, 20, 2)], axis=2)  # 9 mm along z; 9 / 0.8 rows
    (prompted,) = session.prompts
    assert (prompted.axis, prompted.index) == (2, 2)
    # such slices are shown with the last z, 6, on top
    assert prompted.prompt.box == pytest.approx((1, 20 - 4.5 / 0.8, 4, 20 + 4.5 / 0.8))


def test_a_box_ends_at_the_edge_of_the_image(session):
    session.set_image(phantom(), (1.0, 1.0, 1.0))
    session.add_recist([(3, 2, 0), (3, 2, 30)])
    assert session.prompts[0].prompt.box == (0, 0, 17, 30)


@pytest.mark.parametrize(
    ("longest", "across", "message"),
    [
        ([(3, 10, 20)], None, "a diameter has two ends"),
        ([(3, 10, 20), (3, 30, 20)], [(3, 20, 14)], "a diameter has two ends"),
        ([(3, 10, 20), (4, 30, 20)], None, "these diameter's ends lie on slices 3, 4"),
        ([(3, 10, 20), (3, 30, 99)], None, "lies outside the image"),
    ],
)
def test_mistakes_are_refused(session, longest, across, message):
    session.set_image(phantom(), (1.0, 1.0, 1.0))
    with pytest.raises(PromptError, match=message):
        session.add_recist(longest, across)
    assert not session.prompts


def test_lines_of_a_table(session):
    session.set_image(phantom(), (3.0, 0.8, 0.5))
    PromptLine("recist", "3,10,20:3,30,20:3,20,14:3,20,24").add_to(session)
    assert session.prompts[0].prompt.box == pytest.approx((10, 14, 30, 24))
    session.reset()
    # x = 0.5 * 20, y = 0.8 * 10 and 0.8 * 30, z = 3 * 3
    PromptLine("recist", "10,8,9:10,24,9", unit="mm").add_to(session)
    assert session.prompts[0].prompt.box == pytest.approx((10, 4, 30, 36))
    with pytest.raises(PromptError, match="needs the two ends of the longest diameter.*'3,1,1:3,2,2:3,3,3'"):
        PromptLine("recist", "3,1,1:3,2,2:3,3,3").check()
