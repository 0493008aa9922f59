"""Files that are cut off, damaged or none of the kind are refused; whole ones of every make are read as they are."""

from __future__ import annotations

import bz2
import gzip
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.integrity import check_content, check_length, check_lengths, count_not_finite
from nnunetv2_sam2_3dmed.images.volumes import READABLE, read_volume

ARRAY = np.random.default_rng(0).integers(-1000, 1000, (7, 8, 9)).astype(np.int16)


def write(path, compressed: bool, array=ARRAY):
    """Return the file that has the voxels."""
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), compressed)
    return max(path.parent.iterdir(), key=lambda file: file.stat().st_size)


def compressions(ending):
    return (True, False) if ending not in (".nii", ".nii.gz") else (ending == ".nii.gz",)


EVERY = [(ending, compressed) for ending in READABLE for compressed in compressions(ending)]


@pytest.mark.parametrize(("ending", "compressed"), EVERY)
def test_a_file_cut_at_any_byte_is_refused(tmp_path, ending, compressed):
    file = tmp_path / f"a{ending}"
    data = write(file, compressed)
    whole = data.read_bytes()
    check_length(file)
    check_content(file)
    cuts = [*range(1, 20), *range(20, len(whole), 61), len(whole)]
    for cut in cuts:
        data.write_bytes(whole[: len(whole) - cut])
        with pytest.raises(
            UserError, match=r"a\.\w+.* (incomplete|empty|breaks off|cannot be read|LOC\S*, which does not exist)"
        ) as said:
            check_content(file)
        assert str(said.value).count(". ") == 0 and str(said.value).endswith(".")
        if ending in (".nii", ".nii.gz") or not compressed:  # for others, only a noted length could tell
            with pytest.raises(UserError):
                check_length(file)
    data.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(UserError, match=r"a\.\S+ is incomplete, \S+ has \d+ of (1008|\d+ compressed) bytes of voxels"):
        read_volume(file)


@pytest.mark.parametrize(("ending", "compressed"), [pair for pair in EVERY if pair[1]])
def test_a_flipped_bit_in_compressed_voxels_is_found(tmp_path, ending, compressed):
    file = tmp_path / f"a{ending}"
    data = write(file, compressed)
    whole = data.read_bytes()
    for place in range(len(whole) // 2, len(whole) - 8, 17):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        data.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged|incomplete"):
            read_volume(file)


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_voxels_in_a_file_that_is_not_there(tmp_path, ending):
    data = write(tmp_path / f"a{ending}", False)
    data.unlink()
    for check in (check_length, read_volume):
        with pytest.raises(UserError, match=rf"a\{ending} has its voxels in a.raw, which does not exist"):
            check(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_voxels_in_a_file_whose_name_has_other_letters(tmp_path, ending):
    data = write(tmp_path / f"a{ending}", False)
    expected = read_volume(tmp_path / f"a{ending}").array
    data.rename(tmp_path / "Schädel (2).raw")
    header = (tmp_path / f"a{ending}").read_bytes()
    (tmp_path / f"a{ending}").write_bytes(header.replace(data.name.encode(), "Schädel (2).raw".encode()))
    np.testing.assert_array_equal(read_volume(tmp_path / f"a{ending}").array, expected)


@pytest.mark.parametrize("ending", READABLE)
@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><html>404</html>", b"version https://git-lfs.github.com\n" * 40]
)
def test_what_is_something_else(tmp_path, ending, content):
    file = tmp_path / f"a{ending}"
    file.write_bytes(content)
    for check in (check_length, check_content, read_volume):
        with pytest.raises(UserError, match=r"a\.\S+ (is empty|cannot be read as an image)"):
            check(file)


def test_a_folder_with_the_name_of_a_file(tmp_path):
    (tmp_path / "a.nii").mkdir()
    write(tmp_path / "a.nii" / "b.nii", False)
    (tmp_path / "a.nii" / "._b.nii").write_bytes(b"left by macOS")
    with pytest.raises(UserError, match=r"a\.nii is a folder, not a file: give the file that is in it, b\.nii"):
        read_volume(tmp_path / "a.nii")
    with pytest.raises(UserError, match=r"a\.nii is a folder"):
        check_length(tmp_path / "a.nii")


def test_longer_files_and_several_gzip_members_are_whole(tmp_path):
    write(tmp_path / "a.nii", False)
    plain = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "longer.nii").write_bytes(plain + b"0" * 100)
    parts = [plain[:300], plain[300:700], plain[700:], b""]  # as bgzip writes, with an empty one at the end
    (tmp_path / "members.nii.gz").write_bytes(b"".join(gzip.compress(part) for part in parts))
    (tmp_path / "padded.nii.gz").write_bytes(gzip.compress(plain) + bytes(512))
    for name in ("longer.nii", "members.nii.gz", "padded.nii.gz"):
        check_length(tmp_path / name)
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, ARRAY)
    (tmp_path / "members.nii.gz").write_bytes(b"".join(gzip.compress(part) for part in parts[:2]))
    with pytest.raises(UserError, match="members.nii.gz is incomplete, it has 348 of 1008 bytes"):
        check_length(tmp_path / "members.nii.gz")


