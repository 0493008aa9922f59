"""The geometry of slices: of storage classes of every kind, and of the frames of multi-frame files."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import read_volume
from tests.images.dicom_files import image_dataset, join_series, write_multi_frame, write_series

HU = np.random.default_rng(0).integers(-1000, 1000, (6, 5, 4)).astype(np.int16)
CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
SECONDARY_CAPTURE_WORDS = "1.2.840.10008.5.1.4.1.1.7.3"
RT_DOSE, NUCLEAR_MEDICINE = "1.2.840.10008.5.1.4.1.1.481.2", "1.2.840.10008.5.1.4.1.1.20"
CLASSES = {
    "CT": CT,
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PET": "1.2.840.10008.5.1.4.1.1.128",
    "RT dose": RT_DOSE,
    "secondary capture": "1.2.840.10008.5.1.4.1.1.7",
    "secondary capture, words": SECONDARY_CAPTURE_WORDS,
    "ultrasound": "1.2.840.10008.5.1.4.1.1.6.1",
    "X-ray": "1.2.840.10008.5.1.4.1.1.1.1",
    "Siemens": "1.3.12.2.1107.5.9.1",
    "unknown": "1.2.3.4.5.6.7",
}


def item(**values):
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def set_class(data, storage):
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = storage


def check_place(volume, spacing=(3.0, 0.8, 0.7), origin=(-10.0, -20.0, 30.0)):
    assert volume.spacing == pytest.approx(spacing)
    assert volume.origin == pytest.approx(origin)
    np.testing.assert_allclose(volume.direction, np.eye(3), atol=1e-9)


@pytest.mark.parametrize("storage", [*CLASSES])
def test_geometry_is_read_whatever_the_storage_class(tmp_path, storage):
    write_series(tmp_path / "ct", HU, change=lambda data, z: set_class(data, CLASSES[storage]))
    volume = read_volume(tmp_path / "ct")
    np.testing.assert_array_equal(volume.array, HU)
    check_place(volume)


@pytest.mark.parametrize(
    ("given", "spacing", "note"),
    [
        ({"ImagerPixelSpacing": [0.9, 0.6], "NominalScannedPixelSpacing": [1, 1]}, (0.9, 0.6), "at the detector"),
        (
            {"ImagerPixelSpacing": [0.9, 0.6], "EstimatedRadiographicMagnificationFactor": 1.5},
            (0.6, 0.4),  # smaller in the patient than at the detector
            None,
        ),
        ({"NominalScannedPixelSpacing": [0.9, 0.6]}, (0.9, 0.6), "on the film"),
    ],
)
def test_other_spacings_stand_in_for_pixel_spacing(tmp_path, given, spacing, note):
    def change(data, z):
        del data.PixelSpacing
        for keyword, value in given.items():
            setattr(data, keyword, value)

    write_series(tmp_path / "ct", HU, change=change)
    volume = read_volume(tmp_path / "ct")
    check_place(volume, (3.0, *spacing))
    assert [note in said for said in volume.notes] == ([True] if note else [])


@pytest.mark.parametrize(
    ("between", "thickness", "expected"), [(4.0, 5.0, 4.0), (-4.0, 5.0, 4.0), (None, 5.0, 5.0), ("", 5.0, 5.0)]
)
def test_one_slice_has_the_spacing_of_its_header(tmp_path, between, thickness, expected):
    def change(data, z):
        data.SliceThickness = thickness
        if between is not None:
            data.SpacingBetweenSlices = between

    write_series(tmp_path / "ct", HU[:1], change=change)
    check_place(read_volume(tmp_path / "ct"), (expected, 0.8, 0.7))


def test_without_geometry_the_attribute_is_named(tmp_path):
    def change(data, z):
        set_class(data, "1.2.840.10008.5.1.4.1.1.7")
        del data.ImageOrientationPatient, data.ImagePositionPatient, data.PixelSpacing

    write_series(tmp_path / "sc", HU, change=change)
    with pytest.raises(
        UserError, match=r"has no Image Orientation .Patient. .0020,0037.*: convert it to NIfTI with the"
    ):
        read_volume(tmp_path / "sc")


@pytest.mark.parametrize(
    ("keyword", "values", "said"),
    [
        ("TemporalPositionIdentifier", (1, 2), "2 time points .1, 2."),
        ("EchoNumbers", (1, 2), "2 echoes .1, 2."),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M", "MOSAIC"],) * 2, "tiles of one picture .mosaic.: .* dcm2niix"),
    ],
)
def test_several_images_in_a_series_are_refused(tmp_path, keyword, values, said):
    write_series(tmp_path / "ct", HU, change=lambda data, z: setattr(data, keyword, values[z % 2]))
    with pytest.raises(UserError, match=said):
        read_volume(tmp_path / "ct")


def test_a_slice_without_the_rescaling_of_the_others_is_found(tmp_path):
    def change(data, z):
        if z == 2:
            del data.RescaleSlope, data.RescaleIntercept

    write_series(tmp_path / "ct", HU, change=change)
    with pytest.raises(UserError, match="a rescaling of their values .IM0000.dcm. and without .IM0014.dcm."):
        read_volume(tmp_path / "ct")


# ---- functional groups


@pytest.mark.parametrize("order", [range(6), range(5, -1, -1), (4, 1, 0, 5, 2, 3)], ids=["up", "down", "mixed"])
def test_frames_are_sorted_by_their_places(tmp_path, order):
    write_multi_frame(tmp_path / "all.dcm", HU, order=order)
    volume = read_volume(tmp_path / "all.dcm")
    np.testing.assert_array_equal(volume.array, HU)
    check_place(volume)
    assert volume.dicom_frames == tuple(list(order).index(z) for z in range(6))
    assert {file.name for file in volume.dicom_files} == {"all.dcm"}


def test_groups_of_a_frame_count_before_shared_ones(tmp_path):
    def change(data):
        shared = data.SharedFunctionalGroupsSequence[0]
        measures, orientation = shared.PixelMeasuresSequence, shared.PlaneOrientationSequence
        shared.PixelMeasuresSequence = [item(PixelSpacing=[9, 9], SliceThickness=9)]
        del shared.PlaneOrientationSequence
        for group in data.PerFrameFunctionalGroupsSequence:
            group.PixelMeasuresSequence, group.PlaneOrientationSequence = measures, orientation

    write_multi_frame(tmp_path / "all.dcm", HU, change=change)
    check_place(read_volume(tmp_path / "all.dcm"))


def test_a_missing_frame_is_found(tmp_path):
    write_multi_frame(tmp_path / "all.dcm", HU, order=(0, 1, 2, 4, 5))
    with pytest.raises(UserError, match=r"lacks a slice: between frame 3 of all.dcm .36.00 mm. and frame 4 of all.dcm"):
        read_volume(tmp_path / "all.dcm")


def test_frames_at_one_place_are_phases(tmp_path):
    write_multi_frame(tmp_path / "all.dcm", HU, order=(0, 1, 2, 0, 1, 2))
    with pytest.raises(UserError, match="two slices at the same place .frame 1 of all.dcm and frame 4 of all.dcm"):
        read_volume(tmp_path / "all.dcm")


@pytest.mark.parametrize(
    ("keyword", "values", "said"),
    [("StackID", ("1", "2"), "2 stacks .1, 2."), ("TemporalPositionIndex", (1, 2), "2 time points .1, 2.")],
)
def test_stacks_and_phases_are_not_mixed_though_they_make_a_grid(tmp_path, keyword, values, said):
    def change(data):
        for z, group in enumerate(data.PerFrameFunctionalGroupsSequence):
            setattr(group.FrameContentSequence[0], keyword, values[z % 2])

    write_multi_frame(tmp_path / "all.dcm", HU, change=change)
    with pytest.raises(UserError, match=said):
        read_volume(tmp_path / "all.dcm")


def test_echoes_in_a_file_are_not_mixed(tmp_path):
    def change(data):
        for z, group in enumerate(data.PerFrameFunctionalGroupsSequence):
            group.MREchoSequence = [item(EffectiveEchoTime=10.0 * (1 + z % 2))]

    write_multi_frame(tmp_path / "all.dcm", HU, change=change)
    with pytest.raises(UserError, match="2 echoes .10.0, 20.0."):
        read_volume(tmp_path / "all.dcm")


def test_frames_and_their_groups_must_be_as_many(tmp_path):
    def change(data):
        del data.PerFrameFunctionalGroupsSequence[2]

    write_multi_frame(tmp_path / "all.dcm", HU, change=change)
    with pytest.raises(
        UserError, match="has 6 frames, but 5 items in Per-Frame Functional Groups Sequence .5200,9230."
    ):
        read_volume(tmp_path / "all.dcm")


def test_a_frame_without_a_position_is_named(tmp_path):
    def change(data):
        del data.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence

    write_multi_frame(tmp_path / "all.dcm", HU, change=change)
    with pytest.raises(UserError, match=r"frame 3 of .*all.dcm has no Image Position .Patient. .0020,0032."):
        read_volume(tmp_path / "all.dcm")


def test_files_of_one_series_are_joined_where_they_make_a_grid(tmp_path):
    series = generate_uid()
    for name, order in {"a.dcm": (4, 0, 2), "b.dcm": (1, 5, 3)}.items():
        write_multi_frame(tmp_path / "all" / name, HU, order=order, change=lambda data: join_series(data, series))
    volume = read_volume(tmp_path / "all")
    np.testing.assert_array_equal(volume.array, HU)
    check_place(volume)
    (tmp_path / "all" / "b.dcm").unlink()
    write_multi_frame(tmp_path / "all" / "b.dcm", HU, order=(2, 3), change=lambda data: join_series(data, series))
    with pytest.raises(UserError, match="frame 3 of a.dcm and frame 1 of b.dcm"):
        read_volume(tmp_path / "all")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("b-values", lambda z: {"DiffusionBValue": 1000.0 * (z > 2)}),
        ("complex components", lambda z: {"ImageType": ["ORIGINAL", "PRIMARY", "P_FFE" if z > 2 else "M_FFE"]}),
        ("complex components", lambda z: {"ComplexImageComponent": "PHASE" if z > 2 else "MAGNITUDE"}),
    ],
)
def test_slices_of_two_images_that_would_make_a_grid_are_refused(tmp_path, kind, values):
    def change(data, z):
        for keyword, value in values(z).items():
            setattr(data, keyword, value)

    write_series(tmp_path / "mr", HU, change=change)
    with pytest.raises(UserError, match=f"holds 2 {kind}"):
        read_volume(tmp_path / "mr")


def test_frames_of_two_b_values_are_refused(tmp_path):
    def change(data):
        for z, group in enumerate(data.PerFrameFunctionalGroupsSequence):
            group.MRDiffusionSequence = [item(DiffusionBValue=1000.0 * (z % 2))]

    write_multi_frame(tmp_path / "mr.dcm", HU, change=change)
    with pytest.raises(UserError, match="holds 2 b-values .0.0, 1000.0."):
        read_volume(tmp_path / "mr.dcm")


# ---- frames without functional groups


def plain_frames(path, storage, **values):
    """A multi-frame file that gives the position of one frame only."""
    data = image_dataset(path, storage, HU)
    data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.NumberOfFrames = len(HU)
    data.ImagePositionPatient, data.ImageOrientationPatient = [-10, -20, 30], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness = [0.8, 0.7], 3
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    for keyword, value in values.items():
        setattr(data, keyword, value)
    data.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("storage", [CT, SECONDARY_CAPTURE_WORDS, ENHANCED_CT, "1.2.3.4.5.6.7"])
def test_frames_without_positions_are_refused(tmp_path, storage):
    plain_frames(tmp_path / "all.dcm", storage, SpacingBetweenSlices=3)
    with pytest.raises(
        UserError, match=r"holds 6 frames, and its header does not say where each lies .it has no Per-Fra"
    ):
        read_volume(tmp_path / "all.dcm")


@pytest.mark.parametrize(
    ("offsets", "turned", "expected_origin"),
    [
        ([0, 3, 6, 9, 12, 15], False, (-10, -20, 30)),
        ([0, -3, -6, -9, -12, -15], True, (-10, -20, 15)),  # against the normal
        ([30, 33, 36, 39, 42, 45], False, (-10, -20, 30)),  # z coordinates of the patient
        ([30, 27, 24, 21, 18, 15], True, (-10, -20, 15)),
    ],
)
def test_planes_of_a_dose_lie_at_their_offsets(tmp_path, offsets, turned, expected_origin):
    plain_frames(tmp_path / "dose.dcm", RT_DOSE, GridFrameOffsetVector=offsets, DoseGridScaling=0.5)
    volume = read_volume(tmp_path / "dose.dcm")
    check_place(volume, origin=expected_origin)
    np.testing.assert_array_equal(volume.array, (HU[::-1] if turned else HU) * 0.5 + 512)  # stored with 1024 added


def test_z_coordinates_of_a_dose_hold_whichever_way_its_normal_points(tmp_path):
    z = [30, 27, 24, 21, 18, 15]
    plain_frames(
        tmp_path / "dose.dcm",
        RT_DOSE,
        ImageOrientationPatient=[1, 0, 0, 0, -1, 0],  # its normal is (0, 0, -1)
        GridFrameOffsetVector=z,
        DoseGridScaling=0.5,
    )
    volume = read_volume(tmp_path / "dose.dcm")
    np.testing.assert_allclose(volume.to_physical([[k, 0, 0] for k in range(6)])[:, 2], z)
    np.testing.assert_array_equal(volume.array, HU * 0.5 + 512)


def test_offsets_of_a_dose_are_checked(tmp_path):
    plain_frames(tmp_path / "dose.dcm", RT_DOSE)
    with pytest.raises(UserError, match=r"has no Grid Frame Offset Vector .3004,000C."):
        read_volume(tmp_path / "dose.dcm")
    plain_frames(tmp_path / "dose.dcm", RT_DOSE, GridFrameOffsetVector=[0, 3, 6])
    with pytest.raises(UserError, match=r"has 6 frames, but 3 values in Grid Frame Offset Vector"):
        read_volume(tmp_path / "dose.dcm")
    plain_frames(tmp_path / "dose.dcm", RT_DOSE, GridFrameOffsetVector=[0, 3, 6, 12, 15, 18])
    with pytest.raises(UserError, match="lacks a slice: between frame 3 of dose.dcm"):
        read_volume(tmp_path / "dose.dcm")
    plain_frames(
        tmp_path / "dose.dcm",
        RT_DOSE,
        GridFrameOffsetVector=[30, 33, 36, 39, 42, 45],
        ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
    )
    with pytest.raises(UserError, match="gives z coordinates in Grid Frame Offset Vector .* not transversal"):
        read_volume(tmp_path / "dose.dcm")


def nuclear(path, **values):
    detector = item(ImagePositionPatient=[-10, -20, 30], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    given = {"SliceVector": [1, 2, 3, 4, 5, 6], "SpacingBetweenSlices": 3, "DetectorVector": [1] * 6, **values}
    elsewhere = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    plain_frames(path, NUCLEAR_MEDICINE, DetectorInformationSequence=[detector], **elsewhere, **given)


@pytest.mark.parametrize(("spacing", "origin"), [(3, (-10, -20, 30)), (-3, (-10, -20, 15))])
def test_slices_of_nuclear_medicine_lie_one_behind_the_other(tmp_path, spacing, origin):
    nuclear(tmp_path / "spect.dcm", SpacingBetweenSlices=spacing)
    volume = read_volume(tmp_path / "spect.dcm")
    check_place(volume, origin=origin)
    np.testing.assert_array_equal(volume.array, HU if spacing > 0 else HU[::-1])


def test_frames_of_nuclear_medicine_that_are_no_slices_are_refused(tmp_path):
    nuclear(tmp_path / "gated.dcm", TimeSlotVector=[1, 2, 3, 1, 2, 3])
    with pytest.raises(UserError, match=r"frames that differ in Time Slot Vector .0054,0070."):
        read_volume(tmp_path / "gated.dcm")
    nuclear(tmp_path / "gated.dcm", SpacingBetweenSlices=None)
    with pytest.raises(UserError, match=r"has an empty Spacing Between Slices .0018,0088."):
        read_volume(tmp_path / "gated.dcm")
    nuclear(tmp_path / "gated.dcm", SliceVector=None)
    with pytest.raises(UserError, match=r"has an empty Slice Vector .0054,0080."):
        read_volume(tmp_path / "gated.dcm")
