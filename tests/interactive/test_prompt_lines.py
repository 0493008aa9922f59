import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.orientation import LEFT
from nnunetv2_sam2_3dmed.interactive.intensities import ShownAs
from nnunetv2_sam2_3dmed.interactive.prompt_lines import PromptLine, read_cases
from tests.interactive.reference import phantom

SPACING = (3.0, 0.8, 0.5)
ORIGIN = (-10.0, 20.0, -100.0)


@pytest.fixture
def ready(session):
    session.set_image(phantom(), SPACING, origin=ORIGIN)
    return session


def said(session):
    (prompted,) = session.prompts
    return prompted


def test_voxels_and_millimetres_mean_the_same(ready):
    for line in (
        PromptLine("box", "3,10,12:3,30,33"),
        # x = -10 + 0.5 * 12, y = 20 + 0.8 * 10, z = -100 + 3 * 3, and so on
        PromptLine("box", "-4,28,-91:6.5,44,-91", unit="mm"),
        PromptLine("box", "-4,28,-91.4:6.5,44,-90", unit="mm"),  # between slices: the first point decides
    ):
        ready.reset()
        line.add_to(ready)
        assert said(ready).index == 3
        assert said(ready).prompt.box == pytest.approx((10, 12, 30, 33))


def test_points_and_scribbles(ready):
    for line in (
        PromptLine("point", "3,20,20"),
        PromptLine("negative_point", "3,1,2"),
        PromptLine("negative_scribble", "3,5,5:3,5,7"),
    ):
        line.add_to(ready)
    assert said(ready).prompt.points.tolist() == [[20, 20], [1, 2], [5, 5.5], [5, 6.5]]
    assert said(ready).prompt.labels.tolist() == [1, 0, 0, 0]


def test_a_mask_is_taken_from_the_slice_where_the_object_is_largest(ready, tmp_path):
    labels = np.zeros((7, 40, 48), dtype=np.uint8)
    labels[2, 5:9, 5:9] = 1
    labels[4, 5:20, 5:20] = 1
    labels[1, 20:, 20:] = 2
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin(ORIGIN)
    file = tmp_path / "labels.nii.gz"
    sitk.WriteImage(image, str(file))
    PromptLine("mask", str(file)).add_to(ready)
    assert said(ready).index == 4
    np.testing.assert_array_equal(said(ready).prompt.mask, labels[4] == 1)
    ready.reset()
    PromptLine("mask", f"{file}@2").add_to(ready)
    assert said(ready).index == 2 and said(ready).prompt.mask.sum() == 16
    ready.reset()
    PromptLine("mask", str(file), object_id=2).add_to(ready)
    assert said(ready).index == 1
    with pytest.raises(UserError, match="has the labels 1, 2, but none for object 3"):
        PromptLine("mask", str(file), object_id=3).add_to(ready)
    with pytest.raises(UserError, match="slice 9 of .* does not exist"):
        PromptLine("mask", f"{file}@9").add_to(ready)
    image.SetOrigin((0, 0, 0))
    sitk.WriteImage(image, str(file))
    with pytest.raises(UserError, match="mm apart"):
        PromptLine("mask", str(file)).add_to(ready)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (PromptLine("circle", "1,2,3"), "the prompt is 'circle'"),
        (PromptLine("point", "1,2"), "written z,y,x"),
        (PromptLine("point", "1,2", unit="mm"), "written x,y,z"),
        (PromptLine("point", "a,b,c"), "written z,y,x"),
        (PromptLine("point", "3,nan,20"), "written z,y,x"),
        (PromptLine("point", "3,5,20,5,20"), "decimal points"),
        (PromptLine("mask", "none.nii.gz"), "there is no mask none.nii.gz"),
        (PromptLine("box", "1,2,3"), "a box needs two corners"),
        (PromptLine("point", "1,2,3", unit="cm"), "the unit is 'cm'"),
        (PromptLine("point", "3,20,200"), "lies outside the image"),
    ],
)
def test_what_makes_no_sense_is_refused(ready, line, message):
    with pytest.raises(UserError, match=message):
        line.add_to(ready)
    assert not ready.prompts


BOX, LONG, SHORT = "3,10,12:3,30,33", "3,10,20:3,30,20", "3,20,14:3,20,24"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("recist", LONG), ("recist", SHORT)),  # two diameters, as if each were an option
        (("box", BOX), ("recist", LONG)),
        (("recist", LONG), ("box", BOX)),
        (("box", BOX), ("box", BOX)),
    ],
)
def test_a_second_box_does_not_replace_the_first_unnoticed(ready, first, second):
    PromptLine(*first).add_to(ready)
    box = said(ready).prompt.box
    kind, where = second
    words = f"^{kind} {where} is a second box of object 1 on slice 3 along axis 0.*RECIST diameters as one prompt"
    with pytest.raises(UserError, match=words):
        PromptLine(*second).add_to(ready)
    assert said(ready).prompt.box == box
    # x = 0.5 * 20 - 10, y = 0.8 * 10 + 20 and 0.8 * 30 + 20, z = 3 * 3 - 100: the same slice
    with pytest.raises(UserError, match="second box of object 1 on slice 3"):
        PromptLine("recist", "0,28,-91.2:0,44,-91.2", unit="mm").add_to(ready)


