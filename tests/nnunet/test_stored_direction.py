"""The direction that nnU-Net's readers note, against ITK's of the same file."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from scipy.spatial.transform import Rotation

from nnunetv2_sam2_3dmed.images.orientation import view_along
from nnunetv2_sam2_3dmed.nnunet.stored_direction import direction_of


@pytest.fixture
def file(tmp_path):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [10, -20, 15], degrees=True).as_matrix() @ np.diag([1.0, -2.0, 3.0])
    nibabel.save(
        nibabel.Nifti1Image(np.random.default_rng(0).random((5, 6, 7), np.float32), affine), tmp_path / "a.nii.gz"
    )
    return tmp_path / "a.nii.gz"


@pytest.mark.parametrize("reader", [SimpleITKIO, NibabelIO])
def test_readers_that_leave_images_alone_agree_with_itk(file, reader):
    _, properties = reader().read_images([str(file)])
    expected = np.array(sitk.ReadImage(str(file)).GetDirection()).reshape(3, 3)
    assert np.allclose(direction_of(properties), expected, atol=1e-4)


def test_a_turned_image_is_shown_the_same_way_up(file):
    shown = []
    for reader in (SimpleITKIO, NibabelIOWithReorient):
        images, properties = reader().read_images([str(file)])
        shown.append(view_along(direction_of(properties), 0).of(images[0]))
    assert np.array_equal(*shown)


def test_images_without_a_direction_lie_along_the_patients_axes():
    assert np.array_equal(direction_of({"spacing": (1, 1, 1)}), np.eye(3))
