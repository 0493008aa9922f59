from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from nnunetv2_sam2_3dmed.report import surfaces
from nnunetv2_sam2_3dmed.report.gallery import crop_to
from nnunetv2_sam2_3dmed.report.surfaces import bounds, draw_surfaces, sampling_steps, shaded, surface

SPACING = (2.0, 1.0, 1.0)
COLOUR = "#56B4E9"


def ball(radius_mm: float = 10.0) -> np.ndarray:
    z, y, x = np.mgrid[:16, :30, :30]
    return (2 * (z - 7.5)) ** 2 + (y - 14.5) ** 2 + (x - 14.5) ** 2 < radius_mm**2


def enclosed_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """By the divergence theorem."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return abs((a * np.cross(b, c)).sum()) / 6


@pytest.mark.parametrize("steps", [(1, 1, 1), (1, 2, 2)])
def test_the_surface_of_a_ball_has_its_volume_and_lies_where_it_lies(steps):
    mask = ball()
    vertices, faces = surface(mask, SPACING, steps)
    voxels = mask.sum() * np.prod(SPACING)
    assert voxels == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.02)  # of the mask itself
    assert enclosed_volume(vertices, faces) == pytest.approx(voxels, rel=0.05)
    # the middle of the ball, from the corner of the first voxel
    assert (vertices.min(axis=0) + vertices.max(axis=0)) / 2 == pytest.approx([16, 15, 15], abs=0.3)
    # closed: every edge belongs to two triangles
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    assert set(np.unique(edges, axis=0, return_counts=True)[1]) == {2}


def test_a_mask_at_the_border_is_closed_and_an_empty_one_has_no_surface():
    vertices, faces = surface(np.ones((4, 4, 4), bool), (1, 1, 1))
    assert 0.7 * 64 < enclosed_volume(vertices, faces) < 64  # corners are rounded
    vertices, faces = surface(np.zeros((4, 4, 4), bool), (1, 1, 1))
    assert vertices.shape == (0, 3) and faces.shape == (0, 3)


def test_what_would_vanish_between_the_samples_is_drawn():
    mask = np.zeros((6, 20, 20), bool)
    mask[2, 9, 5] = True
    vertices, faces = surface(mask, (1, 1, 1), (2, 4, 4))
    assert len(faces) > 0
    # the block of 2 x 4 x 4 voxels that holds it, from (2, 8, 4) on
    assert (vertices.min(axis=0) + vertices.max(axis=0)) / 2 == pytest.approx([3, 10, 6])


def test_large_boxes_are_sampled_along_the_finest_axes(monkeypatch):
    monkeypatch.setattr(surfaces, "MAX_VOXELS", 1000)
    assert sampling_steps((10, 10, 10), (5, 1, 1)) == (1, 1, 1)
    assert sampling_steps((10, 20, 20), (5, 1, 1)) == (1, 2, 2)
    assert sampling_steps((20, 20, 20), (1, 1, 1)) == (2, 2, 2)


def test_faces_towards_the_light_have_the_full_colour_and_others_are_darker():
    vertices, faces = surface(ball(), SPACING)
    corners = vertices[:, ::-1][faces]
    colours = shaded(corners, COLOUR)
    assert colours.max(axis=0) == pytest.approx(to_rgb(COLOUR), rel=0.02)
    brightest = corners[colours.sum(axis=1).argmax()].mean(axis=0) - [15, 15, 16]
    assert brightest[1] < -3 and brightest[2] > 3  # on the side of the viewer, and above


def test_equal_label_maps_give_equal_pictures_and_nothing_gives_an_empty_one():
    labels = ball().astype(np.uint8)
    figures = draw_surfaces([labels, labels.copy(), 0 * labels], SPACING, {1: COLOUR})
    pixels = []
    for figure in figures:
        figure.set_facecolor("none")
        figure.canvas.draw()
        pixels.append(np.asarray(figure.canvas.buffer_rgba()).copy())
    np.testing.assert_array_equal(pixels[0], pixels[1])
    covered = [(p[..., 3] > 0).mean() for p in pixels]
    assert covered[0] > 0.2 and covered[2] == 0
    border = np.concatenate([pixels[0][0], pixels[0][-1], pixels[0][:, 0], pixels[0][:, -1]])
    assert not border[..., 3].any()  # nothing is cut off


def test_boxes_and_crops_by_hand():
    mask = np.zeros((3, 100, 100), bool)
    assert bounds(mask) == (slice(0, 3), slice(0, 100), slice(0, 100))
    assert crop_to(mask) == (slice(None), slice(None), slice(None))
    mask[1, 40:60, 5:55] = True
    assert bounds(mask) == (slice(1, 2), slice(40, 60), slice(5, 55))
    # margins: 0.4 of 20 is 8, 0.4 of 50 is 20
    assert crop_to(mask) == (slice(None), slice(32, 68), slice(0, 75))
