"""DICOM SEG files, read back by highdicom and by their own attributes."""

import sys

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.dicom_seg import write_dicom_seg
from nnunetv2_sam2_3dmed.images.volumes import read_volume, volume_from_array
from tests.images.dicom_files import write_series

hd = pytest.importorskip("highdicom")

HU = np.random.default_rng(0).integers(-1000, 1000, (6, 5, 4)).astype(np.int16)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0.8, 0.6, 0, 0, 0, 1)], ids=["axial", "oblique"])
def test_segments_lie_on_the_slices_they_were_made_on(tmp_path, orientation):
    series = write_series(tmp_path / "ct", HU, orientation=orientation)
    volume = read_volume(tmp_path / "ct")
    labels = np.zeros(HU.shape, dtype=np.uint8)
    labels[1:3, 2:4, 1] = 3
    labels[4, 0, 2:4] = 9
    write_dicom_seg(tmp_path / "out" / "seg.dcm", labels, volume)
    segmentation = hd.seg.segread(tmp_path / "out" / "seg.dcm")
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == series
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == ["object 3", "object 9"]
    uids = [_uid(file) for file in volume.dicom_files]
    found = segmentation.get_pixels_by_source_instance(uids, segment_numbers=[1, 2])  # (z, y, x, segments)
    np.testing.assert_array_equal(found[..., 0], labels == 3)
    np.testing.assert_array_equal(found[..., 1], labels == 9)
    # and in space, without the references
    volumetric = segmentation.get_volume(segment_numbers=[1], combine_segments=True)
    inside = np.argwhere(volumetric.array > 0)
    places = volumetric.map_indices_to_reference(inside)
    expected = volume.to_physical(np.argwhere(labels == 3))
    np.testing.assert_allclose(_sorted(places), _sorted(expected), atol=1e-3)


def _uid(file):
    import pydicom

    return pydicom.dcmread(file).SOPInstanceUID


def _sorted(points):
    points = np.round(points, 3) + 0.0
    return points[np.lexsort(points.T)]


def test_what_cannot_be_written_is_refused(tmp_path):
    labels = np.ones(HU.shape, dtype=np.uint8)
    with pytest.raises(UserError, match="is no DICOM series"):
        write_dicom_seg(tmp_path / "seg.dcm", labels, volume_from_array(HU, (3, 1, 1)))
    write_series(tmp_path / "ct", HU)
    with pytest.raises(UserError, match="no voxel of ct belongs to an object"):
        write_dicom_seg(tmp_path / "seg.dcm", 0 * labels, read_volume(tmp_path / "ct"))
    assert not (tmp_path / "seg.dcm").exists()


def test_without_highdicom_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(UserError, match=r"pip install 'nnunetv2-sam2-3dmed\[dicom\]'"):
        write_dicom_seg(tmp_path / "seg.dcm", np.ones(HU.shape, np.uint8), volume_from_array(HU, (3, 1, 1)))
