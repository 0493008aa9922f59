"""Prompts, as options, in a batch's table, and in the Python interface."""

from __future__ import annotations

import numpy as np

from nnunetv2_sam2_3dmed.interactive.prompt_lines import read_cases
from tests.bad_inputs.row import SHAPE, Place, Row, said

GOOD = 'a.nii.gz,box,"3,10,12:3,30,33"'


def segment(*words: str):
    """``segment`` of an image of noise with these prompts."""

    def make(place: Place):
        place.image("ct.nii.gz")
        return ["segment", "ct.nii.gz", "-o", "out.nii.gz", "--model", place.model, "-device", "cpu", *words]

    return make


def with_mask(make_mask, *words: str):
    """The same with the mask that ``make_mask`` makes."""

    def make(place: Place):
        make_mask(place)
        return segment("--mask", "mask.nii.gz", *words)(place)

    return make


def mask_of(array: np.ndarray, **geometry):
    return with_mask(lambda place: place.image("mask.nii.gz", array, **geometry))


def table(content: str | bytes):
    """``segment --batch`` of a table; the image ``a.nii.gz`` is there."""

    def make(place: Place):
        place.image("a.nii.gz")
        place.write("p.csv", content)
        return ["segment", "--batch", "p.csv", "-o", "out", "--model", place.model, "-device", "cpu"]

    return make


def call(content: str):
    """The reader of the tables alone."""

    def make(place: Place):
        file = place.write("p.csv", content)
        return lambda: read_cases(file)

    return make


