"""DICOM SEG files, read back by highdicom and by their own attributes."""

import re
import sys

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images import dicom_seg
from nnunetv2_sam2_3dmed.images.dicom_seg import check_dicom_seg, write_dicom_seg, write_dicom_seg_or_nifti
from nnunetv2_sam2_3dmed.images.volumes import read_volume, volume_from_array
from tests.images.dicom_files import join_series, write_multi_frame, write_series

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


MASK = np.zeros(HU.shape, dtype=np.uint8)
MASK[1:3, 2:4, 1] = 1


def written(path, volume, labels=MASK):
    """A SEG that was written and is read again, every value checked against the standard."""
    write_dicom_seg(path, labels, volume)
    settings = pydicom.config.settings
    usual, settings.reading_validation_mode = settings.reading_validation_mode, pydicom.config.RAISE
    try:
        data = pydicom.dcmread(path)
        assert all(element.VR for element in data.iterall())  # every value is parsed
    finally:
        settings.reading_validation_mode = usual
    return data


@pytest.mark.parametrize("order", [range(6), (4, 1, 0, 5, 2, 3)], ids=["in order", "mixed"])
def test_frames_of_a_multi_frame_file_are_referred_to(tmp_path, order):
    write_multi_frame(tmp_path / "all.dcm", HU, order=order)
    volume = read_volume(tmp_path / "all.dcm")
    data = written(tmp_path / "seg.dcm", volume)
    source = pydicom.dcmread(tmp_path / "all.dcm")
    frames = {}
    for k, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == source.SOPClassUID
        number = int(reference.ReferencedFrameNumber)
        theirs = source.PerFrameFunctionalGroupsSequence[number - 1].PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(group.PlanePositionSequence[0].ImagePositionPatient, theirs, atol=1e-6)
        frames[list(order)[number - 1]] = data.pixel_array[k]
    assert sorted(frames) == [1, 2]
    for z, frame in frames.items():
        np.testing.assert_array_equal(frame, MASK[z])


@pytest.mark.parametrize("storage", ["1.2.840.10008.5.1.4.1.1.7", "1.3.12.2.1107.5.9.1", "1.2.3.4"])
def test_images_of_any_class_can_be_referred_to(tmp_path, storage):
    def change(data, z):
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = storage

    write_series(tmp_path / "ct", HU, change=change)
    data = written(tmp_path / "seg.dcm", read_volume(tmp_path / "ct"))
    found = {element.value for element in data.iterall() if element.keyword == "ReferencedSOPClassUID"}
    assert found == {storage}


EMPTY = {
    "PatientName": "PN",
    "PatientID": "LO",
    "PatientBirthDate": "DA",
    "PatientSex": "CS",
    "StudyDate": "DA",
    "StudyTime": "TM",
    "StudyID": "SH",
    "AccessionNumber": "SH",
    "ReferringPhysicianName": "PN",
    "PositionReferenceIndicator": "LO",
}


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_what_an_anonymised_series_lacks_is_empty(tmp_path, how):
    """All of these are of type 2 in the standard: present, if need be without a value."""

    def change(data, z):
        for keyword in (*EMPTY, "SliceThickness", "Manufacturer", "SeriesNumber"):
            if how == "empty":
                setattr(data, keyword, None)
            elif keyword in data:
                delattr(data, keyword)

    write_series(tmp_path / "ct", HU, change=change)
    volume = read_volume(tmp_path / "ct")
    assert check_dicom_seg(volume) == []
    data = written(tmp_path / "seg.dcm", volume)
    for keyword, vr in EMPTY.items():
        assert data[keyword].VR == vr and not data[keyword].value
    assert data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 3
    assert data.SeriesNumber == 1000


@pytest.mark.parametrize(
    ("keyword", "said"),
    [
        ("StudyInstanceUID", "has no Study Instance UID .0020,000D.: the DICOM SEG gets a study of its own"),
        ("FrameOfReferenceUID", "has no Frame of Reference UID .0020,0052.: the DICOM SEG gets a frame of reference"),
    ],
)
def test_identifiers_that_must_be_there_are_made_once_and_told_of(tmp_path, keyword, said):
    write_series(tmp_path / "ct", HU, change=lambda data, z: delattr(data, keyword))
    volume = read_volume(tmp_path / "ct")
    for image in (volume, tmp_path / "ct"):
        (warning,) = check_dicom_seg(image)
        assert re.search(said, warning)
    first, second = (written(tmp_path / name, volume)[keyword].value for name in ("a.dcm", "b.dcm"))
    assert first == second and first.is_valid


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID"])
def test_images_that_cannot_be_referred_to_are_refused_before(tmp_path, keyword):
    write_series(tmp_path / "ct", HU, change=lambda data, z: delattr(data, keyword))
    for image in (read_volume(tmp_path / "ct"), tmp_path / "ct"):
        with pytest.raises(UserError, match="IM0000.dcm of ct has no valid (SOP|Series) Instance UID .*: write"):
            check_dicom_seg(image)


