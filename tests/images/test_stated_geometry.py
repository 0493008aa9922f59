from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import read_volume

ARRAY = np.arange(7 * 6 * 5, dtype=np.int16).reshape(7, 6, 5)  # x, y, z
SIZES = (0.7, 0.8, 3.0)
PIXDIM, SLOPE, INTERCEPT, SFORM = 76, 112, 116, 280  # where they begin in the header


def nifti(
    folder: Path,
    sform: np.ndarray | None = None,
    qform: np.ndarray | None = None,
    numbers: dict[int, list[float]] | None = None,
    array: np.ndarray = ARRAY,
) -> Path:
    """An image with these affines (RAS), of which None is declared unused, and single numbers of its header changed."""
    image = nib.Nifti1Image(array, affine())
    image.set_sform(sform, 0 if sform is None else 1)
    image.set_qform(affine() if qform is None else qform, 0 if qform is None else 1)
    path = folder / "image.nii"
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    for offset, values in (numbers or {}).items():
        content[offset : offset + 4 * len(values)] = np.array(values, "<f4").tobytes()
    path.write_bytes(bytes(content))
    return path


def affine(
    turned: float = 0.0, origin: tuple[float, float, float] = (10.0, 20.0, -30.0), shear: float = 0.0
) -> np.ndarray:
    cosine, sine = np.cos(turned), np.sin(turned)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ np.diag(SIZES)
    matrix[0, 1] += shear
    matrix[:3, 3] = origin
    return matrix


def text_image(path: Path, header: str, voxels: bytes = ARRAY.tobytes("F")) -> Path:
    path.write_bytes(header.encode() + voxels)
    return path


def metaimage(folder: Path, **fields: str) -> Path:
    stated = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0",
        "ElementSpacing": "0.7 0.8 3",
        "DimSize": "7 6 5",
        "ElementType": "MET_SHORT",
        **fields,
        "ElementDataFile": "LOCAL",
    }
    lines = [f"{key} = {value}\n" for key, value in stated.items() if value]
    return text_image(folder / "image.mha", "".join(lines))


def nrrd(folder: Path, **fields: str) -> Path:
    stated = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "7 6 5",
        "space_directions": "(0.7,0,0) (0,0.8,0) (0,0,3)",
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "raw",
        **fields,
    }
    lines = [f"{key.replace('_', ' ')}: {value}\n" for key, value in stated.items() if value]
    return text_image(folder / "image.nrrd", "NRRD0004\n" + "".join(lines) + "\n")


MIRRORED = affine(0.4) @ np.diag([1.0, 1.0, -1.0, 1.0])  # left-handed axes, which a qform has by pixdim[0] = -1


@pytest.mark.parametrize(
    ("sform", "qform"),
    [(affine(0.4), affine(0.4)), (affine(0.4), None), (None, affine(0.4)), (MIRRORED, MIRRORED), (None, MIRRORED)],
    ids=["both", "sform", "qform", "left-handed", "left-handed qform"],
)
def test_nothing_is_said_of_a_header_that_agrees_with_itself(tmp_path, sform, qform):
    volume = read_volume(nifti(tmp_path, sform, qform))

    assert volume.notes == ()
    lps = np.diag([-1.0, -1.0, 1.0]) @ (sform if qform is None else qform)[:3]
    corner = np.array([6, 5, 4, 1.0])  # x, y, z
    np.testing.assert_allclose(volume.to_physical(np.array([[4, 5, 6]]))[0], lps @ corner, atol=1e-4)


def test_the_unit_of_the_header_is_that_of_both_affines(tmp_path):
    small = affine() * np.array([[1e-3], [1e-3], [1e-3], [1]])
    path = nifti(tmp_path, small, small)
    image = nib.load(path)
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "metres.nii")

    volume = read_volume(tmp_path / "metres.nii")

    assert volume.notes == ()
    np.testing.assert_allclose(volume.spacing, SIZES[::-1], rtol=1e-6)


