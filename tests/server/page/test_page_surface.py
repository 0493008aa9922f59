"""Surfaces against formulas for a ball."""

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.images.volume import volume_from_array
from nnunetv2_sam2_3dmed.server.page_surface import surface

RADIUS = 18.0  # mm
TURNED = np.array([[0, 0, -1], [0.6, 0.8, 0], [0.8, -0.6, 0]])  # oblique, and a mirror image


def ball(spacing, shape, direction=None):
    volume = volume_from_array(np.zeros(shape, np.int16), spacing, (5.0, -7.0, 11.0), direction)
    points = volume.to_physical(np.argwhere(np.ones(shape, bool)))
    centre = volume.to_physical(np.array([[(length - 1) / 2 for length in shape]]))[0]
    inside = np.linalg.norm(points - centre, axis=1) <= RADIUS
    return inside.reshape(shape), volume, centre


def volume_of(vertices, triangles):
    """Volume inside a closed surface by the divergence theorem; negative if its triangles face inwards."""
    a, b, c = (vertices[triangles[:, k]].astype(float) for k in range(3))
    return np.einsum("ij,ij->", a, np.cross(b, c)) / 6


@pytest.mark.parametrize(
    ("spacing", "shape", "direction"),
    [
        ((1.0, 1.0, 1.0), (48, 48, 48), None),
        ((3.0, 0.8, 0.8), (16, 60, 60), TURNED),
        ((0.5, 0.2, 0.2), (90, 200, 200), None),  # more voxels than are kept
    ],
)
def test_a_ball(spacing, shape, direction):
    mask, volume, centre = ball(spacing, shape, direction)
    vertices, triangles = surface(mask, volume)
    found = volume_of(vertices, triangles)
    assert found == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.03)  # positive: faces outwards
    distances = np.linalg.norm(vertices - centre, axis=1)
    assert np.abs(distances - RADIUS).max() < 0.75 * max(spacing)
    np.testing.assert_allclose(vertices.mean(axis=0), centre, atol=0.3)


def test_each_edge_has_two_triangles_where_the_object_reaches_the_end_of_the_image():
    volume = volume_from_array(np.zeros((6, 8, 9), np.int16), (2.0, 1.0, 1.0))
    mask = np.zeros(volume.shape, bool)
    mask[:, 2:, :5] = True
    _, triangles = surface(mask, volume)
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    assert len(count) and (count == 2).all()


def test_a_single_voxel_is_shown_where_it_is():
    volume = volume_from_array(np.zeros((9, 9, 9), np.int16), (2.0, 1.0, 1.0), (10.0, 20.0, 30.0))
    mask = np.zeros(volume.shape, bool)
    mask[4, 5, 6] = True
    vertices, triangles = surface(mask, volume)
    assert len(triangles)
    np.testing.assert_allclose(vertices.mean(axis=0), [16.0, 25.0, 38.0], atol=1e-4)


def test_nothing_is_shown_of_an_empty_mask():
    volume = volume_from_array(np.zeros((4, 5, 6), np.int16), (1.0, 1.0, 1.0))
    vertices, triangles = surface(np.zeros(volume.shape, bool), volume)
    assert vertices.shape == (0, 3) and triangles.shape == (0, 3)
