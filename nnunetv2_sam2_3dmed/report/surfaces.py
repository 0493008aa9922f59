"""Shaded surfaces of label maps, all seen from the same side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy import sparse
from skimage.measure import block_reduce, marching_cubes

from nnunetv2_sam2_3dmed.report.volumes import any_of

SIZE = 2.6  # inches
MAX_VOXELS = 300_000  # of the box around the labels; larger ones are sampled more coarsely
ELEVATION, AZIMUTH = 20.0, -60.0  # degrees
# (columns, rows, slices): from the viewer's left, above
_LIGHT = np.array([-0.15, -0.75, 0.65])
# Taubin's smoothing: a step that shrinks and one that grows, so that the size stays
_SMOOTHING = (0.5, -0.53)
_ROUNDS = 6


def draw_surfaces(
    volumes: Sequence[np.ndarray], spacing_mm: Sequence[float], colours: Mapping[int, str]
) -> list[Figure]:
    """One figure per label map, all with the same box, viewpoint and light.

    Args:
        volumes: label maps of one case, each (slices, rows, columns).
        spacing_mm: in their order.
        colours: #RRGGBB of the labels to be drawn; others are left out.
    """
    box = bounds(any_of(volumes, colours))
    shape = [s.stop - s.start for s in box]
    steps = sampling_steps(shape, spacing_mm)
    extent = np.asarray(shape) * spacing_mm
    return [_draw(volume[box], spacing_mm, steps, colours, extent) for volume in volumes]


def bounds(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around ``mask``; everything if it is empty."""
    found = []
    for axis in range(mask.ndim):
        inside = np.flatnonzero(mask.any(axis=tuple({*range(mask.ndim)} - {axis})))
        found.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, mask.shape[axis]))
    return tuple(found)


def sampling_steps(shape: Sequence[int], spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """Voxels to join along each axis so that at most :data:`MAX_VOXELS` are left; the finest axis first."""
    steps = [1] * len(shape)
    while np.prod([-(-n // step) for n, step in zip(shape, steps)]) > MAX_VOXELS:
        steps[int(np.argmin(np.multiply(steps, spacing_mm)))] += 1
    return tuple(steps)


def surface(
    mask: np.ndarray, spacing_mm: Sequence[float], steps: Sequence[int] = (1, 1, 1)
) -> tuple[np.ndarray, np.ndarray]:
    """The closed, smoothed surface of a mask; parts much thinner than ``steps`` are lost, but never all of it.

    Args:
        mask: boolean, (slices, rows, columns).
        spacing_mm: in that order.
        steps: how many voxels become one, along each axis.

    Returns:
        Vertices in mm from the corner of the first voxel, (n, 3) as slices, rows, columns, and triangles of their
        indices, (m, 3); both empty if there is no surface.
    """
    if not mask.any():
        return np.empty((0, 3)), np.empty((0, 3), int)
    filled = np.pad(block_reduce(mask, tuple(steps), np.mean), 1)
    if filled.max() <= 0.5:  # too thin everywhere
        filled = np.pad(block_reduce(mask, tuple(steps), np.max).astype(float), 1)
    sampled = np.multiply(spacing_mm, steps)
    vertices, faces, _, _ = marching_cubes(filled, 0.5, spacing=tuple(sampled))
    # indices count from the centre of the padding
    return smooth(vertices - 0.5 * sampled, faces), faces


def smooth(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Take the steps of the voxels away and keep the size (Taubin 1995).

    Args:
        vertices: (V, 3), in mm.
        faces: (F, 3), indices of vertices.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    row, column = np.concatenate([edges, edges[:, ::-1]]).T
    neighbours = sparse.coo_array((np.ones(len(row)), (row, column)), shape=(len(vertices),) * 2).tocsr()
    count = np.maximum(neighbours.sum(axis=1), 1)[:, None]
    for _ in range(_ROUNDS):
        for factor in _SMOOTHING:
            vertices = vertices + factor * ((neighbours @ vertices) / count - vertices)
    return vertices


def _draw(
    volume: np.ndarray,
    spacing_mm: Sequence[float],
    steps: Sequence[int],
    colours: Mapping[int, str],
    extent: np.ndarray,
) -> Figure:
    figure = Figure(figsize=(SIZE, SIZE))
    FigureCanvasAgg(figure)
    axes = Axes3D(figure, (0, 0, 1, 1))
    figure.add_axes(axes)
    axes.set_proj_type("ortho")
    axes.view_init(ELEVATION, AZIMUTH)
    axes.set_axis_off()
    axes.patch.set_visible(False)
    triangles, shades = [], []
    for value, colour in colours.items():
        vertices, faces = surface(volume == value, spacing_mm, steps)
        if len(faces):
            # slices up, rows away from the viewer, columns to the right
            corners = vertices[:, ::-1][faces]
            triangles.append(corners)
            shades.append(shaded(corners, colour))
    if triangles:
        # one collection, so that the classes hide each other where they should; edges close the gaps between faces
        shade = np.concatenate(shades)
        faces_of_all = Poly3DCollection(np.concatenate(triangles), facecolors=shade, edgecolors=shade, linewidths=0.3)
        axes.add_collection3d(faces_of_all)
    across = tuple(extent[::-1])  # set_box_aspect changes an array that it is given
    axes.set(xlim=(0, across[0]), ylim=(0, across[1]), zlim=(0, across[2]))
    axes.set_box_aspect(across, zoom=1.25)
    return figure


def shaded(triangles: np.ndarray, colour: str) -> np.ndarray:
    """A colour (RGB) for each triangle of a closed surface, (n, 3 corners, 3), brighter where it faces the light."""
    a, b, c = triangles.transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    outward = np.sign((a * np.cross(b, c)).sum())  # of the enclosed volume
    normals *= outward / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    brightness = 0.45 + 0.55 * np.clip(normals @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    return brightness[:, None] * np.array(to_rgb(colour))
