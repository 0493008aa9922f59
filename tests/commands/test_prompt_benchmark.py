"""Refusals, warnings and files of ``sam2_3dmed prompt-benchmark``; its measurements are in prompt_evaluation."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive.intensities import CT, ShownAs
from nnunetv2_sam2_3dmed.interactive.trained_model import PROMPTED
from nnunetv2_sam2_3dmed.network.promptable_sam2 import build_promptable_sam2
from nnunetv2_sam2_3dmed.prompt_evaluation.benchmark import PromptBenchmark
from tests.interactive.reference import make_lively, phantom

DATASET = "Dataset301_Tiny"
SHAPE = (3, 40, 48)
SPLITS = [{"train": ["b", "c"], "val": ["a"]}, {"train": ["a"], "val": ["b", "c"]}]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """nnU-Net's, with a dataset that has no cases."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name / DATASET).mkdir(parents=True)
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.setattr("nnunetv2_sam2_3dmed.nnunet.folders.dataset_name", lambda _: DATASET)
    dataset = {"labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}}
    (tmp_path / "raw" / DATASET / "dataset.json").write_text(json.dumps(dataset))
    return tmp_path


@pytest.fixture
def run(folders, capsys):
    """Run the command; return its status and its stderr."""

    def run(*words: str) -> tuple[int, str]:
        status = main(["prompt-benchmark", "-d", "301", "-o", str(folders / "out"), "-device", "cpu", *words])
        return status, capsys.readouterr().err

    return run


@pytest.fixture
def dataset(folders):
    """Three cases with an organ each; returns the folder of the truths."""
    raw = folders / "raw" / DATASET
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1, 8:28, 10:32] = 1
    for name in "abc":
        for folder, ending, array in (("imagesTr", "_0000", phantom(SHAPE)), ("labelsTr", "", labels)):
            (raw / folder).mkdir(exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(raw / folder / f"{name}{ending}.nii.gz"))
    (folders / "preprocessed" / DATASET / "splits_final.json").write_text(json.dumps(SPLITS))
    return raw / "labelsTr"


@pytest.fixture
def checkpoint(folders) -> str:
    """Checkpoint of nnU-Net, trained on fold 0 of the dataset."""
    torch.manual_seed(3)
    arguments = {"backbone": "sam2.1_hiera_tiny", "image_size": 64, "dropout": 0.0}
    network = build_promptable_sam2(**arguments)
    make_lively(network)
    content = {
        "network_weights": network.state_dict(),
        "init_args": {
            "plans": {"dataset_name": DATASET},
            "fold": 0,
            PROMPTED: {"network": arguments, "shown_as": ShownAs(CT, -3.0, 3.0, 500.0, 200.0, 0).for_checkpoint()},
        },
    }
    torch.save(content, folders / "checkpoint_final.pth")
    return str(folders / "checkpoint_final.pth")


def test_folds_and_cases(run, folders):
    assert "train a model, which makes nnU-Net draw folds, or give `-f all`" in run()[1]
    (folders / "preprocessed" / DATASET / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))
    assert "the fold is '1', but must be one from 0 to 0, or all" in run("-f", "1")[1]
    assert "c is none of the 1 cases of fold 0" in run("--cases", "c")[1]
    status, said = run("--clicks", "0")
    assert status == 2 and "--clicks is 0" in said


def test_every_option_reaches_the_benchmark(run, dataset, folders, monkeypatch):
    asked = {}

    class Session:
        def __init__(self, *words):
            asked["session"] = words
            self.image_size, self.device = words[-1], words[1]

    def recording(self, cases, protocols, folder, progress, earlier, keep):
        asked.update(cases=cases, protocols=[protocol.name for protocol in protocols], benchmark=self)
        raise UserError("enough")

    monkeypatch.setattr("nnunetv2_sam2_3dmed.interactive.InteractiveSession", Session)
    monkeypatch.setattr(PromptBenchmark, "run", recording)
    for case in "abc":  # another channel
        image = dataset.parent / "imagesTr" / f"{case}_0000.nii.gz"
        image.with_name(f"{case}_0001.nii.gz").write_bytes(image.read_bytes())
    (folders / "m.pt").write_bytes(b"weights")
    model = str(folders / "m.pt")
    status, said = run(
        *("-f", "1", "--cases", "c", "--protocols", "clicks", "boxes", "--clicks", "3", "--channel", "1"),
        *("--axis", "2", "--tolerance", "1.5", "--seed", "4", "--model", model, "--image-size", "96"),
        *("--precision", "float32"),
    )
    assert status == 2 and "enough" in said
    assert asked["session"] == (model, "cpu", "float32", 96)
    assert [(case.name, case.image.name, case.label.name) for case in asked["cases"]] == [
        ("c", "c_0001.nii.gz", "c.nii.gz")
    ]
    assert asked["protocols"] == ["3_clicks", "boxes"]
    benchmark = asked["benchmark"]
    assert (benchmark.axis, benchmark.tolerance_mm, benchmark.seed) == (2, 1.5, 4)
    assert (benchmark.classes, benchmark.values, benchmark.ignore_label) == ({"organ": (1,)}, [1], None)
    used = {"axis": 2, "channel": 1, "tolerance_mm": 1.5, "seed": 4, "image_size": 96, "cases": ["c"]}
    assert used.items() <= benchmark.described.items()


