"""Synthetic videos: determined by a seed, with the properties for which they are made."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.video.cases import labels_of, video_cases
from nnunetv2_sam2_3dmed.video.conversion import is_colour
from nnunetv2_sam2_3dmed.video.phantoms import (
    ATRIUM,
    KINDS,
    POLYP,
    VENTRICLE,
    VideoPhantom,
    endoscopy_phantom,
    ultrasound_phantom,
    write_phantoms,
)

SEEDS = range(4)


@pytest.fixture(scope="module")
def ultrasound() -> list[VideoPhantom]:
    return [ultrasound_phantom(np.random.default_rng(seed)) for seed in SEEDS]


@pytest.fixture(scope="module")
def endoscopy() -> list[VideoPhantom]:
    return [endoscopy_phantom(np.random.default_rng(seed)) for seed in SEEDS]


@pytest.mark.parametrize("make", [make for make, _ in KINDS.values()])
def test_a_seed_determines_a_video(make):
    first, again, other = (make(np.random.default_rng(seed), 5, 64) for seed in (1, 1, 2))
    assert first.frames.shape == (5, 64, 64, 3) and first.frames.dtype == first.labels.dtype == np.uint8
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (first.labels != other.labels).any()


def test_two_chambers_beat_against_each_other(ultrasound):
    for phantom in ultrasound:
        sizes = [(phantom.labels == chamber).sum(axis=(1, 2)) for chamber in (VENTRICLE, ATRIUM)]
        assert min(size.min() for size in sizes) > 100
        assert 1.25 < sizes[0].max() / sizes[0].min() < 2.5
        assert np.corrcoef(sizes)[0, 1] < -0.5


def test_the_heart_crosses_the_picture_as_the_probe_slides(ultrasound):
    for seed, resting in zip(SEEDS, ultrasound):
        sliding = ultrasound_phantom(np.random.default_rng(seed), sweep=0.3)
        (first, last), (before, after) = (
            [ndimage.center_of_mass(phantom.labels[frame] == ATRIUM)[1] for frame in (0, -1)]
            for phantom in (sliding, resting)
        )
        way = 0.3 * 39 / 40 * 112  # of 40 frames of 112 columns
        assert last - first == pytest.approx(after - before + way, abs=0.06 * 112)  # edges of the sector cut it


def test_ultrasound_is_grey_with_dark_chambers_in_brighter_tissue(ultrasound):
    for phantom in ultrasound:
        assert (np.ptp(phantom.frames, axis=-1) == 0).all()
        for frame, labels in zip(phantom.frames[::10, ..., 0], phantom.labels[::10]):
            chambers = labels > 0
            inside = ndimage.binary_erosion(chambers, iterations=2)
            around = ndimage.binary_dilation(chambers, iterations=6) & ~ndimage.binary_dilation(chambers, iterations=2)
            assert frame[around].mean() > frame[inside].mean() + 30


def test_text_is_burnt_in_and_stays(ultrasound):
    for phantom in ultrasound:
        corner = phantom.frames[:, :8, :40, 0]
        assert corner.max() > 100 and (corner == corner[0]).all()


def test_speckle_stays_with_the_tissue_for_a_while(ultrasound):
    for phantom in ultrasound:
        frames = phantom.frames[..., 0].astype(float)
        tissue = ~ndimage.binary_dilation((phantom.labels > 0).any(axis=0), iterations=8) & (frames.min(axis=0) > 20)
        fine = frames - ndimage.gaussian_filter(frames, (0, 4, 4))
        near, far = (np.corrcoef(fine[0][tissue], fine[gap][tissue])[0, 1] for gap in (1, 20))
        assert near > 0.6 and near > far + 0.03


def test_the_polyp_leaves_and_comes_back(endoscopy):
    for phantom in endoscopy:
        there = (phantom.labels == POLYP).any(axis=(1, 2))
        assert there[0] and there[-1] and not there.all()
        assert (np.diff(there.astype(int)) != 0).sum() == 2  # it leaves once, and comes back once


def test_endoscopy_is_red_with_highlights_and_dark_corners(endoscopy):
    for phantom in endoscopy:
        red, green, blue = phantom.frames.reshape(-1, 3).mean(axis=0)
        assert red > 1.3 * green and red > 1.3 * blue
        assert (phantom.frames.min(axis=-1) > 200).mean() > 0.001  # white: the lamp
        assert phantom.frames[:, :4, :4].max() < 20


@pytest.mark.parametrize("kind", list(KINDS))
def test_written_videos_are_read_as_those_with_ground_truth(kind, tmp_path):
    write_phantoms(tmp_path / "two", kind, 2, frames=4, side=48)
    write_phantoms(tmp_path / "one", kind, 1, frames=4, side=48)
    cases = video_cases(tmp_path / "two")
    assert [case.name for case in cases] == [f"synthetic_{kind}_001", f"synthetic_{kind}_002"]
    names = {name: (value,) for name, value in KINDS[kind][1].items() if value}
    assert labels_of(tmp_path / "two", cases) == (names, None)
    (alone,) = video_cases(tmp_path / "one")
    videos = [case.open() for case in (cases[0], alone)]
    np.testing.assert_array_equal(videos[0].frame(3), videos[1].frame(3))  # however many there are
    assert is_colour(videos[0]) == (kind == "endoscopy")
    assert cases[0].annotated() == [0, 1, 2, 3]
    with pytest.raises(UserError, match="exists already: give a new folder"):
        write_phantoms(tmp_path / "one", kind, 1)
