"""Cases and their prompts, from a table and from predictions."""

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.annotation.unlabelled import (
    boxes_of,
    cases_of_predictions,
    cases_of_table,
    check_new,
    without_taken,
)
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import read_volume
from nnunetv2_sam2_3dmed.interactive.prompt_lines import PromptLine
from tests.annotation.conftest import SHAPE, write

HEADER = "image,prompt,where,object\n"


def test_a_table(dataset, images, folders):
    file = folders / "prompts.csv"
    file.write_text(
        f'{HEADER}images/new_1_0000.nii.gz,box,"3,10,12:3,30,33",1\nimages/new_1_0000.nii.gz,point,"2,5,5",3\n'
    )
    (case,) = cases_of_table(file, dataset)
    assert case.name == "new_1" and case.image == images / "new_1_0000.nii.gz"
    assert case.given == (PromptLine("box", "3,10,12:3,30,33", 1), PromptLine("point", "2,5,5", 3))
    assert case.source(0)[1] == "object 3: point 2,5,5, learned axis, voxel"
    check_new([case], dataset)
    file.write_text(f'{HEADER}images/new_1_0000.nii.gz,point,"2,5,5",2\n')
    with pytest.raises(UserError, match=r"must be one of the labels 1 \(organ\), 3 \(lesion\)"):
        cases_of_table(file, dataset)


def test_boxes_of_a_prediction(images, folders):
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:6, 10:15, 20:30] = 1  # middle slice 3
    labels[4, 2:5, 3:6] = 3
    file = write(folders / "predictions" / "new_1.nii.gz", labels)
    image = read_volume(images / "new_1_0000.nii.gz")
    # the image is shown turned in both axes: a box ends behind its last voxel as it is seen
    assert boxes_of(file, image, [1, 3], 0) == (
        PromptLine("box", "3,14,29:3,9,19", 1, 0),
        PromptLine("box", "4,4,5:4,1,2", 3, 0),
    )
    along_x = boxes_of(file, image, [1, 3], 2)
    assert [line.where.split(":")[0].split(",")[2] for line in along_x] == ["24", "4"]
    with pytest.raises(UserError, match="has the label 3, but objects are labelled 1"):
        boxes_of(file, image, [1], 0)
    with pytest.raises(UserError, match="is empty"):
        boxes_of(write(file, labels * 0), image, [1], 0)


def test_predictions_need_their_images(dataset, images, folders):
    write(folders / "predictions" / "new_2.nii.gz", np.ones(SHAPE, dtype=np.uint8))
    (case,) = cases_of_predictions(folders / "predictions", images, dataset)
    assert case.image == images / "new_2_0000.nii.gz" and "predictions/new_2.nii.gz" in case.source(0)[0]
    write(folders / "predictions" / "new_3.nii.gz", np.ones(SHAPE, dtype=np.uint8))
    with pytest.raises(UserError, match="has no image .*new_3_0000.nii.gz"):
        cases_of_predictions(folders / "predictions", images, dataset)
    with pytest.raises(UserError, match="holds no predictions"):
        cases_of_predictions(images.parent / "nnUNet_results", images, dataset)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("images/new_9_0000.nii.gz", "there is no image"),
        ("other/new_1.nii.gz", "would both be the case new_1"),
        ("other/new_1.mha", "must end in .nii.gz"),
        ("other/expert_01.nii.gz", "has a training case expert_01 already"),
    ],
)
def test_names_and_formats(dataset, images, folders, name, message):
    for other in ("new_1.nii.gz", "new_1.mha", "expert_01.nii.gz"):
        write(folders / "other" / other, np.zeros(SHAPE))
    file = folders / "prompts.csv"
    file.write_text(f'{HEADER}images/new_1_0000.nii.gz,point,"2,5,5",1\n{name},point,"2,5,5",1\n')
    cases = cases_of_table(file, dataset)
    with pytest.raises(UserError, match=message):
        check_new(cases, dataset)
    if "expert" in name:
        check_new(cases, dataset, ranked={"expert_01"})  # this round's own, which was taken


def test_taken_cases_are_left_out(dataset, images, folders):
    write(folders / "other" / "expert_01.nii.gz", np.zeros(SHAPE))
    file = folders / "prompts.csv"
    file.write_text(f'{HEADER}images/new_1_0000.nii.gz,point,"2,5,5",1\nother/expert_01.nii.gz,point,"2,5,5",1\n')
    cases = cases_of_table(file, dataset)
    with pytest.raises(UserError, match="add --skip-taken to leave out all such cases"):
        check_new(cases, dataset)
    assert [case.name for case in without_taken(cases, dataset)] == ["new_1"]
    assert without_taken(cases, dataset, ranked={"expert_01"}) == cases  # this round's own, which was taken
    with pytest.raises(UserError, match="has training cases of the names of all 1 images"):
        without_taken(cases[1:], dataset)


def test_one_image_by_two_paths(dataset, images, folders):
    file = folders / "prompts.csv"
    lines = ('images/new_1_0000.nii.gz,point,"2,5,5",1', 'images/../images/new_1_0000.nii.gz,point,"2,6,6",1')
    file.write_text(HEADER + "\n".join(lines))
    with pytest.raises(UserError, match="are the same image: give it once"):
        check_new(cases_of_table(file, dataset), dataset)


def test_a_link_has_the_name_of_the_case(dataset, images, folders):
    (folders / "links").mkdir()
    (folders / "links" / "scan_7_0000.nii.gz").symlink_to(images / "new_1_0000.nii.gz")
    file = folders / "prompts.csv"
    file.write_text(f'{HEADER}links/scan_7_0000.nii.gz,point,"2,5,5",1\n')
    (case,) = cases_of_table(file, dataset)
    assert case.name == "scan_7" and case.image == folders / "links" / "scan_7_0000.nii.gz"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("3,10,12:3,30,33", "3,1,2:3,3,4", True),
        ("3,10,12:3,30,33", "3.4,1,2:3.4,3,4", True),  # voxels are rounded
        ("3,10,12:3,30,33", "4,1,2:4,3,4", False),
    ],
)
def test_a_box_does_not_replace_another_unsaid(dataset, images, folders, first, second, same):
    file = folders / "prompts.csv"
    line = 'images/new_1_0000.nii.gz,box,"{}",{}\n'
    file.write_text(HEADER + line.format(first, 1) + line.format(first, 3) + line.format(second, 1))
    if same:
        with pytest.raises(UserError, match="has two boxes for object 1 on one slice of new_1_0000.nii.gz"):
            cases_of_table(file, dataset)
    else:
        assert len(cases_of_table(file, dataset)[0].given) == 3
