"""DICOM series and multi-frame files that are no volume, or of unknown geometry or values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydicom.dataset import Dataset

from tests.bad_inputs.row import SHAPE, Place, Row, said
from tests.images.dicom_files import write_multi_frame, write_series

DEPTH = SHAPE[0]
STEP = 3.0  # mm between slices


def volume(place: Place) -> np.ndarray:
    return place.rng.integers(-1000, 1000, size=SHAPE).astype(np.int16)


def command(place: Place, image: str, output: str = "out.nii.gz") -> list[object]:
    return ["segment", image, "-o", output, "--model", place.model, "--box", "3,10,12:3,30,33"]


def series(
    change: Callable[[Dataset, int], None] = lambda data, z: None,
    after: Callable[[Place], object] = lambda place: None,
    output: str = "out.nii.gz",
    **options: object,
):
    """A series in the folder ``ct``.

    Args:
        change: alters the dataset of a slice.
        after: alters the folder.
        output: of the command.
        **options: of ``write_series``.
    """

    def make(place: Place):
        write_series(place.folder / "ct", volume(place), change=change, **options)  # type: ignore[arg-type]
        after(place)
        return command(place, "ct", output)

    return make


def frames(change: Callable[[Dataset], object] = lambda data: None, **options: object):
    """A multi-frame file."""

    def make(place: Place):
        write_multi_frame(place.folder / "ct.dcm", volume(place), change=change, **options)  # type: ignore[arg-type]
        return command(place, "ct.dcm")

    return make


def on(number: int, **values: object) -> Callable[[Dataset, int], None]:
    """Set attributes of slice ``number``; None deletes one."""

    def change(data: Dataset, z: int) -> None:
        if z == number:
            everywhere(**values)(data, z)

    return change


def everywhere(**values: object) -> Callable[..., None]:
    def change(data: Dataset, z: int = 0) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(data, keyword)
            else:
                setattr(data, keyword, value)

    return change


def empty(keyword: str) -> Callable[[Dataset, int], None]:
    """Leave an attribute without a value on slice 3."""

    def change(data: Dataset, z: int) -> None:
        if z == 3:
            data[keyword].value = None

    return change


def tilted(data: Dataset, z: int) -> None:
    x, y, along = data.ImagePositionPatient
    data.ImagePositionPatient = [x, y + 0.8 * z, along]


def colour(data: Dataset, z: int) -> None:
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.PixelData = bytes(3 * data.Rows * data.Columns)


def cut_pixels(data: Dataset, z: int) -> None:
    if z == 2:
        data.PixelData = data.PixelData[:1000]


def narrow(data: Dataset, z: int) -> None:
    if z == 4:
        data.Columns = 40
        data.PixelData = bytes(2 * data.Rows * data.Columns)


def second_series(place: Place):
    write_series(place.folder / "other", volume(place))
    for file in (place.folder / "other").iterdir():
        file.rename(place.folder / "ct" / f"other_{file.name}")


def no_slice(place: Place):
    for file in (place.folder / "ct").iterdir():
        file.write_bytes(b"")


def cut_file(place: Place):
    file = sorted((place.folder / "ct").iterdir())[2]
    file.write_bytes(file.read_bytes()[: int(place.rng.integers(400, 3000))])


def copied(place: Place):
    file = sorted((place.folder / "ct").iterdir())[2]
    (file.parent / "copy.dcm").write_bytes(file.read_bytes())


def frame_groups(change: Callable[[list[Dataset]], object]):
    return frames(lambda data: change(data.PerFrameFunctionalGroupsSequence))


def set_content(number: int, keyword: str, value: object) -> Callable[[list[Dataset]], None]:
    return lambda groups: setattr(groups[number].FrameContentSequence[0], keyword, value)


def without_geometry(data: Dataset) -> None:
    del data.PerFrameFunctionalGroupsSequence, data.SharedFunctionalGroupsSequence
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7.3"


def two_phases(data: Dataset) -> None:
    for number, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        group.FrameContentSequence[0].TemporalPositionIndex = 1 + number // DEPTH


def folder_of(content: dict[str, bytes]):
    def make(place: Place):
        (place.folder / "ct").mkdir()
        for name, value in content.items():
            place.write(f"ct/{name}", value)
        return command(place, "ct")

    return make


def seg_of_a_file(place: Place):
    place.image("ct.nii.gz")
    return command(place, "ct.nii.gz", "out.dcm")


def seg_over_a_slice(place: Place):
    write_series(place.folder / "ct", volume(place))
    return command(place, "ct", "ct/IM0000.dcm")


OTHERS = tuple(range(1, DEPTH))  # than the first slice

ROWS = [
    *(
        Row(f"slice {z} missing", series(skip=(z,)), said("ct lacks a slice", f"{STEP * 2:.2f} mm", f"{STEP:.2f} mm"))
        for z in range(1, DEPTH - 1)
    ),
    *(
        Row(f"slice {z} out of place", series(places=[STEP * k + 0.9 * (k == z) for k in range(DEPTH)]), said("ct "))
        for z in (1, 3, 5)
    ),
    Row("two slices at one place", series(places=[0, 3, 6, 6, 9, 12, 15]), said("ct has two slices at the same place")),
    Row("one slice twice", series(after=copied), said("ct has one image twice", "copy.dcm")),
    Row("two time points", series(places=[0, 3, 6, 9, 0, 3, 6]), said("ct has two slices at the same place")),
    Row("tilted gantry", series(tilted), said("tilted gantry")),
    Row("a localiser", series(on(6, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])), said("several orientations")),
    Row("a narrow slice", series(narrow), said("ct ", "40")),
    Row("a slice of another spacing", series(on(2, PixelSpacing=[0.9, 0.9])), said("ct ", "0.9")),
    Row("colour", series(colour), said("colour")),
    Row("two series", series(after=second_series), said("ct holds 2 DICOM series")),
    Row("empty files", series(after=no_slice), said("ct")),
    Row("a file that breaks off", series(after=cut_file), said("IM")),
    Row("voxels that break off", series(cut_pixels), said("IM")),
    Row("pixels missing", series(on(1, PixelData=None)), said("ct")),
    *(
        Row(f"{keyword} {what}", series(change(keyword)), said("IM", "ct"))
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient")
        for what, change in {"empty": empty, "missing": lambda keyword: on(3, **{keyword: None})}.items()
    ),
    Row("no position at all", series(everywhere(ImagePositionPatient=None)), said("geometry is unknown")),
    Row("no spacing at all", series(everywhere(PixelSpacing=None)), said("geometry is unknown")),
    Row("spacing of 0", series(everywhere(PixelSpacing=[0.0, 0.8])), said("a pixel spacing of 0")),
    Row("negative spacing", series(everywhere(PixelSpacing=[0.8, -0.8])), said("-0.8 mm")),
    Row("orientation of zeros", series(everywhere(ImageOrientationPatient=[0.0] * 6)), said("ct")),
    Row("orientation that is skewed", series(everywhere(ImageOrientationPatient=[1, 0, 0, 1, 0, 0])), said("ct")),
    Row("rescaling on some slices", series(on(2, RescaleSlope=None, RescaleIntercept=None)), said("without")),
    Row("slope without intercept", series(everywhere(RescaleIntercept=None)), said("no Rescale Intercept")),
    Row("slope 0", series(everywhere(RescaleSlope=0)), said("has 0 for Rescale Slope")),
    Row("one slice of unknown thickness", series(everywhere(SliceThickness=None), skip=OTHERS), said("ct")),
    Row("a folder without files", folder_of({}), said("there is no DICOM series in ct")),
    Row("a folder of text", folder_of({"a.txt": b"notes", "b.csv": b"1,2"}), said("there is no DICOM series in ct")),
    Row("only files of macOS", folder_of({"._IM1.dcm": b"\0\5\x16\7"}), said("there is no DICOM series in ct")),
    Row("text named dcm", folder_of({"a.dcm": b"x" * 500}), said("ct")),
    Row("DICOM SEG without a series", seg_of_a_file, said("ct.nii.gz", "DICOM series")),
    Row("DICOM SEG over a slice", seg_over_a_slice, said("IM0000.dcm")),
    Row("DICOM SEG without instances", series(everywhere(SOPInstanceUID=None), output="out.dcm"), said("ct")),
    *(
        Row(f"frame {z} missing", frames(order=[k for k in range(DEPTH) if k != z]), said("lacks a slice"))
        for z in (1, 3, 5)
    ),
    Row("one frame twice", frames(order=[0, 1, 2, 3, 3, 4, 5, 6]), said("at the same place")),
    Row("two stacks", frame_groups(set_content(6, "StackID", "2")), said("2 ", "separate them first")),
    Row("two phases", frames(two_phases, order=[*range(DEPTH), *range(DEPTH)]), said("2 ", "separate them first")),
    Row("fewer groups than frames", frame_groups(lambda groups: groups.pop()), said("7 frames, but 6 items")),
    Row("a frame without position", frame_groups(lambda g: delattr(g[2], "PlanePositionSequence")), said("ct.dcm")),
    Row("frames without geometry", frames(without_geometry), said("holds 7 frames", "where each lies")),
    Row("more frames than voxels", frames(everywhere(NumberOfFrames=9)), said("ct.dcm")),
]
