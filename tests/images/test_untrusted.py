"""Images from strangers: headers that name other files, and headers that claim to be large."""

import gzip
import struct
import zlib

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import DeflatedExplicitVRLittleEndian

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.integrity import stated_bytes
from nnunetv2_sam2_3dmed.images.untrusted import read_untrusted
from nnunetv2_sam2_3dmed.images.volumes import read_volume
from tests.images.dicom_files import write_series

META = b"ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\n"
NRRD = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n"
SECRET = bytes(range(64))


@pytest.fixture
def sent(tmp_path):
    """A folder of what a client has sent, beside a file that is not the client's."""
    folder = tmp_path / "sent"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(SECRET)
    for name in ("ct.raw", "LISTx", "ct1.raw", "ct2.raw"):
        (folder / name).write_bytes(bytes(64))
    for name in ("link.raw", "Schädel.raw"):
        (folder / name).symlink_to(tmp_path / "secret")
    return folder


def allow(_: int) -> None:
    pass


def written(folder, name, header):
    file = folder / name
    file.write_bytes(header.replace(b"SECRET", bytes(folder.parent / "secret")))
    return file


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("ct.mhd", META + b"ElementDataFile = SECRET\n"),
        ("ct.mha", META + b"ElementDataFile = SECRET\n"),
        ("ct.MHD", META + b"ElementDataFile = ../secret\n"),
        ("ct.mhd", META + b"ElementDataFile = link.raw\n"),
        ("ct.mhd", META + "ElementDataFile = Schädel.raw\n".encode()),  # a link, too
        ("ct.mhd", META + b"ElementDataFile = LIST\n" + b"SECRET\n" * 4),
        ("ct.mhd", META + b"ElementDataFile = LISTx\n" + b"SECRET\n" * 4),  # a list too, for ITK
        ("ct.mhd", META + b"ElementDataFile = ct%d.raw 1 2 1\n"),
        ("ct.mhd", META + b"ElementDataFile == SECRET\n"),
        ("ct.mhd", META + b"Comment = a\rElementDataFile = SECRET\nElementDataFile = ct.raw\n"),
        ("ct.mhd", META + b"A" * 500 + b"ElementDataFile = SECRET\nElementDataFile = ct.raw\n"),
        ("ct.nhdr", NRRD + b"data file: SECRET\n\n"),
        ("ct.nrrd", NRRD + b"data file: SECRET\n\n"),
        ("ct.nhdr", NRRD + b"datafile: ../secret\n\n"),
        ("ct.nhdr", NRRD + b"data file: link.raw\n\n"),
        ("ct.nhdr", NRRD + b"data file: LIST 2\n" + b"SECRET\n" * 4),
        ("ct.nhdr", NRRD + b"data file: ct%d.raw 1 2 1 2\n\n"),
        ("ct.nhdr", NRRD + b"data file: SECRET\ndatafile: ct.raw\n\n"),
        # one line for ITK, two where lines are split as Unicode has it
        ("ct.nhdr", NRRD + b"data file: SECRET\n#\x85data file: ct.raw\n\n"),
        ("ct.nhdr", NRRD + b"data file: SECRET\ncontent: a\x0cdata file: ct.raw\n\n"),
    ],
)
def test_no_header_leads_to_files_of_others(sent, name, header):
    file = written(sent, name, header)
    with pytest.raises(UserError, match="voxels in|unusual header"):
        read_untrusted(file, sent, allow)


