"""Files of a series, found among others, and attributes that are malformed."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.dicom_headers import is_dicom, numbers, series_headers, text
from nnunetv2_sam2_3dmed.images.volumes import read_volume
from tests.images.dicom_files import write_series

HU = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 4)).astype(np.int16)


def test_files_without_an_ending_are_read(tmp_path):
    write_series(tmp_path / "ct", HU)
    for k, file in enumerate(sorted((tmp_path / "ct").iterdir())):
        file.rename(tmp_path / "ct" / (f"IM{k}" if k else "1.2.840.113619.2.5.70"))
    for path in (tmp_path / "ct", tmp_path / "ct" / "IM2", tmp_path / "ct" / "1.2.840.113619.2.5.70"):
        np.testing.assert_array_equal(read_volume(path).array, HU)


def test_files_without_preamble_are_read(tmp_path):
    write_series(tmp_path / "ct", HU)
    for file in (tmp_path / "ct").iterdir():
        data = pydicom.dcmread(file)
        del data.file_meta
        data.preamble = None
        data.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert file.read_bytes()[:2] == b"\x08\x00"
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").array, HU)


def test_what_is_no_image_is_passed_over(tmp_path):
    write_series(tmp_path / "ct", HU)
    folder = tmp_path / "ct"
    first = next(folder.iterdir())
    (folder / f"._{first.name}").write_bytes(b"\0\5\x16\7" + bytes(100))  # of macOS
    shutil.copy(first, folder / f"._{first.stem}")
    (folder / "notes.txt").write_text("no image")
    (folder / "below").mkdir()
    for name, storage in {
        "DICOMDIR": "1.2.840.10008.1.3.10",
        "report.dcm": "1.2.840.10008.5.1.4.1.1.88.11",
        "seg.dcm": "1.2.840.10008.5.1.4.1.1.66.4",
        "state": "1.2.840.10008.5.1.4.1.1.11.1",
    }.items():
        data = pydicom.dcmread(first)
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = storage
        data.SeriesInstanceUID = generate_uid()
        if name in ("DICOMDIR", "report.dcm"):
            del data.Rows, data.PixelData
        data.save_as(folder / name)
    np.testing.assert_array_equal(read_volume(folder).array, HU)
    with pytest.raises(UserError, match="report.dcm is no DICOM image, but an object of the class Basic Text SR"):
        read_volume(folder / "report.dcm")
    with pytest.raises(UserError, match="seg.dcm is no DICOM image, but an object of the class Segmentation"):
        read_volume(folder / "seg.dcm")
    with pytest.raises(UserError, match="DICOMDIR is no DICOM image, but a DICOMDIR"):
        read_volume(folder / "DICOMDIR")


def test_series_whose_uids_begin_alike_are_not_mixed(tmp_path):
    for uid in ("1.2.3", "1.2.3.4"):
        write_series(tmp_path / uid, HU + len(uid), change=lambda data, z, uid=uid: named(data, uid))
        for file in (tmp_path / uid).iterdir():
            (tmp_path / "both").mkdir(exist_ok=True)
            shutil.copy(file, tmp_path / "both" / f"{uid}_{file.name}")
    np.testing.assert_array_equal(read_volume(tmp_path / "both" / "1.2.3_IM0000.dcm").array, HU + 5)
    np.testing.assert_array_equal(read_volume(tmp_path / "both" / "1.2.3.4_IM0000.dcm").array, HU + 7)
    with pytest.raises(UserError, match="2 DICOM series: give one file .* 1.2.3.4_IM0000.dcm, 1.2.3_IM0000.dcm"):
        read_volume(tmp_path / "both")


def named(data, uid):
    data.SeriesInstanceUID = uid


@pytest.mark.parametrize("length", [0, 100, 300, 600])
def test_a_broken_file_of_a_series_is_no_shorter_series(tmp_path, length):
    """The last slice would be missing without a word."""
    write_series(tmp_path / "ct", HU)
    last = tmp_path / "ct" / "IM0021.dcm"
    last.write_bytes(last.read_bytes()[:length])
    with pytest.raises(UserError, match=f"IM0021.dcm (is no DICOM file|breaks off before its image) .{length} bytes."):
        read_volume(tmp_path / "ct")
    with pytest.raises(UserError, match=f"IM0021.dcm (is no DICOM file|breaks off before its image) .{length} bytes."):
        read_volume(last)


def test_a_link_to_a_slice_that_is_not_there_is_found(tmp_path):
    write_series(tmp_path / "ct", HU)
    (tmp_path / "ct" / "IM0021.dcm").rename(tmp_path / "elsewhere.dcm")
    (tmp_path / "ct" / "IM0021.dcm").symlink_to(tmp_path / "elsewhere.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").array, HU)
    (tmp_path / "elsewhere.dcm").unlink()
    with pytest.raises(UserError, match="IM0021.dcm cannot be read: copy it again, or remove it"):
        read_volume(tmp_path / "ct")


def test_a_hidden_file_can_be_named(tmp_path):
    write_series(tmp_path / "ct", HU[:1])
    (tmp_path / "ct" / "IM0000.dcm").rename(tmp_path / "ct" / ".hidden")
    np.testing.assert_array_equal(read_volume(tmp_path / "ct" / ".hidden").array, HU[:1])


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_damaged_class_does_not_hide_a_slice(tmp_path):
    for how in ("the file's own", "both", "none"):
        write_series(tmp_path / how, HU)
        last = tmp_path / how / "IM0021.dcm"
        data = pydicom.dcmread(last)
        del data.Rows
        if how == "none":
            del data.SOPClassUID
        else:
            data["SOPClassUID"]._value = "G.2.840"
        if how != "the file's own":
            data.file_meta.MediaStorageSOPClassUID = "1.2.840"
        data.save_as(last)
        with pytest.raises(UserError, match="IM0021.dcm breaks off before its image"):
            read_volume(tmp_path / how)


def test_folders_without_images(tmp_path):
    with pytest.raises(UserError, match="no DICOM series in .*: give the folder of one"):
        series_headers(tmp_path)
    (tmp_path / "text.dcm").write_text("no image")
    with pytest.raises(UserError, match=r"text.dcm is no DICOM file .8 bytes.: copy it again"):
        series_headers(tmp_path / "text.dcm")
    assert not is_dicom(tmp_path / "text.dcm") and not is_dicom(tmp_path)


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("ImagePositionPatient", "", r"has an empty Image Position .Patient. .0020,0032., so that its geometry is"),
        ("ImagePositionPatient", None, r"has no Image Position .Patient. .0020,0032., so that its geometry is"),
        ("ImagePositionPatient", "1\\2", r"has '1.*2' for Image Position .Patient. .0020,0032., but 3 numbers"),
        ("ImagePositionPatient", "1\\\\3", r"for Image Position .Patient. .0020,0032., but 3 numbers are needed"),
        (
            "ImagePositionPatient",
            "1\\zwei\\3",
            r"has '1.zwei.3' for Image Position .Patient. .0020,0032., but 3 numbers",
        ),
        ("ImageOrientationPatient", "", r"has an empty Image Orientation .Patient. .0020,0037."),
        ("ImageOrientationPatient", "1\\0\\0", r"for Image Orientation .Patient. .0020,0037., but 6 numbers"),
        ("PixelSpacing", "0.8", r"has '0.8' for Pixel Spacing .0028,0030., but 2 numbers are needed"),
        ("PixelSpacing", "0,8\\0,8", r"for Pixel Spacing .0028,0030., but 2 numbers are needed"),
        ("PixelSpacing", "0\\0.8", r"has a pixel spacing of 0 x 0.8 mm"),
        ("PixelSpacing", None, r"has no Pixel Spacing .0028,0030."),
        ("RescaleSlope", "1\\2", r"for Rescale Slope .0028,1053., but one number is needed"),
        ("RescaleSlope", "0", r"has 0 for Rescale Slope .0028,1053."),
        ("RescaleIntercept", None, r"has a Rescale Slope .0028,1053., but no Rescale Intercept .0028,1052."),
        ("RescaleSlope", "", r"has a Rescale Intercept .0028,1052., but no Rescale Slope .0028,1053."),
        ("RescaleIntercept", "inf", r"has 'inf' for Rescale Intercept .0028,1052., but one number is needed"),
    ],
)
def test_malformed_attributes_are_named(tmp_path, keyword, value, said):
    tag = pydicom.datadict.tag_for_keyword(keyword)

    def change(data, z):
        if z != 1:
            return
        del data[tag]
        if value is not None:
            data.add(pydicom.dataelem.RawDataElement(
                pydicom.tag.Tag(tag), "DS", len(value), value.encode(), 0, False, True
            ))  # fmt: skip

    write_series(tmp_path / "ct", HU, change=change)
    with pytest.raises(UserError, match=f"IM0007.dcm .*{said}"):
        read_volume(tmp_path / "ct")


@pytest.mark.filterwarnings("ignore:Found unknown escape sequence")
def test_messages_are_one_line(tmp_path):
    def change(data, z):
        tag = pydicom.tag.Tag("ImagePositionPatient")
        data[tag] = pydicom.dataelem.RawDataElement(tag, "DS", 6, b"1\n\x1b\\2 ", 0, False, True)

    write_series(tmp_path / "ct", HU, change=change)
    with pytest.raises(UserError, match=r"has '1[?][?]\\2' for Image Position .Patient. .0020,0032.") as caught:
        read_volume(tmp_path / "ct")
    assert str(caught.value).isprintable()


def test_values_are_read_as_numbers_and_text():
    data = Dataset()
    data.ImageType = ["ORIGINAL", "PRIMARY"]
    data.PixelSpacing = [0.5, 0.25]
    assert text(data, "ImageType") == "ORIGINAL\\PRIMARY" and text(data, "Modality") == ""
    np.testing.assert_array_equal(numbers(data, "PixelSpacing", "a", 2), [0.5, 0.25])
    assert numbers(data, "SliceThickness", "a") is None
