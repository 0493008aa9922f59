"""Position of masks after DICOM was read and a segmentation of it written: to 0.01 mm, in any orientation."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.images.dicom_seg import write_dicom_seg
from nnunetv2_sam2_3dmed.images.volumes import read_volume, write_segmentation
from tests.images.dicom_files import write_multi_frame, write_series

SPACING = (2.5, 0.9, 0.6)  # of slices, rows and columns
ORIGIN = (-31.3, 17.9, -402.7)
# the directions along a row and along a column: each plane of the body, seen from both sides and upside down
ORIENTATIONS = {
    "axial": (1, 0, 0, 0, 1, 0),
    "axial, turned left": (-1, 0, 0, 0, 1, 0),
    "axial, turned up": (1, 0, 0, 0, -1, 0),
    "axial, turned about": (-1, 0, 0, 0, -1, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "coronal, from behind": (-1, 0, 0, 0, 0, -1),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "sagittal, upside down": (0, -1, 0, 0, 0, 1),
}


def rotation():
    """A rotation by 20 degrees about an axis that is none of the patient's (Rodrigues' formula)."""
    x, y, z = np.array((1.0, 2.0, -2.0)) / 3
    across = np.array(((0, -z, y), (z, 0, -x), (-y, x, 0)))
    angle = np.deg2rad(20)
    return np.eye(3) + np.sin(angle) * across + (1 - np.cos(angle)) * across @ across


@pytest.fixture(params=[*ORIENTATIONS])
def straight(request):
    return ORIENTATIONS[request.param]


@pytest.fixture(params=["along the patient", "oblique"])
def orientation(request, straight):
    if request.param != "oblique":
        return tuple(float(value) for value in straight)
    turned = np.concatenate([rotation() @ straight[:3], rotation() @ straight[3:]])
    return tuple(float(f"{value:.10f}") for value in turned)


@pytest.mark.parametrize("kind", ["series", "multi-frame"])
def test_the_centre_of_mass_stays_in_its_place(tmp_path, orientation, kind):
    image = np.full((6, 9, 8), -1000, np.int16)
    image[3:5, 1:4, 4:7] = 500
    image[4, 2, 6] = -1000  # no symmetry
    if kind == "series":
        write_series(tmp_path / "ct", image, SPACING, orientation, ORIGIN)
    else:
        write_multi_frame(tmp_path / "ct" / "all", image, SPACING, orientation, ORIGIN, order=[3, 0, 5, 1, 4, 2])
    # PS3.3, C.7.6.2.1.1: columns are counted along the first three cosines, rows along the others
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    slices, rows, columns = np.argwhere(image == 500).mean(axis=0)
    expected = (
        np.array(ORIGIN)
        + SPACING[2] * columns * along_row
        + SPACING[1] * rows * along_column
        + SPACING[0] * slices * np.cross(along_row, along_column)
    )

    volume = read_volume(tmp_path / "ct")
    labels = (volume.array == 500).astype(np.uint8)
    assert labels.sum() == 17
    assert np.linalg.norm(centre(volume, labels) - expected) < 0.01
    for ending in (".nii.gz", ".nrrd", ".mha"):
        write_segmentation(tmp_path / f"mask{ending}", labels, volume)
        written = read_volume(tmp_path / f"mask{ending}")
        assert np.linalg.norm(centre(written, written.array) - expected) < 0.01
    hd = pytest.importorskip("highdicom")
    write_dicom_seg(tmp_path / "mask.dcm", labels, volume)
    segmentation = hd.seg.segread(tmp_path / "mask.dcm").get_volume(segment_numbers=[1], combine_segments=True)
    assert segmentation.array.sum() == 17
    places = segmentation.map_indices_to_reference(np.argwhere(segmentation.array))
    assert np.linalg.norm(places.mean(axis=0) - expected) < 0.01


def centre(volume, labels):
    return volume.to_physical(np.argwhere(labels)).mean(axis=0)