def test_files_outside_would_be_read_otherwise(sent):
    """The danger is real: the readers themselves follow such a name."""
    for name, header in [
        ("ct.mhd", META + b"ElementDataFile = ../secret\n"),
        ("ct.nhdr", NRRD + b"data file: ../secret\n\n"),
    ]:
        assert read_volume(written(sent, name, header)).array.tobytes() == SECRET


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("ct.mhd", META + b"ElementDataFile = ct.raw\n"),
        ("ct.mhd", (META + b"ElementDataFile = ct.raw\n").replace(b"\n", b"\r\n")),
        ("ct.mha", META + b"ElementDataFile = LOCAL\n" + bytes(64)),
        ("ct.nhdr", NRRD + b"# data file: other.raw\nnote:=data file: x\ndata file: ct.raw\n\n"),
        ("ct.nrrd", NRRD + b"\n" + bytes(64)),
    ],
)
def test_common_headers_are_read(sent, name, header):
    volume = read_untrusted(written(sent, name, header), sent, allow)
    assert volume.shape == (4, 4, 4) and not volume.array.any()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_files_of_itk_are_read(tmp_path, ending):
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    file = tmp_path / f"ct{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(file))
    stated = []
    np.testing.assert_array_equal(read_untrusted(file, tmp_path, stated.append).array, array)
    assert stated == [120]


def nifti(shape, slope=0.0) -> bytes:
    """A NIfTI header of int16 voxels."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<fff", header, 108, 352, slope, 0)
    header[344:348] = b"n+1\0"
    return bytes(header)


class Refused(Exception):
    pass


def refuse(size: int) -> None:
    raise Refused(size)


@pytest.mark.parametrize(
    ("name", "content", "size"),
    [
        ("ct.nii.gz", gzip.compress(nifti((2000, 1000, 500)), mtime=0), 2_000_000_000),
        ("ct.nii", nifti((2000, 1000, 500), slope=0.5), 4_000_000_000),  # scaled to float32
        (
            "ct.mha",
            META.replace(b"4 4 4", b"2000 1000 500") + b"CompressedData = True\nCompressedDataSize = 20\n"
            b"ElementDataFile = LOCAL\n" + zlib.compress(bytes(99)).ljust(20),
            1_000_000_000,
        ),
        ("ct.nrrd", NRRD.replace(b"4 4 4", b"2000 1000 500").replace(b"raw", b"gzip") + b"\n", 1_000_000_000),
    ],
)
def test_small_files_that_claim_to_be_large_are_refused_before_they_are_read(tmp_path, name, content, size):
    file = tmp_path / name
    file.write_bytes(content)
    assert len(content) < 500
    with pytest.raises(Refused, match=str(size)):
        read_untrusted(file, tmp_path, refuse)


def test_dicom_files_that_claim_to_be_large_are_refused_before_they_are_decoded(tmp_path):
    def claim(data, z):
        data.Rows, data.Columns, data.NumberOfFrames = 60_000, 50_000, 3

    write_series(tmp_path, np.zeros((2, 4, 4), np.int16), change=claim)
    with pytest.raises(Refused, match=str(2 * 3 * 60_000 * 50_000 * 2)):
        read_untrusted(tmp_path, tmp_path, refuse)


@pytest.mark.parametrize("preamble", [True, False])
def test_deflated_dicom_files_are_refused_before_they_are_unpacked(tmp_path, preamble):
    write_series(tmp_path, np.zeros((2, 4, 4), np.int16))
    assert read_untrusted(tmp_path, tmp_path, allow).shape == (2, 4, 4)
    file = sorted(tmp_path.iterdir())[1]
    data = pydicom.dcmread(file)
    data.ImageComments = "x" * 10_000
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(file)
    file.write_bytes(file.read_bytes()[0 if preamble else 132 :])
    assert file.stat().st_size < 5000 and len(pydicom.dcmread(file, force=True).ImageComments) == 10_000
    for path in (tmp_path, file):
        with pytest.raises(UserError, match="compressed as a whole"):
            read_untrusted(path, tmp_path, allow)


@pytest.mark.parametrize(
    "header",
    [META.replace(b"MET_UCHAR", b"MET_STRING") + b"ElementDataFile = LOCAL\n", META + b"ElementDataFile = LIST\n"],
)
def test_headers_that_do_not_state_their_size_are_refused(sent, header):
    file = written(sent, "ct.mhd", header + b"ct.raw\n" * 4)
    with pytest.raises(UserError, match="in a common way"):
        stated_bytes(file)
