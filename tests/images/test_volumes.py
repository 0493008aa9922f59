import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import (
    check_same_grid,
    read_volume,
    volume_from_array,
    write_segmentation,
)
from tests.images.dicom_files import write_series

ARRAY = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
OBLIQUE = [0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0]


def write(path, array=ARRAY, spacing=(0.7, 0.8, 3.0), origin=(5.0, -6.0, 7.0), direction=OBLIQUE):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    sitk.WriteImage(image, str(path))
    return image


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".nhdr", ".mhd"])
def test_points_are_where_itk_has_them(tmp_path, ending):
    image = write(tmp_path / f"a{ending}")
    volume = read_volume(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(volume.array, ARRAY)
    assert volume.spacing == pytest.approx((3.0, 0.8, 0.7))
    voxels = np.array([(0, 0, 0), (1, 2, 3), (0.5, 1.25, 2)])
    expected = [image.TransformContinuousIndexToPhysicalPoint(voxel[::-1].tolist()) for voxel in voxels]
    np.testing.assert_allclose(volume.to_physical(voxels), expected, atol=1e-4)
    np.testing.assert_allclose(volume.to_voxels(expected), voxels, atol=1e-4)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_segmentation_has_the_images_geometry(tmp_path, ending):
    image = write(tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    labels = (ARRAY > 5).astype(np.uint8)
    write_segmentation(tmp_path / "new" / f"s{ending}", labels, volume)
    written = sitk.ReadImage(str(tmp_path / "new" / f"s{ending}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), labels)
    for theirs, ours in zip(
        (image.GetSpacing(), image.GetOrigin(), image.GetDirection()),
        (written.GetSpacing(), written.GetOrigin(), written.GetDirection()),
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert [file.name for file in (tmp_path / "new").iterdir()] == [f"s{ending}"], "nothing stays beside it"
    check_same_grid(read_volume(tmp_path / "new" / f"s{ending}"), volume)


def test_another_grid_is_noticed():
    volume = volume_from_array(ARRAY, (3, 1, 1))
    with pytest.raises(UserError, match="10.00 mm apart"):
        check_same_grid(volume_from_array(ARRAY, (3, 1, 1), origin=(10, 0, 0)), volume)
    # half a voxel along its shortest edge
    check_same_grid(volume_from_array(ARRAY, (3, 1, 1), origin=(0, 0.4, 0)), volume)
    with pytest.raises(UserError, match="0.60 mm apart"):
        check_same_grid(volume_from_array(ARRAY, (3, 1, 1), origin=(0, 0.6, 0)), volume)
    square = np.zeros((2, 4, 4), dtype=np.int16)
    straight, swapped = (np.eye(3), np.eye(3)[:, [1, 0, 2]])  # x and y are exchanged
    volumes = [volume_from_array(square, (3, 1, 1), direction=turned) for turned in (straight, swapped)]
    with pytest.raises(UserError, match="4.24 mm apart"):  # the last column and the last row, 3 mm either way
        check_same_grid(*volumes)
    with pytest.raises(UserError, match="2 x 3 x 3 voxels, but image has 2 x 3 x 4"):
        check_same_grid(volume_from_array(ARRAY[..., 1:], (3, 1, 1)), volume)


@pytest.mark.parametrize(
    ("array", "spacing", "said"),
    [
        (ARRAY[None], (1, 1, 1), "4 dimensions"),
        (ARRAY[0], (1, 1, 1), "2 dimensions"),
        (ARRAY[:0], (1, 1, 1), "no voxels"),
        (ARRAY.astype(complex), (1, 1, 1), "complex64|complex128"),
        (np.where(ARRAY == 3, np.nan, ARRAY), (1, 1, 1), "1 voxels that are NaN"),
        (np.where(ARRAY > 21, np.inf, ARRAY), (1, 1, 1), "2 voxels that are NaN or infinite"),
        (ARRAY, (1, 0, 1), "spacing is"),
        (ARRAY, (1, 1), "spacing is"),
        (ARRAY, (1, 1, np.nan), "spacing is"),
    ],
)
def test_what_is_no_image_is_refused(array, spacing, said):
    with pytest.raises(UserError, match=said):
        volume_from_array(array, spacing)


def test_a_direction_that_is_none_is_refused():
    with pytest.raises(UserError, match="orthogonal"):
        volume_from_array(ARRAY, (1, 1, 1), direction=[1, 1, 0, 0, 1, 0, 0, 0, 1])


def test_files_that_are_no_image_are_refused(tmp_path):
    with pytest.raises(UserError, match="no file or folder"):
        read_volume(tmp_path / "missing.nii.gz")
    (tmp_path / "text.txt").write_text("no image")
    with pytest.raises(UserError, match="no kind of image"):
        read_volume(tmp_path / "text.txt")
    (tmp_path / "broken.nii.gz").write_text("no image")
    with pytest.raises(UserError, match="broken.nii.gz cannot be read as an image"):
        read_volume(tmp_path / "broken.nii.gz")
    with pytest.raises(UserError, match="no DICOM series"):
        read_volume(tmp_path)


def test_a_file_of_four_dimensions_is_refused_but_not_one_time_point(tmp_path):
    four = sitk.JoinSeries([sitk.GetImageFromArray(ARRAY)] * 2)
    sitk.WriteImage(four, str(tmp_path / "four.nii.gz"))
    with pytest.raises(UserError, match="4 dimensions .4 x 3 x 2 x 2 voxels.*one time point"):
        read_volume(tmp_path / "four.nii.gz")
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(ARRAY)]), str(tmp_path / "one.nii.gz"))
    np.testing.assert_array_equal(read_volume(tmp_path / "one.nii.gz").array, ARRAY)


def test_an_image_of_colours_is_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4, 3), np.uint8), isVector=True), str(tmp_path / "rgb.mha"))
    with pytest.raises(UserError, match="3 channels"):
        read_volume(tmp_path / "rgb.mha")