@pytest.mark.parametrize(
    ("sform", "qform", "apart"),
    [
        (affine(), affine(origin=(10.0, 20.0, 0.0)), "30 mm"),
        # the farthest voxel lies hypot(6 * 0.7, 5 * 0.8) = 5.8 mm off the axis; the chord is 2 * 5.8 * sin(0.4 / 2)
        (affine(0.4), affine(), "2.3 mm"),
    ],
    ids=["shifted", "turned"],
)
def test_sform_and_qform_that_differ_are_told(tmp_path, sform, qform, apart):
    volume = read_volume(nifti(tmp_path, sform, qform))

    (note,) = volume.notes
    assert f"up to {apart} apart" in note
    taken = sform if "the sform is taken" in note else qform
    lps = np.diag([-1.0, -1.0, 1.0]) @ taken[:3] @ np.array([6, 5, 4, 1.0])
    np.testing.assert_allclose(volume.to_physical(np.array([[4, 5, 6]]))[0], lps, atol=1e-4)


def test_a_header_without_orientation_is_told(tmp_path):
    (note,) = read_volume(nifti(tmp_path)).notes

    assert "sform_code and qform_code are 0" in note


@pytest.mark.parametrize(
    ("sform", "qform", "numbers", "message"),
    [
        (affine(), affine(), {PIXDIM + 8: [-0.8]}, "0.7 x -0.8 x 3 for the distances"),
        (affine(), affine(), {PIXDIM + 12: [0.0]}, "0.7 x 0.8 x 0 for the distances"),
        (None, affine(), {PIXDIM + 12: [np.nan]}, "0.7 x 0.8 x nan for the distances"),
        (affine(), None, {PIXDIM + 4: [1.0, 1.0, 1.0]}, "1 x 1 x 1 mm large by its pixdim, and 0.7 x 0.8 x 3 mm"),
        (affine(shear=0.05), None, {}, "axes are not perpendicular"),
        (affine(), None, {SFORM: [np.nan]}, "sform with values that are not finite"),
        (affine(), None, {SFORM: [0.0] * 12}, "an sform that is no geometry"),
        (affine(), affine(), {SLOPE: [0.0], INTERCEPT: [5.0]}, "5 to be added to its values"),
    ],
)
def test_a_nifti_header_that_contradicts_itself_is_refused(tmp_path, sform, qform, numbers, message):
    with pytest.raises(UserError, match=message):
        read_volume(nifti(tmp_path, sform, qform, numbers))


def test_the_thickness_of_a_single_slice_may_be_missing(tmp_path):
    volume = read_volume(nifti(tmp_path, None, affine(), {PIXDIM + 12: [0.0]}, ARRAY[:, :, :1]))

    assert volume.spacing == pytest.approx((1.0, 0.8, 0.7))
    assert "1 mm is taken" in volume.notes[0]


def test_a_metaimage_is_read_whatever_the_capitals_of_its_ending(tmp_path):
    path = metaimage(tmp_path).rename(tmp_path / "IMAGE.MHA")

    volume = read_volume(path)

    np.testing.assert_array_equal(volume.array, ARRAY.T)
    assert volume.notes == ()


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"ElementSpacing": ""}, "no distances between voxels"),
        ({"ElementToIntensityFunctionSlope": "2"}, "is not applied"),
    ],
)
def test_gaps_in_a_metaimage_header_are_told(tmp_path, fields, note):
    (told,) = read_volume(metaimage(tmp_path, **fields)).notes

    assert note in told


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"space": "scanner-xyz"}, "space is scanner-xyz"),
        ({"space": "", "space_directions": ""}, "no distances between voxels"),
    ],
)
def test_gaps_in_an_nrrd_header_are_told(tmp_path, fields, note):
    (told,) = read_volume(nrrd(tmp_path, **fields)).notes

    assert note in told


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1)),
        ("LPS", (1, 1)),
        ("right-anterior-superior", (-1, -1)),
        ("RAS", (-1, -1)),
        ("LAS", (1, -1)),
    ],
)
def test_nothing_is_said_of_a_known_space(tmp_path, space, signs):
    volume = read_volume(nrrd(tmp_path, space=space))

    assert volume.notes == ()
    np.testing.assert_allclose(volume.direction, np.diag([*signs, 1.0]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"space_units": '"m" "m" "m"'}, "distances in m, which are read as mm"),
        ({"kinds": "domain domain time"}, "an axis of time"),
        ({"space": "", "space_directions": "", "spacings": "0.7 0.8 nan"}, "0.7 0.8 nan for the distances"),
    ],
)
def test_an_nrrd_header_of_something_else_than_millimetres_in_space_is_refused(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        read_volume(nrrd(tmp_path, **fields))
