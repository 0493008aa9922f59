"""Outputs that cannot be written: noticed before any work, whoever runs the command."""

from __future__ import annotations

from tests.bad_inputs.row import UNET, Place, Row, said

LONG = "n" * 300


def blocked(place: Place) -> None:
    """A file where a folder would have to be, and a folder where a file would have to be."""
    place.write("file", "precious")
    (place.folder / "folder.nii.gz").mkdir()


def segment(output: str, *words: str):
    def make(place: Place):
        blocked(place)
        place.image("ct.nii.gz")
        return ["segment", "ct.nii.gz", "-o", output, "--model", "none.pt", "--box", "3,10,12:3,30,33", *words]

    return make


def batch(output: str, column: str = ""):
    def make(place: Place):
        blocked(place)
        place.image("a.nii.gz")
        place.write("p.csv", f'image,prompt,where,output\na.nii.gz,box,"3,10,12:3,30,33",{column}\n')
        return ["segment", "--batch", "p.csv", "-o", output, "--model", "none.pt"]

    return make


def folder_of(*words: str):
    """A command whose folder of results is ``file/out`` or as stated."""

    def make(place: Place):
        blocked(place)
        place.preprocessed()
        place.validated(UNET)
        place.image("images/a_0000.nii.gz")
        return list(words)

    return make


def weights(place: Place):
    blocked(place)
    return ["weights", place.model]


BENCHMARK = """
name: table
datasets: [301]
folds: [0]
methods: [{trainer: nnUNetTrainer, configuration: 3d_fullres}]
"""
INSIDE_FILE = said("the output", "file is not a folder")

ROWS = [
    Row("segment into a file", segment("file/a.nii.gz"), INSIDE_FILE),
    Row("segment over a folder", segment("folder.nii.gz"), said("folder.nii.gz is a folder, but must be a file")),
    Row("segment too long a name", segment(f"{LONG}.nii.gz"), said("its name is too long")),
    Row("segment a name too long by one", segment(f"{'n' * 249}.nii.gz"), said("its name is too long")),
    Row("segment into too long a folder", segment(f"{LONG}/a.nii.gz"), said("its name is too long")),
    Row("segment into proc", segment("/proc/a.nii.gz"), said("the output /proc/a.nii.gz cannot be written")),
    Row("segment into the device", segment("/dev/null/a.nii.gz"), said("/dev/null is not a folder")),
    Row("segment no ending", segment("mask"), said("the output is mask, but must end in .nii.gz")),
    Row("segment a picture", segment("mask.png"), said("the output is mask.png")),
    Row("segment over the image", segment("ct.nii.gz"), said("is the image itself")),
    Row("segment over the image by another path", segment("x/../ct.nii.gz"), said("is the image itself")),
    Row("batch into a file", batch("file"), INSIDE_FILE),
    Row("batch into proc", batch("/proc/x"), said("the output /proc/x cannot be written")),
    Row("batch column into a file", batch("out", "file/a.nii.gz"), INSIDE_FILE),
    Row("batch column over a folder", batch("out", "folder.nii.gz"), said("folder.nii.gz is a folder")),
    Row("compare into a file", folder_of("compare", "-d", "301", "-o", "file/out"), INSIDE_FILE),
    Row("report into a file", folder_of("report", "-d", "301", "-o", "file"), INSIDE_FILE),
    Row("compare into proc", folder_of("compare", "-d", "301", "-o", "/proc/out"), said("/proc/out cannot be written")),
    Row("prompt-benchmark into a file", folder_of("prompt-benchmark", "-d", "301", "-o", "file"), INSIDE_FILE),
    Row(
        "rank into a file",
        folder_of("annotate", "rank", "-d", "301", "--prompts", "p.csv", "--round", "file/r"),
        INSIDE_FILE,
    ),
    Row("demo into a file", folder_of("demo", "-o", "file"), INSIDE_FILE),
    Row("predict into a file", folder_of("predict", "-d", "301", "-i", "images", "-o", "file"), INSIDE_FILE),
    Row(
        "weights into a file",
        weights,
        said("file is not a folder"),
        environment={"SAM2_3dMed_weights": "file/weights"},
    ),
]