HU = np.random.default_rng(0).integers(-1000, 1000, (6, 5, 4)).astype(np.int16)


@pytest.mark.parametrize(
    "orientation",
    [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (0.8, 0.6, 0, 0, 0, 1)],
    ids=["axial", "sagittal", "oblique"],
)
def test_a_dicom_series_is_read_in_the_order_of_its_places(tmp_path, orientation):
    write_series(tmp_path / "ct", HU, orientation=orientation)
    volume = read_volume(tmp_path / "ct")
    np.testing.assert_array_equal(volume.array, HU)
    assert volume.modality == "CT"
    assert volume.spacing == pytest.approx((3.0, 0.8, 0.7))
    # DICOM's own formula (PS3.3, C.7.6.2.1.1): rows step along the second cosines, columns along the first
    rows, columns = np.array(orientation[3:]), np.array(orientation[:3])
    expected = np.array((-10, -20, 30)) + 2 * 0.8 * rows + 3 * 0.7 * columns + 5 * 3.0 * np.cross(columns, rows)
    np.testing.assert_allclose(volume.to_physical(np.array([(5, 2, 3)]))[0], expected, atol=1e-5)
    assert [file.name for file in volume.dicom_files] == [f"IM{(z * 7) % 100:04d}.dcm" for z in range(6)]
    one = read_volume(volume.dicom_files[2])
    np.testing.assert_array_equal(one.array, HU)


def test_a_series_with_a_missing_slice_is_refused(tmp_path):
    write_series(tmp_path / "ct", HU, skip=(3,))
    with pytest.raises(UserError, match="lacks a slice: between IM0014.dcm .36.00 mm.*IM0028.dcm .42.00 mm.* 6.00 mm"):
        read_volume(tmp_path / "ct")


def test_a_series_with_doubled_slices_is_refused(tmp_path):
    write_series(tmp_path / "ct", HU, places=[0, 3, 6, 6, 9, 12])
    with pytest.raises(UserError, match="two slices at the same place"):
        read_volume(tmp_path / "ct")


def test_one_of_several_series_must_be_named(tmp_path):
    write_series(tmp_path / "ct", HU)
    write_series(tmp_path / "other", HU + 1)
    for file in (tmp_path / "other").iterdir():
        file.rename(tmp_path / "ct" / f"other_{file.name}")
    with pytest.raises(UserError, match="2 DICOM series"):
        read_volume(tmp_path / "ct")
    np.testing.assert_array_equal(read_volume(tmp_path / "ct" / "other_IM0000.dcm").array, HU + 1)


def test_a_tilted_gantry_is_refused(tmp_path):
    write_series(tmp_path / "ct", HU)
    import pydicom

    for file in (tmp_path / "ct").iterdir():
        data = pydicom.dcmread(file)
        x, y, z = data.ImagePositionPatient
        data.ImagePositionPatient = [x, float(y) + 0.3 * (float(z) - 30), z]
        data.save_as(file)
    with pytest.raises(UserError, match="tilted gantry"):
        read_volume(tmp_path / "ct")
