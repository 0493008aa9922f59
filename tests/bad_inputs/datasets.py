"""nnU-Net's folders, dataset.json, plans, folds, predictions and ground truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.bad_inputs.row import CASES, DATASET, OURS, SHAPE, UNET, Place, Row, plans, said

PREPROCESSED = f"nnUNet_preprocessed/{DATASET}"
VALIDATION = f"nnUNet_results/{DATASET}/{UNET}/fold_0/validation"


def after(change: Callable[[Place], Any], *words: str):
    """A command on a dataset that is whole except for one change."""

    def make(place: Place):
        place.preprocessed()
        place.validated(UNET)
        place.validated(OURS)
        change(place)
        return list(words)

    return make


def compare(change: Callable[[Place], Any], *words: str):
    return after(change, "compare", "-d", "301", "--processes", "1", "-o", "out", *words)


def plan(change: Callable[[Place], Any], *words: str):
    return after(change, "plan", "-d", "301", *words)


def dataset_json(content: Any):
    """The same dataset.json in both folders."""

    def change(place: Place):
        for folder in ("nnUNet_raw", "nnUNet_preprocessed"):
            place.write(f"{folder}/{DATASET}/dataset.json", content)

    return change


def changed(**changes: Any):
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
    content.update(changes)
    return dataset_json({key: value for key, value in content.items() if value is not None})


def plans_json(change: Callable[[dict], Any]):
    def make(place: Place):
        content = plans()
        change(content)
        place.write(f"{PREPROCESSED}/nnUNetPlans.json", content)

    return make


def prediction(content: bytes | None = None, **made: Any):
    """Another prediction of the first case."""

    def change(place: Place):
        name = f"{VALIDATION}/{CASES[0]}.nii.gz"
        place.write(name, content) if content is not None else place.image(name, **made)

    return change


def foreign(**geometry: Any):
    """Predictions by somebody else."""

    def change(place: Place):
        for case in CASES[:2]:
            place.mask(f"theirs/{case}.nii.gz", **geometry)

    return change


def nothing(place: Place) -> None:
    """No change."""


def removed(name: str):
    return lambda place: (place.folder / name).unlink()


def prompts(change: Callable[[Place], Any]):
    return after(change, "prompt-benchmark", "-d", "301", "-o", "out", "--model", "none.pt")


def rank(change: Callable[[Place], Any]):
    def make(place: Place):
        place.dataset()
        place.image("new_1_0000.nii.gz")
        place.write("p.csv", 'image,prompt,where\nnew_1_0000.nii.gz,box,"3,10,12:3,30,33"\n')
        change(place)
        return ["annotate", "rank", "-d", "301", "--prompts", "p.csv", "--round", "round", "--model", place.model]

    return make


def line(text: str):
    return lambda place: place.write("p.csv", f"image,prompt,where,object\n{text}\n")


ROWS = [
    # ---- folders and dataset.json
    Row("dataset unknown", after(nothing, "compare", "-d", "999"), said("dataset '999' is not known")),
    Row("dataset of words", after(nothing, "compare", "-d", "spleen"), said("spleen")),
    Row("dataset negative", after(nothing, "compare", "-d", "-3"), said("-3")),
    Row(
        "no folder is set",
        lambda p: ["compare", "-d", "301"],
        said("nnUNet_preprocessed is not set"),
        environment=dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")),
    ),  # fmt: skip
    Row(
        "results are not set", compare(nothing), said("nnUNet_results is not set"), environment={"nnUNet_results": None}
    ),
    Row(
        "preprocessed is not set",
        plan(nothing),
        said("nnUNet_preprocessed is not"),
        environment={"nnUNet_preprocessed": None},
    ),  # fmt: skip
    Row("dataset.json cut", compare(dataset_json('{"labels": {"backgr')), said("dataset.json is no valid JSON")),
    Row("dataset.json empty", compare(dataset_json("")), said("dataset.json is no valid JSON")),
    Row("dataset.json a list", compare(dataset_json([1])), said("dataset.json holds a list")),
    Row("dataset.json of bytes", compare(dataset_json(b"\xff\x00\x80")), said("dataset.json is no valid JSON")),
    Row("dataset.json without an ending", compare(changed(file_ending=None)), said("file_ending None")),
    Row("dataset.json ending without a dot", compare(changed(file_ending="nii.gz")), said("file_ending 'nii.gz'")),
    Row("dataset.json without labels", compare(changed(labels=None)), said("has the labels None")),
    Row(
        "dataset.json labels of version 1",
        compare(changed(labels={"0": "background", "1": "organ"})),
        said("the label '0' is 'background'"),
    ),  # fmt: skip
    Row(
        "dataset.json label nan",
        compare(changed(labels={"background": 0, "a": float("nan")})),
        said("the label 'a' is nan", "expected an integer"),
    ),
    Row("dataset.json labels a list", compare(changed(labels=["background"])), said("has the labels ['background']")),
    Row("dataset.json label of words", compare(changed(labels={"background": 0, "a": "one"})), said("'a' is 'one'")),
    Row("dataset.json label negative", compare(changed(labels={"background": 0, "a": -1})), said("'a' is -1")),
    Row("dataset.json label half", compare(changed(labels={"background": 0, "a": 1.5})), said("'a' is 1.5")),
    Row("dataset.json label empty", compare(changed(labels={"background": 0, "a": []})), said("'a' is []")),
    # ---- plans
    Row("plans missing", plan(removed(f"{PREPROCESSED}/nnUNetPlans.json")), said("nnUNetv2_plan_and_preprocess")),
    Row("plans of another name", plan(nothing, "-p", "myPlans"), said("myPlans.json", "-p")),
    Row("plans cut", plan(lambda p: p.write(f"{PREPROCESSED}/nnUNetPlans.json", '{"a": ')), said("no valid JSON")),
    Row("plans empty", plan(lambda p: p.write(f"{PREPROCESSED}/nnUNetPlans.json", "{}")), said("nnUNetPlans.json")),
    Row("plans a list", plan(lambda p: p.write(f"{PREPROCESSED}/nnUNetPlans.json", "[]")), said("nnUNetPlans.json")),
    Row("plans without 3d_fullres", plan(plans_json(lambda c: c["configurations"].clear())), said("3d_fullres")),
    # ---- compare
    Row("prediction is text", compare(prediction(b"no image")), said(f"{VALIDATION}/{CASES[0]}.nii.gz cannot be read")),
    Row("prediction empty", compare(prediction(b"")), said(f"{CASES[0]}.nii.gz")),
    Row(
        "prediction of another shape",
        compare(prediction(array=np.ones((7, 40, 47), np.uint8))),
        said("has shape (7, 40, 47)", "(7, 40, 48)"),
    ),  # fmt: skip
    Row("prediction of probabilities", compare(prediction(array=np.full(SHAPE, 0.25, np.float32))), said("0.25")),
    Row(
        "truth missing",
        compare(removed(f"{PREPROCESSED}/gt_segmentations/{CASES[1]}.nii.gz")),
        said(f"{CASES[1]}.nii.gz does not exist"),
    ),  # fmt: skip
    Row(
        "truth of another shape",
        compare(lambda p: p.image(f"{PREPROCESSED}/gt_segmentations/{CASES[0]}.nii.gz", np.ones((3, 4, 5), np.uint8))),
        said("(3, 4, 5)"),
    ),  # fmt: skip
    Row("truth folder missing", compare(nothing, "--gt", "nowhere"), said("nowhere")),
    Row("predictions missing", compare(nothing, "-m", "a=nowhere"), said("nowhere holds no predictions")),
    Row("predictions elsewhere", compare(foreign(origin=(30, 0, 0)), "-m", "a=theirs"), said("30.00 mm (60.0 voxels)")),
    Row(
        "predictions of another spacing",
        compare(foreign(spacing=(1, 1, 1)), "-m", "a=theirs"),
        said("spacing", "apart"),
    ),
    Row(
        "no case in common",
        compare(lambda p: p.mask("theirs/other.nii.gz"), "-m", UNET, "a=theirs"),
        said("no case was predicted by all methods"),
    ),  # fmt: skip
    Row("method unknown", compare(nothing, "-m", "A__B__C"), said("A__B__C does not exist")),
    Row("method twice", compare(nothing, "-m", UNET, UNET), said("was given twice")),
    Row("fold that is none", compare(nothing, "-f", "3"), said("fold 3")),
    # ---- prompt-benchmark, loop, splits
    Row(
        "folds cut",
        prompts(lambda p: p.write(f"{PREPROCESSED}/splits_final.json", "[{")),
        said("splits_final.json is no valid JSON"),
    ),  # fmt: skip
    Row("folds missing", prompts(removed(f"{PREPROCESSED}/splits_final.json")), said("splits_final.json", "-f all")),
    Row(
        "folds of something else",
        prompts(lambda p: p.write(f"{PREPROCESSED}/splits_final.json", {"a": 1})),
        said("splits_final.json"),
    ),  # fmt: skip
    Row(
        "fold without cases",
        prompts(lambda p: p.write(f"{PREPROCESSED}/splits_final.json", [{"train": [], "val": []}])),
        said("fold 0 has no cases"),
    ),  # fmt: skip
    Row("image missing", prompts(removed(f"nnUNet_raw/{DATASET}/imagesTr/{CASES[0]}_0000.nii.gz")), said(CASES[0])),
    Row(
        "truth of another size",
        prompts(lambda p: p.image(f"nnUNet_raw/{DATASET}/labelsTr/{CASES[0]}.nii.gz", np.ones((3, 4, 5), np.uint8))),
        said("cannot be prompted"),
    ),  # fmt: skip
    Row("rank an image that is missing", rank(line('none_0000.nii.gz,box,"3,1,1:3,9,9",1')), said("there is no image")),
    Row(
        "rank an object of no label", rank(line('new_1_0000.nii.gz,box,"3,1,1:3,9,9",2')), said("object 2", "1 (organ)")
    ),
    Row(
        "rank two boxes",
        rank(line('new_1_0000.nii.gz,box,"3,1,1:3,9,9",1\nnew_1_0000.nii.gz,box,"3,1,1:3,8,8",1')),
        said("two boxes"),
    ),  # fmt: skip
    Row(
        "rank a training case",
        rank(lambda p: p.image(f"{CASES[0]}_0000.nii.gz") and line(f'{CASES[0]}_0000.nii.gz,box,"3,1,1:3,9,9",1')(p)),
        said("training case", CASES[0]),
    ),  # fmt: skip
    Row("rank for two channels", rank(changed(channel_names={"0": "T1", "1": "T2"})), said("2 channels")),
    Row(
        "rank for regions",
        rank(changed(labels={"background": 0, "a": [1, 2], "b": [2]}, regions_class_order=[1, 2])),
        said("regions"),
    ),  # fmt: skip
    Row(
        "annotations of something else",
        after(
            lambda p: p.write(f"nnUNet_raw/{DATASET}/annotations.csv", "a,b\n1,2\n"),
            "splits",
            "-d",
            "301",
            "--group-by",
            r"(case_\d+)",
            "--force",
        ),
        said("annotations.csv has the column 'a'"),
    ),  # fmt: skip
    # ---- predict
    Row("model without plans", after(nothing, "predict", "-m", ".", "-i", ".", "-o", "out"), said("has no plans.json")),
    Row(
        "model of a dataset that is not trained",
        after(nothing, "predict", "-d", "301", "-i", ".", "-o", "out"),
        said("has no plans.json", "-tr"),
    ),  # fmt: skip
]


def predict(dataset: Any, *images: str):
    """``predict`` with a model of which dataset.json and the images are looked at."""

    def make(place: Place):
        place.write("model/plans.json", {"dataset_name": "D", "plans_name": "P", "configurations": {}})
        place.write("model/dataset.json", dataset)
        place.write("model/fold_0/checkpoint_final.pth", b"not looked at")
        for image in images:
            place.image(f"images/{image}")
        (place.folder / "images").mkdir(exist_ok=True)
        return ["predict", "-m", "model", "-i", "images", "-o", "out", "-device", "cpu"]

    return make


ONE = {"file_ending": ".nii.gz", "labels": {"background": 0, "organ": 1}}
TWO = {**ONE, "channel_names": {"0": "T1", "1": "T2"}}
ROWS += [
    Row("predict no images", predict(TWO), said("images holds no image CASE_0000.nii.gz")),
    Row("predict other names", predict(TWO, "a.nii.gz"), said("holds no image CASE_0000.nii.gz")),
    Row("predict another format", predict(TWO, "a_0000.nrrd"), said("holds no image CASE_0000.nii.gz")),
    Row("predict one channel of two", predict(TWO, "a_0000.nii.gz"), said("the case a in images", "2 channels")),
    Row("predict a gap in channels", predict(TWO, "a_0000.nii.gz", "a_0002.nii.gz"), said("a_0002.nii.gz")),
    Row("predict a damaged dataset.json", predict("{", "a_0000.nii.gz"), said("model/dataset.json is no valid JSON")),
    Row("predict a code checkpoint", predict(ONE, "a_0000.nii.gz"), said("checkpoint_final.pth")),
]


def benchmark(text: str | bytes, *words: str):
    """``benchmark --dry-run`` of a YAML file."""

    def make(place: Place):
        place.preprocessed()
        for case in CASES:
            place.write(f"{PREPROCESSED}/nnUNetPlans_3d_fullres/{case}.b2nd", "not looked at")
            place.write(f"{PREPROCESSED}/nnUNetPlans_3d_fullres/{case}_seg.b2nd", "not looked at")
        place.write("table.yaml", text)
        return ["experiment", "table.yaml", "--devices", "cpu", "--dry-run", *words]

    return make


def yaml(**changes: Any) -> str:
    content = {
        "name": "table",
        "datasets": [301],
        "folds": [0],
        "methods": [{"trainer": "nnUNetTrainer", "configuration": "3d_fullres"}],
        **changes,
    }
    return json.dumps({key: value for key, value in content.items() if value is not None})


METHOD = {"trainer": "nnUNetTrainer", "configuration": "3d_fullres"}
ROWS += [
    Row("yaml missing", lambda p: ["experiment", "no.yaml"], said("there is no file no.yaml")),
    Row("yaml is a folder", lambda p: ["experiment", "."], said("there is no file .")),
    Row("yaml empty", benchmark(""), said("table.yaml holds None")),
    Row("yaml open bracket", benchmark("name: [a"), said("table.yaml is not valid YAML")),
    Row("yaml tabs", benchmark("name:\n\t- a"), said("is not valid YAML")),
    Row("yaml of bytes", benchmark(b"\x80\x81\x82"), said("is not valid YAML")),
    Row("yaml in utf-16 with a typo", benchmark('{"nmae": 1}'.encode("utf-16")), said("'nmae'", "did you mean name?")),
    Row("yaml key twice", benchmark("name: a\nname: b\n"), said("'name' is there twice")),
    Row("yaml code", benchmark("name: !!python/object/apply:os.system ['echo']\n"), said("is not valid YAML")),
    Row("yaml lacks methods", benchmark(yaml(methods=None)), said("has no methods")),
    Row("yaml no methods", benchmark(yaml(methods=[])), said("methods is []")),
    Row(
        "yaml method without a trainer", benchmark(yaml(methods=[{"configuration": "3d"}])), said("method 1", "trainer")
    ),
    Row("yaml method a word", benchmark(yaml(methods=["nnUNetTrainer"])), said("methods is ['nnUNetTrainer']")),
    Row("yaml method twice", benchmark(yaml(methods=[METHOD, METHOD])), said("methods twice")),
    Row("yaml name a path", benchmark(yaml(name="../a")), said("name is '../a'")),
    Row("yaml folds of words", benchmark(yaml(folds=["all"])), said("folds is ['all']")),
    Row("yaml folds a number", benchmark(yaml(folds=0)), said("folds is 0")),
    Row("yaml fold twice", benchmark(yaml(folds=[0, 0])), said("0 is in folds twice")),
    Row("yaml seed negative", benchmark(yaml(seeds=[-1])), said("the seed -1")),
    Row("yaml reference unknown", benchmark(yaml(reference="me")), said("reference is 'me'")),
    Row("yaml dataset unknown", benchmark(yaml(datasets=[999])), said("999")),
    Row("yaml fold out of range", benchmark(yaml(folds=[9])), said("9")),
    Row("yaml time", benchmark(yaml(), "--time", "soon"), said("--time 'soon'")),
    Row("yaml memory", benchmark(yaml(), "--mem", "0"), said("--mem 0")),
    Row("yaml partition", benchmark(yaml(), "--partition", "a b"), said("--partition 'a b'")),
]