def test_much_in_few_bytes(tmp_path):
    """Zeros decode to a thousand times their compressed size: in pieces, also where a piece ends with the stream."""
    for depth in (63, 64, 65):
        array = np.zeros((depth, 256, 256), np.uint8)
        write(tmp_path / "zeros.nii.gz", True, array)
        check_content(tmp_path / "zeros.nii.gz")
        (tmp_path / "zeros.nii.gz").unlink()


def test_big_endian_and_other_types(tmp_path):
    for dtype in (">i2", "<i2", ">f4", "<f8", "u1", ">u4"):
        array = np.abs(ARRAY).astype(dtype)
        header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
        nib.save(nib.Nifti1Image(array.T, np.eye(4), header, dtype=array.dtype), tmp_path / "a.nii.gz")
        np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, array)


def test_nifti_2_is_checked_and_refused_by_its_name(tmp_path):
    nib.save(nib.Nifti2Image(ARRAY.T, np.eye(4)), tmp_path / "a.nii.gz")
    check_content(tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="a.nii.gz is NIfTI-2"):
        read_volume(tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Pair(ARRAY.T, np.eye(4)), tmp_path / "b.img")
    (tmp_path / "b.hdr").rename(tmp_path / "b.nii")
    with pytest.raises(UserError, match="b.nii is the header of a pair"):
        read_volume(tmp_path / "b.nii")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_values_that_are_not_finite_are_counted(tmp_path, ending):
    values = ARRAY.astype(np.float32)
    values[0, 0, 0], values[3, 4, 5], values[6, 7, 8] = np.nan, np.inf, -np.inf
    write(tmp_path / f"a{ending}", True, values)
    assert count_not_finite(tmp_path / f"a{ending}") == 3
    with pytest.raises(UserError, match="3 values that are not finite"):
        read_volume(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_values_behind_the_voxels_do_not_count(tmp_path, ending):
    write(tmp_path / "a.nii", False, ARRAY.astype(np.float32))
    longer = (tmp_path / "a.nii").read_bytes() + np.full(10, np.nan, np.float32).tobytes()
    (tmp_path / f"b{ending}").write_bytes(gzip.compress(longer) if ending == ".nii.gz" else longer)
    assert count_not_finite(tmp_path / f"b{ending}") == 0


def test_headers_that_nrrd_and_metaimage_allow(tmp_path):
    voxels = ARRAY.tobytes()
    sizes = " ".join(map(str, ARRAY.shape[::-1]))
    fields = f"type: int16\ndimension: 3\nsizes: {sizes}\nendian: little\nspace: LPS\n"
    (tmp_path / "a.nrrd").write_bytes(
        f"NRRD0005\n# a comment\n{fields}encoding: bzip2\n\n".encode() + bz2.compress(voxels)
    )
    (tmp_path / "skipped.raw").write_bytes(b"twelve bytes" + voxels)
    (tmp_path / "a.nhdr").write_text(f"NRRD0004\n{fields}encoding: raw\nbyte skip: 12\ndata file: skipped.raw\n")
    header = f"ObjectType = Image\nNDims = 3\nDimSize = {sizes}\nElementType = MET_SHORT\n"
    (tmp_path / "a.mhd").write_text(f"{header}HeaderSize = 12\nElementDataFile = skipped.raw\n")
    check_content(tmp_path / "a.nrrd")
    check_length(tmp_path / "a.nrrd")
    for name in ("a.nhdr", "a.mhd"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, ARRAY)


def test_of_many_the_first_is_named_and_the_others_counted(tmp_path):
    files = [tmp_path / f"{name}.nii" for name in "abc"]
    write(files[0], False)
    files[1].write_bytes(files[0].read_bytes()[:-1])
    files[2].write_bytes(b"")
    with pytest.raises(UserError, match=r"b\.nii is incomplete.*\(and 1 more files are not whole\)\.$"):
        check_lengths(files)
    check_lengths(files[:1])


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_damaged_headers_end_in_a_volume_or_a_sentence(tmp_path, ending):
    write(tmp_path / f"whole{ending}", ending != ".nii")
    content = (tmp_path / f"whole{ending}").read_bytes()
    packed = ending == ".nii.gz"
    content = gzip.decompress(content) if packed else content
    rng, said = np.random.default_rng(0), 0
    for _ in range(40):
        damaged = bytearray(content)
        for place in rng.integers(0, 280, 3):
            damaged[place] = rng.integers(0, 256)
        file = tmp_path / f"damaged{ending}"
        file.write_bytes(gzip.compress(bytes(damaged)) if packed else damaged)
        try:
            read_volume(file)
        except UserError as error:
            assert file.name in str(error) and "\n" not in str(error)
            said += 1
    assert said


def metaimage(path, fields, voxels=b""):
    stated = {"ObjectType": "Image", "NDims": "3", "DimSize": "9 8 7", "ElementType": "MET_SHORT", **fields}
    named = stated.pop("ElementDataFile", "LOCAL")
    header = "".join(f"{key} = {value}\n" for key, value in stated.items()) + f"ElementDataFile = {named}\n"
    path.write_bytes(header.encode() + voxels)
    return path


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "lacks a CompressedDataSize"),
        ({"CompressedDataSize": "100"}, "incomplete, it has .* bytes of voxels"),
    ],
)
def test_compressed_metaimages_that_itk_reads_wrongly(tmp_path, fields, message):
    stream = zlib.compress(ARRAY.tobytes())
    path = tmp_path / "a.mha"
    whole = {"CompressedData": "True", "CompressedDataSize": str(len(stream))}
    np.testing.assert_array_equal(read_volume(metaimage(path, whole, stream)).array, ARRAY)

    metaimage(path, {"CompressedData": "True", **fields}, stream)
    with pytest.raises(UserError, match=message):
        check_content(path)