def test_values_that_the_standard_forbids_are_mended_and_told_of(tmp_path):
    def change(data, z):
        data.StudyID, data.PatientBirthDate, data.PatientSex = "A" * 30, "1.2.1970", "female"

    with pytest.warns(UserWarning):
        write_series(tmp_path / "ct", HU, change=change)
    volume = read_volume(tmp_path / "ct")
    birth, sex, study = check_dicom_seg(volume)
    assert "Patient's Birth Date (0010,0030) is '1.2.1970'" in birth and "left out" in birth
    assert "Patient's Sex (0010,0040) is 'female'" in sex and "left out" in sex
    assert "Study ID (0020,0010) of the series has more than the 16 characters" in study
    data = written(tmp_path / "seg.dcm", volume)
    assert (data.StudyID, data.PatientBirthDate, data.PatientSex) == ("A" * 16, "", "")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_names_without_a_character_set_are_read_as_they_were_meant(tmp_path, encoding):
    name = "Müller^Zoë".encode(encoding)
    write_series(tmp_path / "ct", HU, change=lambda data, z: setattr(data, "PatientName", name))
    data = written(tmp_path / "seg.dcm", read_volume(tmp_path / "ct"))
    assert (data.PatientName, data.SpecificCharacterSet) == ("Müller^Zoë", "ISO_IR 192")


def test_names_keep_their_character_set(tmp_path):
    def change(data, z):
        data.SpecificCharacterSet, data.PatientName = "ISO_IR 144", "Люкceмбypг"

    write_series(tmp_path / "ct", HU, change=change)
    assert written(tmp_path / "seg.dcm", read_volume(tmp_path / "ct")).PatientName == "Люкceмбypг"


def test_several_multi_frame_files_are_refused_before(tmp_path):
    series = hd.UID()
    for name, order in {"a": (0, 1, 2), "b": (3, 4, 5)}.items():
        write_multi_frame(tmp_path / "all" / name, HU, order=order, change=lambda data: join_series(data, series))
    with pytest.raises(UserError, match="all is spread over 2 multi-frame files"):
        check_dicom_seg(read_volume(tmp_path / "all"))


def test_slices_of_one_identifier_are_refused_before(tmp_path):
    write_series(tmp_path / "ct", HU, change=lambda data, z: setattr(data, "SOPInstanceUID", "1.2.3"))
    for image in (tmp_path / "ct", read_volume(tmp_path / "ct")):
        with pytest.raises(UserError, match="IM0000.dcm and IM0007.dcm of ct have the same SOP Instance UID"):
            check_dicom_seg(image)


def test_other_formats_are_refused_before(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(HU), str(tmp_path / "ct.nii.gz"))
    with pytest.raises(UserError, match="ct.nii.gz is no DICOM series"):
        check_dicom_seg(tmp_path / "ct.nii.gz")
    write_series(tmp_path / "ct", HU)
    assert check_dicom_seg(tmp_path / "ct") == []


def test_a_slice_is_not_replaced_but_an_older_segmentation_is(tmp_path):
    write_series(tmp_path / "ct", HU)
    volume = read_volume(tmp_path / "ct")
    before = volume.dicom_files[2].read_bytes()
    with pytest.raises(UserError, match="IM0014.dcm is a DICOM file that the segmentation would replace"):
        write_dicom_seg(volume.dicom_files[2], MASK, volume)
    assert volume.dicom_files[2].read_bytes() == before
    for labels in (MASK, 2 * MASK):
        write_dicom_seg(tmp_path / "ct" / "seg.dcm", labels, volume)
    assert pydicom.dcmread(tmp_path / "ct" / "seg.dcm").SegmentSequence[0].SegmentLabel == "object 2"
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").array, HU)  # the segmentation is no slice


def test_segments_have_the_objects_names_as_dicom_allows_them(tmp_path):
    write_series(tmp_path / "ct", HU)
    volume = read_volume(tmp_path / "ct")
    names = {1: "Leber, Segment Ⅳ", 2: "a\\b\n" + "c" * 80, 3: " \n"}
    write_dicom_seg(tmp_path / "seg.dcm", np.arange(HU.size).reshape(HU.shape) % 5, volume, names)
    found = [one.SegmentLabel for one in pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence]
    assert found == ["Leber, Segment Ⅳ", "ab" + "c" * 62, "object 3", "object 4"]


def test_the_mask_is_kept_whatever_fails(tmp_path, monkeypatch):
    write_series(tmp_path / "ct", HU)
    volume = read_volume(tmp_path / "ct")
    (tmp_path / "seg.nii.gz").write_text("somebody's")

    def fail(*args):
        raise AttributeError("'FileDataset' object has no attribute 'Anything'")

    monkeypatch.setattr(dicom_seg, "source_images", fail)
    with pytest.raises(UserError, match=r"seg.dcm could not be written .*Anything.*: the mask is in .*seg_2.nii.gz\.$"):
        write_dicom_seg_or_nifti(tmp_path / "seg.dcm", MASK, volume)
    np.testing.assert_array_equal(read_volume(tmp_path / "seg_2.nii.gz").array, MASK)
    assert (tmp_path / "seg.nii.gz").read_text() == "somebody's"
    assert not (tmp_path / "seg.dcm").exists()