def test_boxes_of_other_slices_axes_and_objects_stand_beside_it(ready):
    PromptLine("point", "3,20,20").add_to(ready)
    for line in (
        PromptLine("box", BOX),
        PromptLine("box", BOX, 2),
        PromptLine("recist", LONG.replace("3,", "4,", 1).replace(":3", ":4")),
        PromptLine("box", "2,3,12:5,3,33", axis=1),
    ):
        line.add_to(ready)
    boxes = [(p.object_id, p.axis, p.index) for p in ready.prompts if p.prompt.box is not None]
    assert boxes == [(1, 0, 3), (1, 0, 4), (1, 1, 3), (2, 0, 3)]


def test_lines_of_an_image_make_a_case(tmp_path):
    table = tmp_path / "prompts.csv"
    table.write_text(
        "image,prompt,where,object,axis,unit,output\n"
        'a.nii.gz,box,"3,10,12:3,30,33",,,,\n'
        'b.nii.gz,point,"-1.5,2,3",2,1,mm,out/b.mha\n'
        "\n"
        "a.nii.gz,mask,m.nii.gz,3,,,\n"
    )
    first, second = read_cases(table)
    assert first.image == tmp_path / "a.nii.gz" and first.output is None
    assert first.prompts == (PromptLine("box", "3,10,12:3,30,33"), PromptLine("mask", str(tmp_path / "m.nii.gz"), 3))
    assert second.output == tmp_path / "out" / "b.mha"
    assert second.prompts == (PromptLine("point", "-1.5,2,3", 2, 1, "mm"),)
    first, second = read_cases(table, axis=2, unit="mm")  # of lines that say nothing of it
    assert first.prompts[0] == PromptLine("box", "3,10,12:3,30,33", axis=2, unit="mm")
    assert second.prompts == (PromptLine("point", "-1.5,2,3", 2, 1, "mm"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,where\n", "lacks the column prompt"),
        ("image,prompt,where\n", "has no prompts: write one line per prompt"),
        ("image,prompt,where\na.nii,,x\n", "line 2 of .* has nothing in the column prompt: fill it in, or delete"),
        ("image,prompt,where,object\na.nii,point,x,one\n", "line 2 .* whole numbers"),
        ("image,prompt,where,object\na.nii,point,x,0\n", "line 2 .* the object is 0"),
        ("image,prompt,where,output\na.nii,point,x,b.mha\na.nii,point,x,c.mha\n", "line 3 .* before: give one output"),
    ],
)
def test_a_table_that_cannot_be_read_says_where(tmp_path, text, message):
    table = tmp_path / "prompts.csv"
    table.write_text(text)
    with pytest.raises(UserError, match=message):
        read_cases(table)
    with pytest.raises(UserError, match="cannot be read as CSV"):
        read_cases(tmp_path / "missing.csv")


def test_a_table_from_a_spreadsheet_in_another_country(tmp_path):
    table = tmp_path / "prompts.csv"
    text = 'Image;Prompt;Where;Object;Axis;Unit\r\na.nii.gz;Point;"3,20,20";2,0;1.0;MM\r\n;;;;;\r\n'
    table.write_bytes(text.encode("utf-16"))
    (case,) = read_cases(table)
    assert case.image == tmp_path / "a.nii.gz"
    assert case.prompts == (PromptLine("point", "3,20,20", 2, 1, "mm"),)


@pytest.mark.parametrize("scale", [1.0, 255.0, 0.5, 1 / 255])
def test_float_and_scaled_masks_are_masks(ready, tmp_path, scale):
    mask = np.zeros((7, 40, 48), dtype=np.float32)
    mask[4, 5:20, 5:20] = scale
    image = sitk.GetImageFromArray(mask)
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin(ORIGIN)
    sitk.WriteImage(image, str(tmp_path / "mask.nii.gz"))
    PromptLine("mask", str(tmp_path / "mask.nii.gz")).add_to(ready)
    np.testing.assert_array_equal(said(ready).prompt.mask, mask[4] > 0)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (phantom(), "looks like an image"),
        (np.linspace(0, 1, 7 * 40 * 48).reshape(7, 40, 48), "holds probabilities between whole numbers"),
        (np.zeros((7, 40, 48), dtype=np.uint8), "is empty"),
    ],
)
def test_what_is_no_mask_is_said(ready, tmp_path, array, message):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin(ORIGIN)
    sitk.WriteImage(image, str(tmp_path / "mask.nrrd"))
    with pytest.raises(UserError, match=message):
        PromptLine("mask", str(tmp_path / "mask.nrrd")).add_to(ready)
    assert not ready.prompts


def test_without_an_axis_it_is_the_one_that_the_model_has_learned(ready, monkeypatch):
    """Slices along left-right, which is x of the array; an axis that is given counts all the same."""
    learned = ShownAs("NoNormalization", 0.0, 1.0, axis=0, normals=(LEFT,))
    monkeypatch.setattr(ready._network.model, "shown_as", learned, raising=False)
    line = PromptLine("box", "2,10,20:5,30,20")
    line.add_to(ready)
    assert line.axis_in(ready) == said(ready).axis == 2 and said(ready).index == 20
    with pytest.raises(UserError, match="along axis 0"):
        PromptLine("box", "2,10,20:5,30,20", axis=0).add_to(ready)
