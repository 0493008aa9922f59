from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.cases import find_image
from nnunetv2_sam2_3dmed.report.volumes import any_of, read_labels, view_of


def properties_of(image: SimpleITK.Image) -> dict:
    """As nnU-Net's SimpleITK reader states them."""
    return {"sitk_stuff": {"direction": image.GetDirection()}, "spacing": image.GetSpacing()[::-1]}


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "RAI", "ASL", "PIR", "SRA"])
def test_axial_slices_lie_as_simpleitk_turns_them(orientation):
    voxels = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    axial = SimpleITK.GetImageFromArray(voxels)  # columns to the left, rows to the back, slices to the head
    axial.SetSpacing((1.0, 1.5, 3.0))
    turned = SimpleITK.DICOMOrient(axial, orientation)
    view, spacing = view_of(properties_of(turned))
    np.testing.assert_array_equal(view.of(SimpleITK.GetArrayFromImage(turned)), voxels)
    assert spacing == (3.0, 1.5, 1.0)


def test_slices_across_another_axis_have_the_head_up():
    image = SimpleITK.Image(2, 3, 4, SimpleITK.sitkInt16)  # x to the left, y to the back, z to the head
    image.SetSpacing((1.0, 5.0, 1.0))
    image[0, 1, 3] = 1  # the rightmost voxel of the topmost row of the middle coronal slice
    view, spacing = view_of(properties_of(image))
    turned = view.of(SimpleITK.GetArrayFromImage(image))
    assert turned.shape == (3, 4, 2) and spacing == (5.0, 1.0, 1.0)
    assert np.argwhere(turned).tolist() == [[1, 0, 0]]  # seen from the front: the patient's right on the left


@pytest.mark.parametrize("coarsest", [0, 1, 2])
@pytest.mark.parametrize("orientation", ["LPS", "RAS", "RAI", "ASL", "PIR", "SRA"])
def test_no_view_is_a_mirror_image(orientation, coarsest):
    spacing = [1.0, 1.0, 1.0]
    spacing[coarsest] = 5.0
    image = SimpleITK.Image(4, 5, 6, SimpleITK.sitkUInt8)
    image.SetSpacing(spacing)
    image = SimpleITK.DICOMOrient(image, orientation)
    view, _ = view_of(properties_of(image))
    # the place in the world of each voxel: left, back, head
    places = np.empty((*image.GetSize()[::-1], 3))
    for z, y, x in np.ndindex(places.shape[:3]):
        places[z, y, x] = image.TransformIndexToPhysicalPoint((x, y, z))
    left, back, head = (view.of(places[..., world]) for world in range(3))
    seen = np.stack([left, back, head], axis=-1)
    origin = seen[0, 0, 0]
    assert np.linalg.det([seen[0, 0, 1] - origin, seen[0, 1, 0] - origin, seen[1, 0, 0] - origin]) == pytest.approx(5)


def test_labels_are_read_as_small_integers(tmp_path):
    voxels = np.zeros((3, 4, 5), np.int16)
    voxels[1, 2, 3] = 200
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(tmp_path / "a.nii.gz"))
    labels, _ = read_labels(tmp_path / "a.nii.gz", SimpleITKIO())
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, voxels)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels + 0.5), str(tmp_path / "b.nii.gz"))
    with pytest.raises(UserError, match="holds the value 0.5, expected label values"):
        read_labels(tmp_path / "b.nii.gz", SimpleITKIO())


def test_where_any_map_has_a_value():
    maps = [np.array([0, 1, 2, 0, 3]), np.array([0, 0, 1, 2, 255])]
    assert any_of(maps, {1: "a", 2: "b"}).tolist() == [False, True, True, True, False]


def test_nibabel_states_the_opposite_directions():
    # from right to left, from front to back, from foot to head, where nibabel's + is right and front
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    view, _ = view_of({"nibabel_stuff": {"original_affine": affine}, "spacing": [3.0, 1.0, 1.0]})
    assert (view.order, view.flips) == ((0, 1, 2), (False, False, False))
    view, _ = view_of({"nibabel_stuff": {"original_affine": np.diag([1.0, 1.0, 3.0, 1.0])}, "spacing": [3.0, 1.0, 1.0]})
    assert view.flips == (False, True, True)


def test_two_dimensions_stay_as_they_are():
    view, spacing = view_of({"spacing": [999.0, 0.5, 0.25]})
    assert spacing == (999.0, 0.5, 0.25)
    assert view.of(np.arange(6).reshape(1, 2, 3)).tolist() == [[[0, 1, 2], [3, 4, 5]]]


def test_images_of_a_case(tmp_path):
    for folder, name in (
        ("imagesTr", "a_0000.nii.gz"),
        ("imagesTr", "a_0001.nii.gz"),
        ("imagesTr", "a_b_0000.nii.gz"),
        ("imagesTs", "[c]_0000.nii.gz"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).touch()
    assert [f.name for f in find_image(tmp_path, "a", ".nii.gz")] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert [f.name for f in find_image(tmp_path, "[c]", ".nii.gz")] == ["[c]_0000.nii.gz"]
    assert find_image(tmp_path, "d", ".nii.gz") == []
