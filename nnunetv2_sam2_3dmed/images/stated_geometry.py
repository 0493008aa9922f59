"""Gaps and contradictions in the geometry of image headers, which ITK ignores silently."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.quaternions import fillpositive, quat2mat

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.nifti import is_nifti, read_header
from nnunetv2_sam2_3dmed.images.text_headers import METAIMAGE, NRRD, metaimage_fields, nrrd_fields

_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MM = {1: 1000.0, 3: 0.001}  # NIfTI's codes for metres and micrometres, which ITK converts
_LIKE = 0.1  # voxels, by which two geometries of one header may differ
_SHEAR = 1e-3  # of direction cosines
_SIZES_LIKE = 1e-2  # relative
_NRRD_SPACES = re.compile(r"(l|left)-?(p|posterior)-?(s|superior)|(l|left|r|right)-?(a|anterior)-?(s|superior)")
_CORRECT = "correct the header"


def check_stated_geometry(file: Path) -> tuple[str, ...]:
    """Check the geometry in a header, before ITK reads the image.

    Args:
        file: NIfTI, MetaImage or NRRD.

    Returns:
        Notes on what is missing and assumed.

    Raises:
        UserError: distances between voxels are invalid, the header contradicts itself, or its axes are not spatial.
    """
    name = file.name.lower()
    if is_nifti(file):
        return _nifti(file, read_header(file))
    if name.endswith(METAIMAGE):
        return _metaimage(metaimage_fields(file)[0])
    if name.endswith(NRRD):
        return _nrrd(file, nrrd_fields(file)[0])
    return ()


def nifti_choice(file: Path, shape: Sequence[int], affine: np.ndarray) -> tuple[str, ...]:
    """Note which geometry ITK took, where sform and qform of a NIfTI file differ.

    Args:
        file: for messages, and to be read.
        shape: voxels along x, y, z.
        affine: (4, 4) from voxel indices x, y, z to mm, LPS, as the image was read.

    Returns:
        One sentence, or none where the two agree.

    Raises:
        UserError: the image lies where neither puts it.
    """
    header = read_header(file)
    stated = {"sform": _sform(header), "qform": _qform(header)}
    given = {name: matrix for name, matrix in stated.items() if matrix is not None}
    if not given:
        return ()
    apart = {name: _apart(shape, matrix, affine) for name, matrix in given.items()}
    taken = min(apart, key=lambda name: apart[name])
    size, far = float(np.linalg.norm(affine[:3, :3], axis=0).min()), float(np.abs(affine[:3, 3]).max())
    allowed = max(_LIKE * size, 1e-6 * far)  # single precision resolves 1e-7 of a position
    if apart[taken] > allowed:
        raise UserError(
            f"{file} contradicts itself: it is read {apart[taken]:.3g} mm away from where its {taken} puts it; "
            f"{_CORRECT}."
        )
    if max(apart.values()) <= allowed:
        return ()
    other = next(name for name in apart if name != taken)
    return (
        f"sform and qform of the header put voxels up to {apart[other]:.3g} mm apart: the {taken} is taken, and "
        f"programs that take the {other} will show the mask elsewhere",
    )


def _nifti(file: Path, header: Nifti1Header) -> tuple[str, ...]:
    if int(header["dim"][0]) < 3:
        return ()  # refused for its dimensions
    lengths, sizes = header["dim"][1:4], header["pixdim"][1:4].astype(float)
    usable = np.isfinite(sizes) & (sizes > 0)
    if not (usable | (lengths == 1)).all():
        raise UserError(
            f"{file} has {_by(sizes)} for the distances between its voxels (pixdim), but three above 0 mm are needed: "
            f"{_CORRECT}."
        )
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 and intercept != 0 and np.isfinite(intercept):
        raise UserError(
            f"{file} has {intercept:g} to be added to its values (scl_inter), but 0 for scl_slope, so that programs "
            f"differ in whether they do: {_CORRECT}."
        )
    for name, values in _affine_fields(header).items():
        if not np.isfinite(values).all():
            raise UserError(f"{file} has an {name} with values that are not finite: {_CORRECT}.")
    notes = [] if usable.all() else ["the header gives no thickness of the one slice: 1 mm is taken"]
    sform, qform = _sform(header), _qform(header)
    if qform is None and sform is None:
        if int(header["sform_code"]) > 0:
            raise UserError(f"{file} has an sform that is no geometry, and no qform: {_CORRECT}.")
        notes.append(
            "the header says nothing of the patient's sides (sform_code and qform_code are 0): left may be right"
        )
    elif qform is None and sform is not None:
        norms = np.linalg.norm(sform[:3, :3], axis=0)
        cosines = sform[:3, :3] / norms
        if np.abs(cosines.T @ cosines - np.eye(3)).max() > _SHEAR:
            raise UserError(f"{file} has an sform whose axes are not perpendicular: resample it to a grid first.")
        if not np.allclose(norms[usable], sizes[usable] * _unit(header), rtol=_SIZES_LIKE, atol=0):
            raise UserError(
                f"{file} contradicts itself: voxels are {_by(sizes * _unit(header))} mm large by its pixdim, and "
                f"{_by(norms)} mm by its sform; {_CORRECT}."
            )
    return tuple(notes)


def _metaimage(fields: Mapping[str, str]) -> tuple[str, ...]:
    notes = []
    if "ElementSpacing" not in fields and "ElementSize" not in fields:
        notes.append("the header gives no distances between voxels: 1 mm is taken")
    if fields.get("ElementToIntensityFunctionSlope", "1") != "1" or (
        fields.get("ElementToIntensityFunctionOffset", "0") != "0"
    ):
        notes.append("the header's ElementToIntensityFunction is not applied to the values")
    return tuple(notes)


def _nrrd(file: Path, fields: Mapping[str, str]) -> tuple[str, ...]:
    sizes, kinds = fields.get("sizes", "").split(), fields.get("kinds", "").lower().split()
    if any(kind == "time" and size != "1" for kind, size in zip(kinds, sizes)):
        raise UserError(f"{file} has an axis of time ({' x '.join(sizes)}; {' '.join(kinds)}): take one time point.")
    units = set(re.findall(r'"([^"]*)"', f"{fields.get('space units', '')} {fields.get('units', '')}"))
    other = sorted(
        unit for unit in units if unit.strip().lower() in ("m", "cm", "um", "µm", "\u03bcm", "nm", "inch", "in")
    )
    if other:
        raise UserError(
            f"{file} has distances in {', '.join(other)}, which are read as mm: save it with distances in mm."
        )
    notes = []
    spacings = fields.get("spacings", "").lower().split()
    if "space directions" not in fields:
        if any(value == "nan" and size != "1" for value, size in zip(spacings, sizes)) and "nan" in spacings[-3:]:
            raise UserError(f"{file} has {fields['spacings']} for the distances between its voxels: {_CORRECT}.")
        if not spacings:
            notes.append("the header gives no distances between voxels: 1 mm is taken")
    space = fields.get("space", "").lower()
    if space and not _NRRD_SPACES.fullmatch(space.removesuffix("-time").removesuffix("t")):
        notes.append(f"the header's space is {fields['space']}, which is taken for LPS: left may be right")
    return tuple(notes)


def _sform(header: Nifti1Header) -> np.ndarray | None:
    """The affine of the sform in mm, LPS; None if unused."""
    matrix = header.get_sform().astype(float)
    if int(header["sform_code"]) <= 0 or not np.linalg.norm(matrix[:3, :3], axis=0).all():
        return None
    return _LPS_FROM_RAS @ _scaled(matrix, _unit(header))


def _qform(header: Nifti1Header) -> np.ndarray | None:
    """The affine of the qform in mm, LPS; None if unused."""
    if int(header["qform_code"]) <= 0:
        return None
    quaternion = np.array([header["quatern_b"], header["quatern_c"], header["quatern_d"]], dtype=float)
    quaternion /= max(1.0, np.linalg.norm(quaternion))  # rounding in the header
    sizes = np.where(header["pixdim"][1:4] > 0, header["pixdim"][1:4], 1.0).astype(float)
    sizes[2] *= -1 if header["pixdim"][0] < 0 else 1
    matrix = np.eye(4)
    matrix[:3, :3] = quat2mat(fillpositive(quaternion)) @ np.diag(sizes)
    matrix[:3, 3] = [header["qoffset_x"], header["qoffset_y"], header["qoffset_z"]]
    return _LPS_FROM_RAS @ _scaled(matrix, _unit(header))


def _affine_fields(header: Nifti1Header) -> dict[str, np.ndarray]:
    """The numbers of sform and qform, if their codes say that they are used."""
    keys = {
        "sform": ("srow_x", "srow_y", "srow_z"),
        "qform": ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    }
    return {
        name: np.hstack([header[key] for key in own]).astype(float)
        for name, own in keys.items()
        if int(header[f"{name}_code"]) > 0
    }


def _unit(header: Nifti1Header) -> float:
    return _MM.get(int(header["xyzt_units"]) & 7, 1.0)


def _scaled(matrix: np.ndarray, unit: float) -> np.ndarray:
    return np.vstack([matrix[:3] * unit, matrix[3:]])


def _apart(shape: Sequence[int], one: np.ndarray, other: np.ndarray) -> float:
    """The largest distance of corresponding corners, in mm."""
    corners = np.array([[*corner, 1.0] for corner in itertools.product(*((0, length - 1) for length in shape))])
    return float(np.linalg.norm(corners @ (one - other)[:3].T, axis=1).max())


def _by(values: np.ndarray) -> str:
    return " x ".join(f"{value:.3g}" for value in values)
