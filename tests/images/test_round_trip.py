"""An image is read, its object segmented by a threshold, and the mask found by other libraries where the object is."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.images.volumes import READABLE, WRITABLE, read_volume, write_segmentation
from tests.images.files import RAS_FROM_LPS, centre_mm, ellipsoid, write


def rotation(degrees_x: float, degrees_z: float) -> np.ndarray:
    a, b = np.radians((degrees_x, degrees_z))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return about_x @ about_z


# each axis of the array along the patient's or against it, in two orders of the axes: among them left-handed ones
FLIPS = [np.diag(signs).astype(float) for signs in itertools.product((1, -1), repeat=3)]
ORDERS = {"axial": np.eye(3)[[0, 1, 2]], "sagittal": np.eye(3)[[2, 0, 1]]}
TILTS = {"straight": np.eye(3), "oblique": rotation(17.0, -31.0)}


@pytest.mark.parametrize("ending", READABLE)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("tilt", TILTS)
def test_the_masks_centre_is_where_the_object_is(tmp_path, ending, order, tilt):
    array = ellipsoid()
    for number, flips in enumerate(FLIPS):
        direction = TILTS[tilt] @ ORDERS[order] @ flips
        write(tmp_path / f"image{number}{ending}", array, direction)
        volume = read_volume(tmp_path / f"image{number}{ending}")
        expected = centre_mm(array > 0, direction)
        for written in WRITABLE:
            file = tmp_path / f"mask{number}{written}"
            write_segmentation(file, (volume.array > 0).astype(np.uint8), volume)
            np.testing.assert_allclose(by_sitk(file), expected, atol=0.01)
            if written.startswith(".nii"):
                np.testing.assert_allclose(by_nibabel(file), expected, atol=0.01)
                file.unlink()  # .nii and .nii.gz of one name are one too many


def by_sitk(file) -> np.ndarray:
    image = sitk.ReadImage(str(file))
    voxels = np.argwhere(sitk.GetArrayFromImage(image)).mean(axis=0)[::-1]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(voxels.tolist()))


def by_nibabel(file) -> np.ndarray:
    image = nib.load(file)
    voxels = np.argwhere(np.asarray(image.dataobj)).mean(axis=0)
    return RAS_FROM_LPS @ (image.affine @ [*voxels, 1])[:3]