def probabilities() -> np.ndarray:
    return np.linspace(0, 1, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def two_labels() -> np.ndarray:
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[2:4, 5:9, 5:9], array[4:6, 20:30, 20:30] = 2, 5
    return array


def noise(low: int, high: int, dtype: type) -> np.ndarray:
    return np.random.default_rng(5).integers(low, high, SHAPE).astype(dtype)


ROWS = [
    # ---- options
    Row("point of two numbers", segment("--point", "3,20"), said("a point is written z,y,x", "'3,20'")),
    Row("point of four numbers", segment("--point", "3,20,20,1"), said("a point is written z,y,x")),
    Row("point of words", segment("--point", "three,20,20"), said("a point is written z,y,x", "'three,20,20'")),
    Row("point nan", segment("--point", "3,nan,20"), said("a point is written z,y,x", "'3,nan,20'")),
    Row("point infinite", segment("--point", "inf,2,2"), said("a point is written z,y,x")),
    Row(
        "diameters of three ends",
        segment("--recist", "3,1,1:3,9,9:3,1,9"),
        said("a RECIST measurement needs the two ends", "'3,1,1:3,9,9:3,1,9'"),
    ),
    Row(
        "parallel diameters",
        segment("--recist", "3,1,1:3,1,9:3,3,1:3,3,9"),
        said("the two diameters meet at 0 degrees"),
    ),
    Row("table with a first slice alone", table("image,prompt,where,first\n" + GOOD + ",2\n"), said("both are needed")),
    Row("point empty", segment("--point", ""), said("a point is written z,y,x", "''")),
    Row("point with semicolons", segment("--point", "3;20;20"), said("'3;20;20'")),
    Row("point with decimal commas", segment("--point", "3,5,20,5,20,5"), said("decimal points")),
    Row("point of x y z", segment("--point", "20,20,3"), said("(20, 20, 3)", "order z, y, x", "(6, 39, 47)")),
    Row("point negative", segment("--point=-3,20,20"), said("(-3, 20, 20) lies outside")),
    Row("point huge", segment("--point", "1e300,20,20"), said("lies outside the image")),
    Row("point in mm outside", segment("--point", "3,20,2000", "--unit", "mm"), said("lies outside the image")),
    Row("box of one corner", segment("--box", "3,10,12"), said("a box needs two corners")),
    Row("box of three corners", segment("--box", "3,1,1:3,2,2:3,3,3"), said("a box needs two corners")),
    Row("box empty", segment("--box", "3,10,12:3,10,33"), said("is empty: its corners must differ")),
    Row("box over slices", segment("--box", "2,10,12:5,30,33"), said("slices 2, 5 along axis 0")),
    Row("box half outside", segment("--box", "3,10,12:3,30,99"), said("(3, 30, 99) lies outside")),
    Row("scribble over slices", segment("--scribble", "3,1,1:4,1,9"), said("slices 3, 4")),
    Row("scribble ragged", segment("--scribble", "3,1,1:3,1"), said("a scribble is written z,y,x")),
    Row("constant image", lambda p: constant(p), said("shows nothing", "grey level")),
    # ---- masks
    Row("mask missing", segment("--mask", "none.nii.gz"), said("there is no mask none.nii.gz")),
    Row(
        "mask is a ct",
        mask_of(noise(-1000, 1000, np.int16)),
        said("mask.nii.gz looks like an image", "different values"),
    ),
    Row("mask is an 8 bit image", mask_of(noise(0, 256, np.uint8)), said("looks like an image", "from 0 to 255")),
    Row("mask is a float image", mask_of(noise(0, 999, np.float32) + 0.5), said("looks like an image")),
    Row("mask of probabilities", mask_of(probabilities()), said("holds probabilities between whole numbers", "0.00")),
    Row("mask interpolated", mask_of(np.clip(two_labels() * 0.4, 0, 1).astype(np.float32)), said("0.8")),
    Row("mask negative", mask_of(two_labels().astype(np.int16) - 2), said("from -2 to 3")),
    Row("mask empty", mask_of(np.zeros(SHAPE, np.uint8)), said("mask.nii.gz is empty")),
    Row("mask without the object", mask_of(two_labels()), said("has the labels 2, 5", "none for object 1")),
    Row("mask of another size", mask_of(np.ones((7, 40, 47), np.uint8)), said("7 x 40 x 47 voxels", "7 x 40 x 48")),
    Row("mask elsewhere", mask_of(two_labels(), origin=(30, 0, 0)), said("30.00 mm apart")),
    Row(
        "mask on a slice that is none",
        lambda p: [p.mask("m.nii.gz"), *segment("--mask", "m.nii.gz@77")(p)][1:],
        said("slice 77 of", "0 to 6"),
    ),
    Row(
        "mask on a slice without it",
        lambda p: [p.mask("m.nii.gz"), *segment("--mask", "m.nii.gz@0")(p)][1:],
        said("on slice 0 along axis 0 is empty"),
    ),
    Row("mask is text", lambda p: [p.write("m.nii.gz", "no"), *segment("--mask", "m.nii.gz")(p)][1:], said("m.nii.gz")),
    Row("mask is the output", lambda p: mask_as_output(p), said("out.nii.gz would replace an image or mask")),
    # ---- tables
    Row("table missing", lambda p: ["segment", "--batch", "no.csv", "-o", "out"], said("no.csv cannot be read as CSV")),
    Row("table is a folder", lambda p: ["segment", "--batch", ".", "-o", "out"], said("cannot be read as CSV")),
    Row("table empty", table(""), said("p.csv lacks the column image, prompt, where")),
    Row("table of a header", table("image,prompt,where\n"), said("p.csv has no prompts")),
    Row("table lacks a column", table(f"image,promt,where\n{GOOD}\n"), said("'promt'", "did you mean prompt?")),
    Row("table without a header", table(f"{GOOD}\n"), said("p.csv lacks the column image")),
    Row(
        "table column misspelt",
        table(f"image,prompt,where,objects\n{GOOD},2\n"),
        said("'objects'", "did you mean object?"),
    ),
    Row("table column twice", table(f"image,prompt,where,where\n{GOOD},x\n"), said("'where' twice")),
    Row("table unquoted", table("image,prompt,where\na.nii.gz,point,3,20,20\n"), said("line 2", "double quotes")),
    Row("table quote open", table('image,prompt,where\na.nii.gz,point,"3,20\n'), said("line 2", "CSV")),
    Row("table is a workbook", table(b"PK\x03\x04" + bytes(40)), said("p.csv", "save the spreadsheet as CSV")),
    Row("table of bytes", table(bytes(range(256))), said("p.csv")),
    Row("table object 0", table(f"image,prompt,where,object\n{GOOD},0\n"), said("line 2", "the object is 0")),
    Row("table object 70000", table(f"image,prompt,where,object\n{GOOD},70000\n"), said("line 2", "70000", "65535")),
    Row("table object 1.5", table(f"image,prompt,where,object\n{GOOD},1.5\n"), said("line 2", "whole numbers")),
    Row("table object of words", table(f"image,prompt,where,object\n{GOOD},liver\n"), said("line 2", "whole numbers")),
    Row("table object nan", table(f"image,prompt,where,object\n{GOOD},nan\n"), said("line 2", "whole numbers")),
    Row("table axis 3", table(f"image,prompt,where,axis\n{GOOD},3\n"), said("line 2", "axis is 3")),
    Row(
        "table no where", table("image,prompt,where\na.nii.gz,point,\n"), said("line 2", "nothing in the column where")
    ),
    Row("table no image", table('image,prompt,where\n,point,"3,2,2"\n'), said("line 2", "nothing in the column image")),
    Row("table two outputs", table(f"image,prompt,where,output\n{GOOD},b.mha\n{GOOD},c.mha\n"), said("line 3")),
    Row("table output a folder", table(f"image,prompt,where,output\n{GOOD},.\n"), said("must end in .nii.gz")),
    Row("table output the image", table(f"image,prompt,where,output\n{GOOD},a.nii.gz\n"), said("is the image itself")),
    Row(
        "table one output twice", table(f"image,prompt,where\n{GOOD}\nx/{GOOD}\n"), said("two images would be written")
    ),
    Row("table with semicolons lacks a column", table("image;where\na;1\n"), said("lacks the column prompt")),
    Row("table in utf-16 with a typo", table("image,prompt,were\n".encode("utf-16")), said("'were'", "mean where?")),
    Row(
        "batch and an image",
        lambda p: [*table(f"image,prompt,where\n{GOOD}\n")(p), "a.nii.gz"],
        said("come from the CSV"),
    ),
    Row("python: a typo", call(f"image,prompt,wher\n{GOOD}\n"), said("did you mean where?")),
    Row("python: no prompts", call("image,prompt,where\n\n\n"), said("has no prompts")),
]


def constant(place: Place) -> list[object]:
    place.image("ct.nii.gz", np.full(SHAPE, 7, dtype=np.int16))
    return ["segment", "ct.nii.gz", "-o", "out.nii.gz", "--model", place.model, "-device", "cpu", "--point", "3,2,2"]


def mask_as_output(place: Place) -> list[object]:
    place.mask("out.nii.gz")
    return segment("--mask", "out.nii.gz")(place)
