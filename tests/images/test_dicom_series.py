"""DICOM series as volumes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import read_volume
from tests.images.dicom_files import join_series, write_multi_frame, write_series

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


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality"])
def test_files_of_two_sources_under_one_series_are_refused(tmp_path, keyword):
    tag = {"Patient": "0010,0020", "StudyIn": "0020,000D", "FrameOf": "0020,0052", "Modalit": "0008,0060"}[keyword[:7]]
    write_series(tmp_path / "ct", HU, change=lambda data, z: setattr(data, keyword, "1.22" if z > 1 else "1.11"))
    with pytest.raises(UserError, match=rf"several values of .*{tag}.*IM0000.dcm 1.11, IM0014.dcm 1.22"):
        read_volume(tmp_path / "ct")


def test_a_split_file_of_which_a_part_is_missing_is_refused(tmp_path):
    def part(number):
        def change(data):
            join_series(data, "1.2.3")
            data.ConcatenationUID, data.InConcatenationNumber, data.InConcatenationTotalNumber = "1.2", number, 2

        return change

    write_multi_frame(tmp_path / "all" / "a.dcm", HU, order=(0, 1), change=part(1))
    write_multi_frame(tmp_path / "all" / "b.dcm", HU, order=(2, 3), change=part(2))
    np.testing.assert_array_equal(read_volume(tmp_path / "all").array, HU)
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / "all" / name).rename(tmp_path / "kept")
        with pytest.raises(UserError, match="has 1 of 2 files into which an image was split"):
            read_volume(tmp_path / "all")
        (tmp_path / "kept").rename(tmp_path / "all" / name)
