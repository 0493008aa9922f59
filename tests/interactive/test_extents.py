"""Objects between their first and last slice, with a network whose masks would go on."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive import PromptError
from nnunetv2_sam2_3dmed.interactive.extents import propagate_within
from nnunetv2_sam2_3dmed.interactive.prompt_lines import PromptLine, read_cases
from tests.interactive.reference import phantom

SPACING = (3.0, 0.8, 0.5)


@pytest.fixture
def prompted(session):
    """Two objects, each with a box on slice 3."""
    session.set_image(phantom(), SPACING)
    session.add_box((3, 10, 12), (3, 30, 33), 1)
    session.add_box((3, 5, 8), (3, 20, 40), 2)
    return session


def slices_with(session, object_id: int, axis: int = 0) -> list[int]:
    others = tuple(k for k in range(3) if k != axis)
    return np.flatnonzero(session.mask(object_id).any(axis=others)).tolist()


def test_no_voxel_is_outside_and_inside_nothing_changes(prompted):
    prompted.propagate()
    free = {number: prompted.mask(number) for number in (1, 2)}
    assert slices_with(prompted, 1) == slices_with(prompted, 2) == list(range(7))
    prompted.reset()
    prompted.add_box((3, 10, 12), (3, 30, 33), 1)
    prompted.add_box((3, 5, 8), (3, 20, 40), 2)
    steps = []
    propagate_within(prompted, {1: (2, 4)}, progress=steps.append)
    assert slices_with(prompted, 1) == [2, 3, 4] and slices_with(prompted, 2) == list(range(7))
    np.testing.assert_array_equal(prompted.mask(1)[2:5], free[1][2:5])
    np.testing.assert_array_equal(prompted.mask(2), free[2])
    assert {step.total for step in steps} == {3, 7}


def test_slices_are_those_of_all_objects_without_an_extent_of_their_own(prompted):
    propagate_within(prompted, {1: (3, 3)}, slices=(1, 4))
    assert slices_with(prompted, 1) == [3] and slices_with(prompted, 2) == [1, 2, 3, 4]


def test_slices_count_along_the_axis_of_the_prompts(session):
    session.set_image(phantom(), SPACING)
    session.add_box((2, 10, 20), (5, 30, 20), 1, axis=2)
    propagate_within(session, {1: (18, 25)})
    assert slices_with(session, 1, axis=2) == list(range(18, 26))


@pytest.mark.parametrize(
    ("extent", "message"),
    [
        ((4, 6), "object 1 has a prompt at 3, but goes from 4 to 6"),
        ((1, 2), "object 1 has a prompt at 3, but goes from 1 to 2"),
        ((5, 3), "from 5 to 3, but the first must not be behind the last"),
        ((2, 7), "there are 0 to 6"),
        ((-1, 3), "there are 0 to 6"),
    ],
)
def test_extents_that_do_not_fit_are_refused_before_anything_is_propagated(prompted, extent, message):
    with pytest.raises(PromptError, match=message):
        propagate_within(prompted, {1: extent})
    assert set(slices_with(prompted, 2)) <= {3}


def test_one_extent_is_of_one_axis(prompted):
    prompted.add_box((2, 10, 20), (5, 30, 20), 1, axis=2)
    with pytest.raises(PromptError, match="object 1 has prompts along axes 0 and 2"):
        propagate_within(prompted, {1: (2, 4)})


def table(tmp_path, *rows: str):
    file = tmp_path / "prompts.csv"
    file.write_text("image,prompt,where,object,first,last\n" + "\n".join(rows) + "\n")
    return read_cases(file)


def test_extents_of_a_table(tmp_path):
    (case,) = table(tmp_path, 'a.nii,box,"3,1,1:3,5,5",1,2,4', 'a.nii,point,"3,2,2",1,,', 'a.nii,point,"3,2,2",2,,')
    assert case.extents == {1: (2, 4)}
    assert case.prompts[0] == PromptLine("box", "3,1,1:3,5,5", 1, extent=(2, 4)) and case.prompts[1].extent is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['a.nii,point,"3,2,2",1,2,'], "line 2 of .* has the first slice 2 and the last empty, but both are needed"),
        (['a.nii,point,"3,2,2",1,4,2'], "the first slice 4 and the last 2"),
        (['a.nii,point,"3,2,2",1,-1,2'], "counted from 0"),
        (['a.nii,point,"3,2,2",1,1.5,2'], "must be whole numbers"),
        (
            ['a.nii,point,"3,2,2",1,2,4', 'a.nii,point,"3,2,9",1,2,5'],
            "line 3 of .* names another first or last slice of object 1 of a.nii than a line before: .* one range",
        ),
    ],
)
def test_tables_that_make_no_sense(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        table(tmp_path, *rows)
