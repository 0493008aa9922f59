"""Images in every format, for tests: an ellipsoid on a grid that is oblique or lies along the patient's axes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

SHAPE = (9, 12, 15)  # z, y, x
SPACING = (3.0, 0.7, 0.9)  # z, y, x
ORIGIN = (-123.4, 56.7, -890.1)  # x, y, z, LPS
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0])


def ellipsoid() -> np.ndarray:
    """Off the centre, so that turned or mirrored it lies elsewhere."""
    z, y, x = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    inside = ((z - 3) / 2.5) ** 2 + ((y - 7) / 3.5) ** 2 + ((x - 5) / 4.5) ** 2 <= 1
    return np.where(inside, 1000, -200).astype(np.int16)


def write(path: Path, array: np.ndarray, direction: np.ndarray) -> None:
    """NIfTI is written by nibabel, from the formula of its affine; the others by ITK.

    Args:
        path: of the file.
        array: (z, y, x).
        direction: (3, 3), LPS.
    """
    if path.name.endswith((".nii", ".nii.gz")):
        affine = np.eye(4)
        affine[:3, :3] = RAS_FROM_LPS @ direction @ np.diag(SPACING[::-1])
        affine[:3, 3] = RAS_FROM_LPS @ np.array(ORIGIN)
        nib.save(nib.Nifti1Image(array.T, affine), path)
        return
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin(ORIGIN)
    image.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(image, str(path), path.name.endswith(("a", "d")))


def centre_mm(mask: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The centre of mass (x, y, z) in mm, LPS, of a mask (z, y, x), by the formula."""
    return np.array(ORIGIN) + direction @ (np.array(SPACING[::-1]) * np.argwhere(mask).mean(axis=0)[::-1])
