"""Synthetic CT volume: a body with two organs that differ in texture, and lesions in one of them.

Everything is drawn from the random generator that the caller passes, so that a seed determines a case.
Shapes are defined in millimetres and in three dimensions: neighbouring slices resemble each other as
they do in a patient, which is what methods that relate slices are meant to use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

SMOOTH_ORGAN, SPECKLED_ORGAN, LESION = 1, 2, 3
CLASS_NAMES = {
    0: "background",
    SMOOTH_ORGAN: "smooth organ",
    SPECKLED_ORGAN: "speckled organ",
    LESION: "lesion",
}

# mean attenuation in Hounsfield units; the speckled organ is close to soft tissue: its texture matters
AIR, FAT, SOFT_TISSUE, VESSEL, MARROW, BONE = -1000.0, -100.0, 40.0, 150.0, 180.0, 420.0
SMOOTH_ORGAN_HU, SPECKLED_ORGAN_HU, LESION_HU = 110.0, 50.0, 50.0
NOISE_HU, SPECKLE_HU = 12.0, 45.0

IN_PLANE_VOXELS = 64


@dataclass(frozen=True)
class Phantom:
    """A synthetic case.

    Attributes:
        image: Hounsfield units, int16, (slices, rows, columns); slice 0 is the lowest, row 0 the front.
        label: class of each voxel, uint8, same shape; see ``CLASS_NAMES``.
        spacing: millimetres between voxels, (slices, rows, columns).
    """

    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, float, float]


def make_phantom(rng: np.random.Generator, with_lesion: bool) -> Phantom:
    """Draw a case of about 20 x 64 x 64 voxels of 3.0 x 1.2 x 1.2 mm."""
    in_plane = float(rng.uniform(1.14, 1.26))
    spacing = (3.0, in_plane, in_plane)
    points = _grid((int(rng.integers(18, 23)), IN_PLANE_VOXELS, IN_PLANE_VOXELS), spacing)

    tissue, body, taken = _body(points, rng)
    center, semi_axes = rng.normal((0, -2.5, -13), (2.5, 1.5, 1.5)), rng.normal((21, 14, 13), 1.2)
    smooth = _ellipsoid(points, center, semi_axes, rng) & body & ~taken
    center, semi_axes = rng.normal((1, 4, 19), (3.0, 1.5, 1.2)), rng.normal((16, 11, 8), 0.9)
    speckled = _ellipsoid(points, center, semi_axes, rng) & body & ~taken & ~smooth
    lesion = _lesions(smooth, points, spacing, rng) if with_lesion else np.zeros_like(smooth)

    label = np.zeros(tissue.shape, dtype=np.uint8)
    for value, mask, attenuation in (
        (SMOOTH_ORGAN, smooth, SMOOTH_ORGAN_HU),
        (SPECKLED_ORGAN, speckled, SPECKLED_ORGAN_HU),
        (LESION, lesion, LESION_HU),
    ):
        label[mask] = value
        tissue[mask] = attenuation

    image = ndimage.gaussian_filter(tissue, (0.3, 0.5, 0.5))  # partial volume at the borders
    image += SPECKLE_HU * _noise(tissue.shape, 0.5, rng) * speckled
    image += NOISE_HU * _noise(tissue.shape, 0.8, rng)
    return Phantom(np.clip(np.rint(image), -1024, 3071).astype(np.int16), label, spacing)


def _grid(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> np.ndarray:
    """Return the millimetres from the centre of the volume, (slices, rows, columns, 3)."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def _body(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the attenuation of the body without organs (HU), and masks of soft tissue and of spine and aorta."""
    z, y, x = np.moveaxis(points, -1, 0)
    girth = rng.uniform(0.94, 1.02) + 0.03 * np.sin(z / 20 + rng.uniform(0, 2 * np.pi))
    semi_y, semi_x = 28.5 * girth, 34.5 * girth
    fat_mm = rng.uniform(2.5, 4.5)
    outline = (y / semi_y) ** 2 + (x / semi_x) ** 2 < 1
    body = (y / (semi_y - fat_mm)) ** 2 + (x / (semi_x - fat_mm)) ** 2 < 1

    spine_y, spine_x = rng.normal((18.5, 0.0), 0.8)
    from_spine = np.hypot(y - spine_y - 0.001 * z**2, x - spine_x)  # slightly curved
    disc = np.cos(2 * np.pi * z / 24 + rng.uniform(0, 2 * np.pi)) > 0.75  # one every 24 mm
    aorta = np.hypot(y - spine_y + 9.5, x - spine_x - 3.5) < 2.8
    spine = from_spine < 5.5

    tissue = np.full(outline.shape, AIR)
    tissue[outline] = FAT
    tissue[body] = SOFT_TISSUE
    tissue[aorta] = VESSEL
    tissue[spine] = BONE
    tissue[from_spine < 4.2] = MARROW
    tissue[spine & disc] = 90.0
    return tissue, body, spine | aorta


def _ellipsoid(
    points: np.ndarray,
    center: np.ndarray,
    semi_axes: np.ndarray,
    rng: np.random.Generator,
    deformation: float = 0.12,
) -> np.ndarray:
    """Return the voxels inside a tilted ellipsoid whose surface is pushed in and out by smooth bumps.

    Args:
        points: millimetres, (slices, rows, columns, 3).
        center: millimetres, (3,).
        semi_axes: millimetres, (3,).
        rng: draws the tilt (about 10 degrees) and the bumps.
        deformation: size of the bumps as a share of the radius.
    """
    tilt = Rotation.from_rotvec(rng.normal(0, 0.17, 3)).as_matrix()
    unit = (points - center) @ tilt / semi_axes
    radius = np.maximum(np.linalg.norm(unit, axis=-1), 1e-6)
    direction = unit / radius[..., None]
    bumps = np.zeros_like(radius)
    for power in (2, 3, 3):  # a low power of the cosine to a random pole is smooth over the sphere
        pole = rng.normal(size=3)
        bumps += rng.normal() * (direction @ (pole / np.linalg.norm(pole))) ** power
    return radius < 1 + deformation * np.clip(bumps, -2, 2)


def _lesions(
    organ: np.ndarray, points: np.ndarray, spacing: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Return a mask of one to three round lesions of 3.5 to 6 mm radius that lie wholly inside ``organ``."""
    depth = ndimage.distance_transform_edt(organ, sampling=spacing)
    lesion = np.zeros_like(organ)
    for _ in range(int(rng.integers(1, 4))):
        radius = float(rng.uniform(3.5, 6.0))
        room = np.argwhere(depth > min(radius, 0.8 * float(depth.max())))
        center = points[tuple(room[rng.integers(len(room))])]
        lesion |= _ellipsoid(points, center, radius * rng.uniform(0.85, 1.1, 3), rng, deformation=0.08)
    # the bumps may reach the surface: keep one voxel of organ around every lesion
    return lesion & ndimage.binary_erosion(organ)


def _noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return Gaussian noise of unit standard deviation, correlated in plane over ``sigma`` voxels."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), (0, sigma, sigma))
    return noise / noise.std()