@pytest.mark.parametrize("axes", ["", " 2"])
def test_files_that_a_metaimage_lists(tmp_path, axes):
    names = [f"{z}.raw" for z in range(7)]
    for name, plane in zip(names, ARRAY):
        (tmp_path / name).write_bytes(plane.tobytes())
    fields = {"ElementDataFile": f"LIST{axes}"}
    listed = "".join(f"{name}\n" for name in names).encode()
    path = metaimage(tmp_path / "a.mhd", fields, listed)
    np.testing.assert_array_equal(read_volume(path).array, ARRAY)

    for fewer in (listed[:-1], listed[: -len("6.raw\n")]):  # ITK does not read a name without a line break
        metaimage(path, fields, fewer)
        with pytest.raises(UserError, match="lists 6 of 7 files"):
            check_length(path)

    metaimage(path, fields, listed)
    (tmp_path / "6.raw").write_bytes(ARRAY[6].tobytes()[:-1])
    with pytest.raises(UserError, match="6.raw has 143 of 144 bytes"):
        check_length(path)
    (tmp_path / "6.raw").unlink()
    with pytest.raises(UserError, match="voxels in 6.raw, which does not exist"):
        check_length(path)


@pytest.mark.parametrize(
    ("ending", "content", "message"),
    [
        (".mhd", "NDims = 3\nElementDataFile =\n", "ElementDataFile is empty"),
        (".nhdr", "NRRD0004\ntype: short\ndata file: \n\n", "`data file` is empty"),
    ],
)
def test_a_header_that_names_no_file(tmp_path, ending, content, message):
    (tmp_path / f"a{ending}").write_text(content)
    with pytest.raises(UserError, match=message):
        check_length(tmp_path / f"a{ending}")


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_voxels_within_the_header_are_refused(tmp_path, offset):
    """ITK reads the header as voxels where vox_offset is 0."""
    write(tmp_path / "a.nii", False)
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[108:112] = np.float32(offset).tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(UserError, match=f"begin at byte {offset:g}, within the header"):
        check_length(tmp_path / "a.nii")


@pytest.mark.parametrize("kind", ["twice", "zip"])
def test_archives_are_called_by_their_name(tmp_path, kind):
    write(tmp_path / "a.nii.gz", True)
    content = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content) if kind == "twice" else b"PK\x03\x04" + content)
    with pytest.raises(UserError, match="an archive, or was compressed twice"):
        check_length(tmp_path / "a.nii.gz")
