"""DICOM series as volumes: what is shown, what is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import read_volume
from tests.images.dicom_files import write_multi_frame, write_series

HU = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 4)).astype(np.int16)


def test_values_of_monochrome1_stay_as_they_are_and_are_marked(tmp_path):
    write_series(tmp_path / "ct", HU)
    assert not read_volume(tmp_path / "ct").inverted
    write_series(tmp_path / "cr", HU, change=lambda data, z: setattr(data, "PhotometricInterpretation", "MONOCHROME1"))
    volume = read_volume(tmp_path / "cr")
    assert volume.inverted
    np.testing.assert_array_equal(volume.array, HU)


def test_slices_shown_both_ways_are_refused(tmp_path):
    def change(data, z):
        data.PhotometricInterpretation = f"MONOCHROME{1 + (z == 2)}"

    write_series(tmp_path / "cr", HU, change=change)
    with pytest.raises(UserError, match="mixes MONOCHROME1 and MONOCHROME2 .*: give a series of one"):
        read_volume(tmp_path / "cr")


@pytest.mark.parametrize(("kind", "samples"), [("RGB", 3), ("YBR_FULL_422", 3), ("PALETTE COLOR", 1)])
def test_colour_is_refused(tmp_path, kind, samples):
    def change(data, z=0):
        data.PhotometricInterpretation, data.SamplesPerPixel = kind, samples
        data.BitsAllocated = data.BitsStored = 8
        data.PixelData = bytes(4 * 5 * 4 * 3)

    write_series(tmp_path / "us", HU, change=change)
    write_multi_frame(tmp_path / "all.dcm", HU, change=change)
    for path in (tmp_path / "us", tmp_path / "all.dcm"):
        with pytest.raises(UserError, match=rf"is an image in colour .{kind}, {samples} samples per voxel."):
            read_volume(path)


def test_copies_of_a_slice_are_told_from_phases(tmp_path):
    write_series(tmp_path / "ct", HU)
    shutil.copy(tmp_path / "ct" / "IM0014.dcm", tmp_path / "ct" / "IM0014 (copy).dcm")
    with pytest.raises(UserError, match=r"has one image twice .IM0014 .copy..dcm and IM0014.dcm.: remove one"):
        read_volume(tmp_path / "ct")


def test_slices_know_their_files_and_frames(tmp_path):
    write_series(tmp_path / "ct", HU)
    volume = read_volume(tmp_path / "ct")
    assert [file.name for file in volume.dicom_files] == ["IM0000.dcm", "IM0007.dcm", "IM0014.dcm", "IM0021.dcm"]
    assert volume.dicom_frames == (0, 0, 0, 0)
    assert (volume.name, volume.modality, volume.notes) == ("ct", "CT", ())


def test_the_folder_that_one_is_in_has_a_name(tmp_path, monkeypatch):
    write_series(tmp_path / "ct", HU)
    monkeypatch.chdir(tmp_path / "ct")
    assert read_volume(".").name == "ct"
