"""Image files that are cut off, damaged, empty, something else, or no volume: images, masks, predictions, gt."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from tests.bad_inputs.row import DATASET, SHAPE, UNET, Place, Row, said

Change = Callable[[Place, str], object]


def segment(name: str, change: Change):
    """``segment`` on an image file that ``change`` makes or damages."""

    def make(place: Place):
        change(place, name)
        return ["segment", name, "-o", "out.nii.gz", "--model", place.model, "--box", "3,10,12:3,30,33"]

    return make


def cut(where: str) -> Change:
    """Cut an image within its header, or its voxels at a random byte; compressed, or as ITK has it by default."""

    def change(place: Place, name: str):
        file = place.image(name)
        content = file.read_bytes()
        first, last = {"header": (1, 60), "voxels": (len(content) // 3, len(content) - 9)}[where]
        file.write_bytes(content[: int(place.rng.integers(first, last))])

    return change


def flip(place: Place, name: str):
    """Change one bit in the middle of the compressed voxels."""
    if name.endswith(".nii.gz"):
        file = place.image(name)
    else:
        image = sitk.GetImageFromArray(place.rng.integers(-1000, 1000, SHAPE).astype(np.int16))
        sitk.WriteImage(image, str(place.folder / name), useCompression=True)
        file = place.folder / name
    content = bytearray(file.read_bytes())
    content[int(place.rng.integers(len(content) // 2, len(content) - 100))] ^= 1 << int(place.rng.integers(8))
    file.write_bytes(content)


def content(given: bytes | str) -> Change:
    return lambda place, name: place.write(name, given)


def nifti(array: np.ndarray) -> Change:
    """A file written by nibabel, with headers that ITK would not write."""
    return lambda place, name: nib.save(nib.Nifti1Image(array, np.diag([0.5, 0.8, 3.0, 1.0])), place.folder / name)


def unknown_type(place: Place, name: str):
    file = place.image(name)
    header = bytearray(file.read_bytes())
    header[70:72] = (77).to_bytes(2, "little")  # NIfTI's datatype
    file.write_bytes(header)


def not_finite(value: float) -> Change:
    def change(place: Place, name: str):
        array = place.rng.normal(size=SHAPE).astype(np.float32)
        array[tuple(place.rng.integers(SHAPE))] = value
        place.image(name, array)

    return change


def detached(size: int | None) -> Change:
    """A MetaImage or NRRD header whose voxels lie in a file of their own, of which ``size`` bytes are there."""

    def change(place: Place, name: str):
        file = place.image(name)
        (voxels,) = [other for other in file.parent.iterdir() if other != file]
        if size is None:
            voxels.unlink()
        else:
            voxels.write_bytes(voxels.read_bytes()[:size])

    return change


def folder(place: Place, name: str):
    (place.folder / name).mkdir()
    place.image(f"{name}/inside.nii")


def in_place_of(which: str, change: Change, *command: str):
    """A dataset with a model that is validated, one of whose files is damaged."""

    def make(place: Place):
        place.preprocessed()
        place.validated(UNET)
        name = {
            "prediction": f"nnUNet_results/{DATASET}/{UNET}/fold_0/validation/case_01.nii.gz",
            "truth": f"nnUNet_preprocessed/{DATASET}/gt_segmentations/case_00.nii.gz",
            "label": f"nnUNet_raw/{DATASET}/labelsTr/case_02.nii.gz",
            "image": f"nnUNet_raw/{DATASET}/imagesTr/case_03_0000.nii.gz",
        }[which]
        change(place, name)
        return [str(word).format(model=place.model) for word in command]

    return make


def mask_prompt(change: Change):
    def make(place: Place):
        place.image("ct.nii.gz")
        change(place, "mask.nii.gz")
        return ["segment", "ct.nii.gz", "-o", "out.nii.gz", "--model", place.model, "--mask", "mask.nii.gz"]

    return make


def moved(place: Place, name: str):
    place.mask(name, origin=(40.0, 0.0, 0.0))


def smaller(place: Place, name: str):
    place.image(name, np.ones((7, 40, 47), dtype=np.uint8))


def gzip_of_text(place: Place, name: str):
    place.write(name, gzip.compress(b"<html>not found</html>" * 30))


COMPARE = ("compare", "-d", "301", "-f", "0", "-m", UNET, "-o", "out", "--processes", "1")
BENCHMARK = ("prompt-benchmark", "-d", "301", "-f", "0", "--model", "{model}", "-o", "out", "-device", "cpu")
AGAIN = "copy or download it again"
VOLUME = np.zeros((48, 40, 7), dtype=np.int16)

ROWS = [
    *(
        Row(f"{ending} cut within its {where} ({number})", segment(f"ct{ending}", cut(where)), said(f"ct{ending}"))
        for ending in (".nii.gz", ".nii", ".nrrd", ".mha")
        for where in ("header", "voxels")
        for number in (1, 2)
    ),
    *(
        Row(f"{ending} with a bit that is another ({number})", segment(f"ct{ending}", flip), said(f"ct{ending} is"))
        for ending in (".nii.gz", ".mha", ".nrrd")
        for number in (1, 2)
    ),
    *(
        Row(f"empty {ending}", segment(f"ct{ending}", content(b"")), said(f"ct{ending} is empty", AGAIN))
        for ending in (".nii.gz", ".nii", ".nrrd", ".mha")
    ),
    *(
        Row(f"{what} named {ending}", segment(f"ct{ending}", change), said(f"ct{ending}"))
        for what, change in {
            "a web page": content("<!DOCTYPE html><html><body>404 not found</body></html>" * 20),
            "a pointer of Git LFS": content("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
            "a compressed web page": gzip_of_text,
            "zeros": content(bytes(5000)),
        }.items()
        for ending in (".nii.gz", ".mha")
    ),
    *(
        Row(f"{value} in {ending}", segment(f"ct{ending}", not_finite(value)), said("1 ", "NaN or infinite"))
        for value in (np.nan, np.inf, -np.inf)
        for ending in (".nii.gz", ".nii", ".nrrd", ".mha")
    ),
    *(
        Row(f"voxels of {ending} {what}", segment(f"ct{ending}", detached(size)), said(f"ct{ending}", says))
        for ending in (".mhd", ".nhdr")
        for what, size, says in (("missing", None, "does not exist"), ("cut", 1000, "is incomplete"))
    ),
    Row(
        "NIfTI of four dimensions", segment("ct.nii.gz", nifti(np.zeros((9, 9, 9, 2), np.int16))), said("9 x 9 x 9 x 2")
    ),
    Row("NIfTI of two dimensions", segment("ct.nii.gz", nifti(np.zeros((9, 8), np.int16))), said("2 dimensions")),
    Row("NIfTI of complex numbers", segment("ct.nii.gz", nifti(VOLUME.astype(np.complex64))), said("ct.nii.gz")),
    Row("NIfTI of a type that there is not", segment("ct.nii", unknown_type), said("ct.nii")),
    Row("a folder named NIfTI", segment("ct.nii", folder), said("is a folder, not a file", "inside.nii")),
    Row("a file of another kind", segment("ct.png", content(b"\x89PNG")), said("ct.png is no kind of image")),
    Row("no such file", segment("ct.nii.gz", lambda place, name: None), said("there is no file or folder ct.nii.gz")),
    Row("mask cut off", mask_prompt(cut("voxels")), said("mask.nii.gz is incomplete")),
    Row(
        "mask elsewhere",
        mask_prompt(moved),
        said("mask.nii.gz and ct.nii.gz have the same size but lie 40.00 mm apart"),
    ),
    Row("mask of another size", mask_prompt(smaller), said("7 x 40 x 47", "7 x 40 x 48")),
    Row("prediction cut off", in_place_of("prediction", cut("voxels"), *COMPARE), said("case_01.nii.gz is incomplete")),
    Row("prediction empty", in_place_of("prediction", content(b""), *COMPARE), said("case_01.nii.gz is empty")),
    Row("prediction of another size", in_place_of("prediction", smaller, *COMPARE), said("case_01", "(7, 40, 47)")),
    Row("truth cut off", in_place_of("truth", cut("voxels"), *COMPARE), said("case_00.nii.gz is incomplete")),
    Row("truth a web page", in_place_of("truth", content("<html>"), *COMPARE), said("case_00.nii.gz", "no NIfTI file")),
    Row("label cut off, plan", in_place_of("label", cut("voxels"), "plan", "-d", "301"), said("case_02.nii.gz")),
    Row("image cut off, plan", in_place_of("image", cut("voxels"), "plan", "-d", "301"), said("case_03_0000.nii.gz")),
    Row("image a web page, plan", in_place_of("image", content("<html>"), "plan", "-d", "301"), said("case_03_0000")),
]
