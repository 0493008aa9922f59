"""Surfaces of masks as sparse elements, and the distances between two of them.

The elements, their areas and the distances are those of the library ``surface-distance`` (Nikolov et al. 2018,
arXiv 1809.04430), whose tables of areas are used. The library itself keeps several maps of the whole volume: a liver
of 300 x 280 x 250 voxels takes it more than a gibibyte, a body of 400 x 512 x 512 more than a worker should have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree
from surface_distance import lookup_tables

# up to this many steps of the coarsest spacing, a tree finds the nearest element at once; further away it has to visit
# ever more of those that are nearly as near
_NEAR_STEPS = 8
# how many voxels the transform by slices gets through in the time that the tree needs for one far element, at worst
_VOXELS_PER_FAR_ELEMENT = 5000


@dataclass(frozen=True)
class Surface:
    """The surface elements of a mask. They lie at the corners of voxels, where 2 x 2 x 2 (in 2D, 2 x 2) voxels meet.

    Attributes:
        corners: which corners, as ascending flat indices into an array of :attr:`shape`: (elements,).
        areas_mm2: the area of each element (in 2D the length in mm): (elements,).
        shape: the number of corners along each axis, one more than there are voxels.
    """

    corners: np.ndarray
    areas_mm2: np.ndarray
    shape: tuple[int, ...]

    def positions(self, which: np.ndarray) -> np.ndarray:
        """Indices of some elements' corners along each axis: (elements chosen, axes)."""
        return np.stack(np.unravel_index(self.corners[which], self.shape), axis=1)


def surface_of(mask: np.ndarray, spacing_mm: Sequence[float]) -> Surface:
    """The surface elements of a boolean mask of shape (D, H, W) or (H, W), found slice by slice.

    Outside of the array nothing belongs to the mask, so that a mask that touches the edge has a surface there.
    """
    if mask.ndim == 3:
        area_of_code = lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    else:
        area_of_code = lookup_tables.create_table_neighbour_code_to_contour_length(spacing_mm)
    inside = len(area_of_code) - 1  # all voxels around the corner belong to the mask
    shape = tuple(n + 1 for n in mask.shape)
    corners, areas = [], []
    before = np.zeros(shape[1:], np.uint8)
    base = 2**2 ** (mask.ndim - 1)
    for i in range(shape[0]):
        after = _codes_in_slice(mask[i]) if i < mask.shape[0] else np.zeros(shape[1:], np.uint8)
        codes = (before * base + after).ravel()
        found = np.flatnonzero((codes != 0) & (codes != inside))
        corners.append(found + i * codes.size)
        areas.append(area_of_code[codes[found]])
        before = after
    return Surface(np.concatenate(corners), np.concatenate(areas), shape)


def _codes_in_slice(mask: np.ndarray) -> np.ndarray:
    """The library's code of the voxels around each corner of one slice: a bit per voxel, the first the highest."""
    codes = np.pad(mask, 1).astype(np.uint8)
    base = 2
    for axis in reversed(range(codes.ndim)):
        codes = np.moveaxis(codes, axis, 0)
        codes = np.moveaxis(codes[:-1] * base + codes[1:], 0, axis)
        base *= base
    return codes


def distances_between(
    surface: Surface, other: Surface, spacing_mm: Sequence[float], exact_up_to_mm: float = 0.0
) -> np.ndarray:
    """The distance in mm of each element of ``surface`` to the nearest of ``other``: (elements,).

    Elements that coincide are found by their index, near ones by a tree over ``other``, and far ones by distance
    transforms of the slices of ``other``, one at a time.

    Args:
        surface: the elements to measure from.
        other: the elements to measure to, at least one, on the same corners.
        spacing_mm: voxel spacing along each axis.
        exact_up_to_mm: up to here a distance comes from the difference of indices alone, as in the library, so that
            comparing it with a tolerance gives the library's answer to the last bit.
    """
    spacing = np.asarray(spacing_mm, float)
    nearest = np.searchsorted(other.corners, surface.corners).clip(max=len(other.corners) - 1)
    distances = np.zeros(len(surface.corners))
    apart = np.flatnonzero(other.corners[nearest] != surface.corners)
    if not len(apart):
        return distances

    positions, others = surface.positions(apart), other.positions(np.arange(len(other.corners)))
    tree = KDTree(others * spacing, balanced_tree=False, compact_nodes=False)
    near_mm = max(1.01 * exact_up_to_mm, _NEAR_STEPS * spacing.max())
    _, found = tree.query(positions * spacing, distance_upper_bound=near_mm)
    far = found == len(others)  # how the tree says that there was nothing
    if far.any():
        if far.sum() * _VOXELS_PER_FAR_ELEMENT < np.prod(other.shape):
            _, found[far] = tree.query(positions[far] * spacing)
        else:
            distances[apart[far]] = _distances_by_slices(surface.corners[apart[far]], other, spacing)
            apart, positions, found = apart[~far], positions[~far], found[~far]
    distances[apart] = np.sqrt((((others[found] - positions) * spacing) ** 2).sum(axis=1))
    return distances


def _distances_by_slices(corners: np.ndarray, other: Surface, spacing: np.ndarray) -> np.ndarray:
    """Distances in mm of ``corners``, given as flat indices, to the nearest element of ``other``.

    The squared distance to a slice's elements is that within the slice plus that to the slice: so no map of the volume
    is needed.
    """
    plane = other.shape[1:]
    slices, within_slice = np.divmod(corners, math.prod(plane))
    other_slices, other_within_slice = np.divmod(other.corners, math.prod(plane))
    best = np.full(len(corners), np.inf)
    for index in np.unique(other_slices):
        to_slice = ((slices - index) * spacing[0]) ** 2
        open_ = np.flatnonzero(to_slice < best)
        if not len(open_):
            continue
        empty = np.ones(plane, bool)
        empty.ravel()[other_within_slice[other_slices == index]] = False
        squared = distance_transform_edt(empty, sampling=spacing[1:]) ** 2
        best[open_] = np.minimum(best[open_], to_slice[open_] + squared.ravel()[within_slice[open_]])
    return np.sqrt(best)
