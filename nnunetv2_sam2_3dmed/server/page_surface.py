"""Surface of an object as triangles, for the page's view in three dimensions."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage import measure

from nnunetv2_sam2_3dmed.images.volume import Volume

_LONGEST_SIDE = 160  # voxels; a finer surface cannot be told apart in a view of some hundred pixels


def surface(mask: np.ndarray, volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Return the boundary of a mask, found by marching cubes and smoothed over about a voxel.

    Masks of more than 160 voxels along a side are averaged over blocks first.

    Args:
        mask: bool (z, y, x), on the volume's grid.
        volume: gives the place of voxels.

    Returns:
        Vertices (V, 3), x, y, z in mm, LPS, float32; and triangles (T, 3), indices of vertices in counter-clockwise
        order as seen from outside, uint32. Both are empty for an empty mask.
    """
    if not mask.any():
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint32)
    extent = ndimage.find_objects(mask.astype(np.uint8))[0]
    first = np.array([part.start for part in extent])
    cropped = mask[extent]
    steps = tuple(max(1, -(-length // _LONGEST_SIDE)) for length in cropped.shape)
    # a border of zeros, so that the surface is closed where the object touches the image's end
    blocks = np.pad(measure.block_reduce(cropped, steps, np.mean).astype(np.float32), 2)
    smooth = ndimage.gaussian_filter(blocks, 0.7)
    # thin objects can vanish by smoothing
    values = smooth if smooth.max() > 0.5 else blocks
    vertices, triangles, _, _ = measure.marching_cubes(values, 0.5 * min(1.0, float(values.max())))
    voxels = first + (vertices - 2) * steps + (np.array(steps) - 1) / 2
    points = volume.to_physical(voxels)
    a, b, c = (points[triangles[:, k]] - points.mean(axis=0) for k in range(3))
    if np.einsum("ij,ij->", a, np.cross(b, c)) < 0:  # six times the volume; negative if they face inwards
        triangles = triangles[:, ::-1]
    return points.astype(np.float32), triangles.astype(np.uint32)
