"""The command and the function behind it, on a small copy of nnU-Net's folder tree."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.evaluation.compare import compare
from nnunetv2_sam2_3dmed.evaluation.scores import FOREGROUND
from tests.conftest import write_label_map

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

DATASET = "Dataset042_Blocks"
UNET, OURS = "nnUNetTrainer__nnUNetPlans__3d_fullres", "SAM2_3dMedTrainer__nnUNetPlans__3d"
DATASET_JSON = {
    "labels": {"background": 0, "block": 1},
    "channel_names": {"0": "CT"},
    "numTraining": 7,
    "file_ending": ".nii.gz",
}


@pytest.fixture(scope="module")
def built_tree(tmp_path_factory) -> Path:
    """Seven cases in folds 0 and 1; the U-Net is always right, ours misses one slice, and case_6 entirely."""
    root = tmp_path_factory.mktemp("tree")
    (root / "nnUNet_raw").mkdir()
    preprocessed = root / "nnUNet_preprocessed" / DATASET
    results = root / "nnUNet_results" / DATASET
    for i in range(7):
        gt = np.zeros((8, 6, 6))
        gt[1 : 3 + i % 5, 1:5, 1:5] = 1  # 2 to 6 slices
        ours = gt.copy()
        ours[1 if i < 6 else slice(None)] = 0
        fold, name = f"fold_{i % 2}", f"case_{i}.nii.gz"
        write_label_map(preprocessed / "gt_segmentations" / name, gt, (3, 1, 1))
        write_label_map(results / UNET / fold / "validation" / name, gt, (3, 1, 1))
        write_label_map(results / OURS / fold / "validation" / name, ours, (3, 1, 1))
    for method, fold in itertools.product((UNET, OURS), ("fold_0", "fold_1")):
        (results / method / fold / "validation" / "summary.json").write_text('{"metric_per_case": []}')
    (preprocessed / "dataset.json").write_text(json.dumps(DATASET_JSON))
    return root


@pytest.fixture
def tree(built_tree, tmp_path, monkeypatch) -> Path:
    """A copy of the tree."""
    shutil.copytree(built_tree, tmp_path, dirs_exist_ok=True)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def digests(folder: Path) -> dict[Path, str]:
    return {f: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.rglob("*") if f.is_file()}


def test_the_command_compares_all_validated_models(tree, capsys):
    # not part of a comparison on folds 0 and 1: a model that was trained on fold 0 alone, and one under validation
    for name, folds in (("Other__nnUNetPlans__2d", ["fold_0"]), ("Under__nnUNetPlans__way", ["fold_0", "fold_1"])):
        for fold in folds:
            (tree / "nnUNet_results" / DATASET / name / fold / "validation").mkdir(parents=True)
    (tree / "nnUNet_results" / DATASET / "Other__nnUNetPlans__2d/fold_0/validation/summary.json").write_text("{}")
    before = digests(tree)
    assert main(["compare", "-d", "42", "-f", "0", "1", "--tolerance", "2.5", "--processes", "1"]) == 0

    output = tree / "nnUNet_results" / DATASET / "comparison_fold_0_1"
    after = digests(tree)
    assert {f.name for f in after.keys() - before.keys()} == {
        "per_case.csv",
        "summary.csv",
        "comparison.json",
        "comparison.md",
        "comparison.tex",
    } | {f.name for f in (output / ".cache").iterdir()}
    # one for each pair of contents: the U-Net's are 5, since cases 5 and 6 are 0 and 1 again, and ours 6
    assert len(list((output / ".cache").iterdir())) == 5 + 6
    assert {f: after[f] for f in before} == before

    content = json.loads((output / "comparison.json").read_text())
    assert list(content["methods"]) == [UNET, OURS]  # nnU-Net's own trainer is the reference
    assert content["cases"] == [f"case_{i}" for i in range(7)]
    assert (content["nsd_tolerance_mm"], content["nsd_tolerance_source"]) == (2.5, "as asked for")
    assert content["warnings"] == []
    assert [(check["method"], check["n"]) for check in content["nnunet_summary_checks"]] == [(UNET, 0), (OURS, 0)]
    assert {"nnunetv2", "surface-distance", "numpy", "nnunetv2-sam2-3dmed", "python"} <= set(content["versions"])
    assert content["machine"]["cpu_count"] >= 1
    rows = {(r["class_name"], r["method"]): r for r in content["results"]}
    ones = dict.fromkeys(("mean", "median", "low", "high", "q1", "q3"), 1)
    assert rows["block", UNET]["dice"] == {**ones, "std": 0, "n": 7}
    # slices: 2 3 4 5 6 2, of which one is missed, and 3, of which all are: Dice = 2 (s - 1) / (2 s - 1)
    dice = [2 * (s - 1) / (2 * s - 1) for s in (2, 3, 4, 5, 6, 2)] + [0]
    assert rows["block", OURS]["dice"]["mean"] == pytest.approx(sum(dice) / 7)
    assert rows["block", OURS]["hd95_mm"]["mean"] == pytest.approx(3)  # the missed slice is 3 mm thick
    assert (rows["block", OURS]["hd95_mm"]["n"], rows["block", OURS]["failures"]) == (6, 1)
    # seven pairs, all to one side; two tests
    assert [t["metric"] for t in content["paired_tests"]] == ["Dice", "NSD"]
    assert all(t["method"] == OURS and t["mean_difference"] < 0 for t in content["paired_tests"])

    with (output / "per_case.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 14
    assert {"method": OURS, "case": "case_6", "class": "block", "hd95_mm": ""}.items() <= lines[-1].items()
    assert [float(line["dice"]) for line in lines[7:]] == pytest.approx(dice)

    # of the cases above, fold_0 has those with an even number
    spreads = {(s["class_name"], s["method"]): s for s in content["folds"]}
    means = [sum(dice[0::2]) / 4, sum(dice[1::2]) / 3]
    spread = spreads["block", OURS]
    assert [(f["fold"], f["n"]) for f in spread["folds"]] == [("fold_0", 4), ("fold_1", 3)]
    assert [f["means"]["dice"] for f in spread["folds"]] == pytest.approx(means)
    assert spread["mean"]["dice"] == pytest.approx(sum(means) / 2)
    assert spread["std"]["dice"] == pytest.approx(abs(means[0] - means[1]) / 2**0.5)
    with (output / "summary.csv").open(newline="") as file:
        lines = {(line["method"], line["class"], line["metric"]): line for line in csv.DictReader(file)}
    line = lines[OURS, "block", "dice"]
    assert float(line["mean"]) == pytest.approx(sum(dice) / 7)
    assert (line["n"], line["failures"], line["folds"]) == ("7", "1", "2")
    assert float(line["fold_mean"]) == pytest.approx(sum(means) / 2)
    assert lines[OURS, "block", "hd95_mm"]["n"] == "6"

    report = (output / "comparison.md").read_text()
    assert capsys.readouterr().out.strip() == report.strip()
    assert "NSD at 2.5 mm (as asked for)" in report
    assert f"{means[0]:.3f}" in report and f"{means[1]:.3f}" in report
    assert "7 cases that every method has were compared." in report


def test_folders_of_predictions_and_another_truth(tree, capsys, write_labels):
    results = tree / "nnUNet_results" / DATASET
    arguments = ["-m", UNET, f"mine={results / OURS / 'fold_0' / 'validation'}"]
    truth = ["--gt", str(tree / "nnUNet_preprocessed" / DATASET / "gt_segmentations")]
    (results / OURS / "fold_0" / "validation" / "case_2.nii.gz").unlink()
    output = tree / "out"
    arguments += ["-o", str(output), "--processes", "1", "--reference", "mine"]
    assert main(["compare", "-d", DATASET, *arguments, *truth]) == 0
    content = json.loads((output / "comparison.json").read_text())
    assert list(content["methods"]) == [UNET, "mine"]
    assert content["cases"] == ["case_0", "case_4", "case_6"]
    assert content["cases_missing"] == {UNET: [], "mine": ["case_2"]}
    assert [(t["metric"], t["method"], t["reference"]) for t in content["paired_tests"]] == [
        ("Dice", UNET, "mine"),
        ("NSD", UNET, "mine"),
    ]
    printed = capsys.readouterr().out
    assert "Left out: 1 (mine lacks 1)." in printed
    assert "n/a (n=3)" in printed


def test_folders_of_one_name_are_pooled_and_called_folds(tree, capsys):
    results = tree / "nnUNet_results" / DATASET / OURS
    arguments = [f"mine={results / fold / 'validation'}" for fold in ("fold_0", "fold_1")]
    output = tree / "out"
    assert main(["compare", "-d", "42", "-m", *arguments, "-o", str(output), "--processes", "1"]) == 0
    content = json.loads((output / "comparison.json").read_text())
    assert len(content["cases"]) == 7
    assert [f["fold"] for f in content["folds"][0]["folds"]] == ["fold_0", "fold_1"]
    assert "| all 2 " in capsys.readouterr().out


def test_the_tolerance_follows_from_the_name_of_the_dataset(tree, tmp_path):
    arguments = {
        "methods": {OURS: [tree / "nnUNet_results" / DATASET / OURS / "fold_1" / "validation"]},
        "gt_folder": tree / "nnUNet_preprocessed" / DATASET / "gt_segmentations",
        "dataset_json": DATASET_JSON,
        "output_folder": tmp_path / "out",
        "processes": 1,
        "progress": False,
    }
    # the slice that ours misses lies 3 mm from the next
    other, spleen = compare(**arguments), compare(**arguments, dataset_name="Dataset009_Spleen")
    assert (other.tolerance_mm, spleen.tolerance_mm) == (2, 3)
    assert other.row(OURS).nsd.mean < 1
    assert spleen.row(OURS).nsd.mean == 1
    assert (
        "NSD at 3 mm (the Medical Segmentation Decathlon's for Spleen"
        in (tmp_path / "out" / "comparison.md").read_text()
    )


def test_the_second_run_reads_no_image_and_writes_the_same(tree, monkeypatch, capsys):
    command = ["compare", "-d", "42", "-f", "0", "1", "--processes", "1"]
    assert main(command) == 0
    output = tree / "nnUNet_results" / DATASET / "comparison_fold_0_1"
    before = digests(output)

    def read(file, reader):
        raise AssertionError(f"{file} was read")

    monkeypatch.setattr("nnunetv2_sam2_3dmed.evaluation.cases.read_segmentation", read)
    assert main(command) == 0
    assert digests(output) == before


def test_an_old_summary_of_nnunet_is_warned_of_and_left_alone(tree, capsys):
    folder = tree / "nnUNet_results" / DATASET / OURS / "fold_0" / "validation"
    metrics = {"1": {"Dice": 0.5, "IoU": 1 / 3}}  # 2 (s - 1) / (2 s - 1) of s = 2 slices is 2 / 3
    entry = {"prediction_file": "/elsewhere/case_0.nii.gz", "reference_file": "", "metrics": metrics}
    (folder / "summary.json").write_text(json.dumps({"metric_per_case": [entry]}))
    before = (folder / "summary.json").read_bytes()
    assert main(["compare", "-d", "42", "--processes", "1"]) == 0
    printed = capsys.readouterr().out
    assert f"**Warning:** Dice or IoU of 1 of 1 cases of {OURS} (such as case_0) differ by up to 0.17" in printed
    assert (folder / "summary.json").read_bytes() == before


def test_worker_processes_find_the_same(tree, tmp_path):
    results = tree / "nnUNet_results" / DATASET
    arguments = {
        "methods": {name: [results / name / "fold_1" / "validation"] for name in (OURS, UNET)},
        "gt_folder": tree / "nnUNet_preprocessed" / DATASET / "gt_segmentations",
        "dataset_json": DATASET_JSON,
        "progress": False,
    }
    serial = compare(**arguments, output_folder=tmp_path / "serial", processes=1, seconds={OURS: 12.5})
    parallel = compare(**arguments, output_folder=tmp_path / "parallel", processes=2)
    assert parallel.cases == ["case_1", "case_3", "case_5"]
    assert parallel.scores.equals(serial.scores)
    assert serial.row(OURS, FOREGROUND).seconds == 12.5
    assert "12.5" in (tmp_path / "serial" / "comparison.md").read_text()
    assert "seconds" not in (tmp_path / "parallel" / "comparison.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", "43"], "dataset '43' is not known"),
        (["-d", "Dataset043_Typo"], "dataset Dataset043_Typo has no dataset.json"),
        (["-d", "42", "-f", "4"], "holds no results folder TRAINER__PLANS__CONFIG with validation"),
        (
            ["-d", "42", "-m", UNET, "-f", "4"],
            "expected the validation predictions of fold 4: run nnUNetv2_train",
        ),
        (
            ["-d", "42", "-m", "nnUNetTrainer__nnUNetPlans__2d"],
            "nnUNetTrainer__nnUNetPlans__2d does not exist",
        ),
        (["-d", "42", "-m", UNET, UNET], f"method {UNET} was given twice"),
        (["-d", "42", "-m", "x=nowhere"], "nowhere holds no predictions"),
        (["-d", "42", "--tolerance", "-1"], "the NSD tolerance is -1.0 mm"),
        (["-d", "42", "-m", f"{UNET}=x", UNET], f"method {UNET} was given twice"),
        (
            ["-d", "42", "-o", "/dev/null/out"],
            "the output /dev/null/out cannot be written, since /dev/null is not a folder",
        ),
        (["-d", "42", "--reference", "other"], "the reference is 'other', expected one of the methods"),
        (["-d", "42", "--published"], "no published results of ConvolutionalEncoder for Dataset042_Blocks"),
        (["-d", "42", "--published", "ResidualEncoderL"], "no published results of ResidualEncoderL for Dataset042"),
        (["-d", "42", "--processes", "0"], "the number of processes is 0"),
    ],
)
def test_mistakes_are_said_in_a_sentence(tree, capsys, arguments, message):
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sam2_3dmed compare: ")
    assert message in error


@pytest.mark.parametrize(
    ("unset", "named"),
    [
        (["nnUNet_results"], "nnUNet_results is not set"),
        (["nnUNet_preprocessed"], "nnUNet_preprocessed is not set"),
        (["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"], "nnUNet_preprocessed is not set"),
    ],
)
def test_an_unset_folder_is_named(tree, capsys, monkeypatch, unset, named):
    (tree / "nnUNet_raw" / DATASET).mkdir()
    (tree / "nnUNet_raw" / DATASET / "dataset.json").write_text(json.dumps(DATASET_JSON))
    for variable in unset:
        monkeypatch.delenv(variable)
    assert main(["compare", "-d", "42"]) == 2
    assert f"the environment variable {named}" in capsys.readouterr().err


@pytest.mark.parametrize("method", [UNET, OURS, None], ids=["reference", "other", "truth"])
def test_half_a_file_is_not_scored(tree, capsys, method):
    folder = tree / "nnUNet_preprocessed" / DATASET / "gt_segmentations"
    if method is not None:
        folder = tree / "nnUNet_results" / DATASET / method / "fold_1" / "validation"
    file = folder / "case_3.nii.gz"
    file.write_bytes(file.read_bytes()[:-12])
    (folder / "._case_3.nii.gz").write_bytes(b"left by macOS")
    output = tree / "out"
    assert main(["compare", "-d", "42", "-f", "0", "1", "-o", str(output), "--processes", "1"]) == 2
    assert f"{file} is incomplete" in capsys.readouterr().err and not output.exists()