def test_all_headers_are_checked_before_a_model_is_loaded(run, dataset):
    truth = sitk.ReadImage(str(dataset / "c.nii.gz"))
    sitk.WriteImage(truth[:-1], str(dataset / "c.nii.gz"))
    status, said = run("-f", "1", "--model", "missing.pt")
    assert status == 2 and "c cannot be prompted: c.nii.gz has (3, 40, 47) voxels" in said


def test_cases_of_the_training_are_told_and_runs_are_not_mixed(run, dataset, checkpoint, folders):
    moved = sitk.ReadImage(str(dataset / "a.nii.gz"))
    moved.SetOrigin((30.0, 0.0, 0.0))
    sitk.WriteImage(moved, str(dataset / "a.nii.gz"))
    box = ("--model", checkpoint, "--protocols", "box", "-f", "all", "--precision", "float32")
    status, said = run(*box)
    assert status == 0
    out = folders / "out"
    warned = "2 of these 3 cases (b, c) are not among the validation cases of fold 0"
    content = json.loads((out / "prompt_benchmark.json").read_text())
    assert f"warning: {warned}" in said and any(warning.startswith(warned) for warning in content["warnings"])
    assert f"**Warning:** {warned}" in (out / "prompt_benchmark.md").read_text()
    assert "the ground truth of a lies elsewhere than the image" in said
    assert sitk.ReadImage(str(out / "box" / "a.nii.gz")).GetOrigin() == (0.0, 0.0, 0.0)

    # as if it had been killed while it wrote the rows of c
    rows = (out / "per_case.csv").read_text()
    del content["encoding_seconds"]["c"]
    (out / "prompt_benchmark.json").write_text(json.dumps(content))
    status, said = run(*box)
    assert status == 0 and "1/3 a: measured before" in said and said.count("measured before") == 2
    again = (out / "per_case.csv").read_text()
    kept, new = ([row for row in csv.DictReader(text.splitlines())] for text in (rows, again))
    assert new[:-2] == kept[:-2] and [row["dice"] for row in new] == [row["dice"] for row in kept]

    for words, differs in ((["--seed", "1"], "seed 0 instead of 1"), (["--image-size", "96"], "image_size 64 instead")):
        status, said = run(*box, *words)
        assert status == 2 and differs in said
    assert (out / "per_case.csv").read_text() == again


def test_a_case_that_fails_is_left_out_whole_and_the_others_go_on(run, dataset, checkpoint, folders, monkeypatch):
    """The second case fails in its second protocol, when it has rows of the first."""
    scored, calls = PromptBenchmark._scored, []

    def failing(self, case, truth, found):
        calls.append(case.case.name)
        if case.case.name == "b" and calls.count("b") == 2:
            raise FloatingPointError("underflow")
        return scored(self, case, truth, found)

    monkeypatch.setattr(PromptBenchmark, "_scored", failing)
    words = ("--model", checkpoint, "--protocols", "box", "1_mask", "-f", "all", "--precision", "float32")
    status, said = run(*words)
    assert status == 2
    assert "2/3 b: left out, FloatingPointError: underflow (not foreseen" in said
    last = "1 of 3 cases were left out, for the reasons above: b; the same command tries them again."
    assert said.splitlines()[-1].endswith(last)
    out = folders / "out"
    for name in ("per_case.csv", "interactions.csv"):
        rows = list(csv.DictReader((out / name).read_text().splitlines()))
        assert {row["case"] for row in rows} == {"a", "c"}
    content = json.loads((out / "prompt_benchmark.json").read_text())
    assert list(content["failed_cases"]) == ["b"] and list(content["encoding_seconds"]) == ["a", "c"]
    assert (
        "**Left out**, for they failed: b (FloatingPointError: underflow" in (out / "prompt_benchmark.md").read_text()
    )
