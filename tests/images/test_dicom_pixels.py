"""Voxels of DICOM files: against ITK's own reading, and against the values that were written."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, JPEGLSLossless, RLELossless

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.dicom_pixels import stored_frames
from nnunetv2_sam2_3dmed.images.volumes import read_volume
from tests.images.dicom_files import write_multi_frame, write_series

HU = np.random.default_rng(0).integers(-1000, 1000, (6, 16, 12)).astype(np.int16)


def stored(data, values, slope=1, intercept=0, kind=np.uint16):
    """Put stored values and their rescaling into a dataset."""
    data.PixelData = np.asarray(values, kind).tobytes()
    data.BitsAllocated = data.BitsStored = np.dtype(kind).itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(np.issubdtype(kind, np.signedinteger))
    data.RescaleSlope, data.RescaleIntercept = slope, intercept


@pytest.mark.parametrize(
    ("slope", "intercept", "kind", "expected"),
    [
        (1, -1024, np.uint16, np.int16),
        (1, -1024, np.int16, np.int16),
        (2, 0, np.uint8, np.int16),
        (1, 40000, np.uint16, np.uint16),
        (200, -5, np.uint16, np.int32),
        (1, 0, np.uint32, np.int16),
        (0.5, 0, np.uint16, np.float32),
        (1, 0.25, np.int16, np.float32),
    ],
)
def test_voxels_agree_with_itk(tmp_path, slope, intercept, kind, expected):
    values = np.random.default_rng(1).integers(0, 200, HU.shape)
    write_series(tmp_path / "ct", HU, change=lambda data, z: stored(data, values[z], slope, intercept, kind))
    volume = read_volume(tmp_path / "ct")
    assert volume.array.dtype == expected
    np.testing.assert_array_equal(volume.array, values * slope + intercept)
    theirs = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(theirs))
    assert volume.spacing == pytest.approx(theirs.GetSpacing()[::-1])
    assert volume.origin == pytest.approx(theirs.GetOrigin())
    np.testing.assert_allclose(volume.direction.reshape(-1), theirs.GetDirection(), atol=1e-9)


def test_bits_that_are_not_stored_are_no_part_of_the_value(tmp_path):
    """Old devices kept overlays in the high bits."""

    def change(data, z):
        stored(data, (HU[z] & 0x0FFF).astype(np.uint16) | 0xA000)
        data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, 1  # in twos complement

    write_series(tmp_path / "ct", HU, change=change)
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").array, HU)


@pytest.mark.parametrize("first", [1, 0.002])
def test_every_slice_has_its_own_rescaling(tmp_path, first):
    """As in PET, where an empty slice may have the slope 1."""
    values = np.random.default_rng(2).integers(0, 30000, HU.shape)
    values[0] = 0
    slopes = np.array([first, *(0.0005 + 0.0001 * np.arange(1, 6))])
    write_series(tmp_path / "pet", HU, change=lambda data, z: stored(data, values[z], round(float(slopes[z]), 6)))
    volume = read_volume(tmp_path / "pet")
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, values * slopes[:, None, None], rtol=1e-6)


def test_every_frame_has_its_own_rescaling(tmp_path):
    def change(data):
        del data.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
        for z, group in enumerate(data.PerFrameFunctionalGroupsSequence):
            item = pydicom.Dataset()
            item.RescaleSlope, item.RescaleIntercept = z + 1, -1024 * (z + 1)
            group.PixelValueTransformationSequence = [item]

    write_multi_frame(tmp_path / "all.dcm", HU, change=change)
    volume = read_volume(tmp_path / "all.dcm")
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, HU * np.arange(1, 7)[:, None, None])


def test_a_lookup_table_stands_instead_of_rescaling(tmp_path):
    table = (np.arange(256) ** 2).astype(np.uint16)
    values = np.random.default_rng(3).integers(0, 256, HU.shape)

    def change(data, z):
        stored(data, values[z], kind=np.uint8)
        del data.RescaleSlope, data.RescaleIntercept
        item = pydicom.Dataset()
        item.LUTDescriptor, item.ModalityLUTType = [256, 0, 16], "US"
        item.LUTData = table.tobytes()
        item["LUTData"].VR = "OW"
        data.ModalityLUTSequence = [item]

    write_series(tmp_path / "ct", HU, change=change)
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").array, table[values])


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, DeflatedExplicitVRLittleEndian])
def test_compressed_series_have_the_same_voxels(tmp_path, syntax):
    if syntax == JPEGLSLossless:
        pytest.importorskip("jpeg_ls")
    write_series(tmp_path / "ct", HU)
    for file in (tmp_path / "ct").iterdir():
        data = pydicom.dcmread(file)
        if syntax == DeflatedExplicitVRLittleEndian:
            data.file_meta.TransferSyntaxUID = syntax
        else:
            data.compress(syntax, generate_instance_uid=False)
        data.save_as(file)
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").array, HU)


def by_gdcm(folder, kind):
    """Compress the pixels of each file in a folder with GDCM, which pydicom has no encoder for."""
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(folder / "compressed.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor(kind)
        writer.Execute(sitk.GetImageFromArray(data.pixel_array.reshape(-1, *data.pixel_array.shape[-2:])))
        theirs = pydicom.dcmread(folder / "compressed.dcm")
        (folder / "compressed.dcm").unlink()
        data.file_meta.TransferSyntaxUID = theirs.file_meta.TransferSyntaxUID
        frames = list(generate_frames(theirs.PixelData, number_of_frames=int(theirs.get("NumberOfFrames") or 1)))
        data.PixelData = encapsulate(frames)
        data["PixelData"].is_undefined_length = True
        data.save_as(file)
    return theirs.file_meta.TransferSyntaxUID


@pytest.mark.parametrize(("kind", "uid"), [("JPEG", "1.2.840.10008.1.2.4.70"), ("JPEG2000", "1.2.840.10008.1.2.4.90")])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_what_gdcm_decodes_is_neither_rescaled_nor_turned(tmp_path, kind, uid, photometric):
    """Lossless JPEG has no decoder beside pydicom here; GDCM would rescale a CT, and turn MONOCHROME1."""

    def change(data, z):
        data.PhotometricInterpretation = photometric
        data.RescaleSlope, data.RescaleIntercept = 3, -7 - z

    write_series(tmp_path / "ct", HU, change=change)
    assert by_gdcm(tmp_path / "ct", kind) == uid
    expected = (HU.astype(int) + 1024) * 3 - 7 - np.arange(6)[:, None, None]
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").array, expected)


def test_frames_are_decoded_one_by_one(tmp_path):
    write_multi_frame(tmp_path / "all" / "all.dcm", HU, order=(3, 1, 2, 0, 5, 4))
    assert by_gdcm(tmp_path / "all", "JPEG") == "1.2.840.10008.1.2.4.70"
    np.testing.assert_array_equal(read_volume(tmp_path / "all" / "all.dcm").array, HU)


@pytest.mark.parametrize("kind", [None, "JPEG", "JPEG2000"])
@pytest.mark.parametrize("left", [0.5, 0.9])
def test_files_that_break_off_are_refused(tmp_path, kind, left):
    write_series(tmp_path / "ct", HU)
    if kind is not None:
        by_gdcm(tmp_path / "ct", kind)
    file = tmp_path / "ct" / "IM0014.dcm"
    content = file.read_bytes()
    pixels = content.index(b"\xe0\x7f\x10\x00")
    file.write_bytes(content[: pixels + int(left * (len(content) - pixels))])
    with pytest.raises(UserError, match="IM0014.dcm (cannot be decoded|breaks off before its voxels)"):
        read_volume(tmp_path / "ct")


def test_damaged_fragments_are_refused(tmp_path):
    write_series(tmp_path / "ct", HU[:1])
    by_gdcm(tmp_path / "ct", "JPEG")
    file = tmp_path / "ct" / "IM0000.dcm"
    data = pydicom.dcmread(file)
    (frame,) = generate_frames(data.PixelData, number_of_frames=1)
    data.PixelData = encapsulate([frame[: len(frame) // 2]])
    data["PixelData"].is_undefined_length = True
    data.save_as(file)
    with pytest.raises(UserError, match="IM0000.dcm cannot be decoded .JPEG Lossless.*: copy it again, or decompress"):
        stored_frames(file)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("signed", [0, 1])
def test_bits_that_do_not_begin_at_the_lowest(tmp_path, signed, big_endian):
    """Twelve bits in the upper ones of sixteen, the others not empty."""
    values = HU if signed else HU + 1024

    def change(data, z):
        data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 15, signed
        data.RescaleIntercept = 0 if signed else -1024
        words = (values[z].astype(np.int32) * 16 + 5).astype(np.uint16 if not signed else np.int16)
        data.PixelData = words.astype(words.dtype.newbyteorder(">" if big_endian else "<")).tobytes()

    write_series(tmp_path / "ct", HU, change=change)
    if big_endian:
        for file in (tmp_path / "ct").iterdir():
            data = pydicom.dcmread(file)
            plain = pydicom.Dataset()
            plain.update(data)
            plain.file_meta = data.file_meta
            plain.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
            pydicom.dcmwrite(file, plain, little_endian=False, implicit_vr=False, enforce_file_format=True)

    np.testing.assert_array_equal(read_volume(tmp_path / "ct").array, HU)
