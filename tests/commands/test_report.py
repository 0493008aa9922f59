"""The command on a small copy of nnU-Net's folder tree, with a network that predicts in a moment."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch

from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.report import measure, page
from nnunetv2_sam2_3dmed.report.costs import Measurement, build_model, cost_of, costs_section
from nnunetv2_sam2_3dmed.report.measure import device_name, predict_once
from nnunetv2_sam2_3dmed.report.methods import describe_methods

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

DATASET = "Dataset042_Blocks"
UNET = "nnUNetTrainer__nnUNetPlans__3d_fullres"
DATASET_JSON = {"labels": {"background": 0, "block": 1}, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}
CONFIGURATION = {
    "data_identifier": "x",
    "preprocessor_name": "DefaultPreprocessor",
    "batch_size": 2,
    "patch_size": [8, 8, 8],
    "median_image_size_in_voxels": [8, 12, 8],
    "spacing": [1.0, 1.0, 1.0],
    "normalization_schemes": ["ZScoreNormalization"],
    "use_mask_for_norm": [False],
    **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")},
    **{
        f"resampling_fn_{what}_kwargs": {"is_seg": what == "seg", "order": 1, "order_z": 0, "force_separate_z": None}
        for what in ("data", "seg", "probabilities")
    },
    "architecture": {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": [4, 8],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [2, 2, 2]],
            "n_conv_per_stage": [1, 1],
            "n_conv_per_stage_decoder": [1],
            "conv_bias": True,
        },
        "_kw_requires_import": ["conv_op"],
    },
}
PLANS = {
    "dataset_name": DATASET,
    "plans_name": "nnUNetPlans",
    "original_median_shape_after_transp": [8, 12, 8],
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {"0": {}},
    "configurations": {"3d_fullres": CONFIGURATION},
}


def write(file: Path, voxels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(file))


@pytest.fixture(scope="module")
def built_tree(tmp_path_factory) -> Path:
    """Three cases of fold 0: a U-Net's, always right, and a folder of predictions that lack a slice."""
    root = tmp_path_factory.mktemp("tree")
    preprocessed, results = root / "nnUNet_preprocessed" / DATASET, root / "nnUNet_results" / DATASET / UNET
    generator = np.random.default_rng(0)
    for i in range(3):
        gt = np.zeros((8, 10, 10), np.uint8)
        gt[2 : 5 + i, 3:8, 3:8] = 1
        other = gt.copy()
        other[2] = 0
        name = f"case_{i}.nii.gz"
        write(preprocessed / "gt_segmentations" / name, gt)
        write(results / "fold_0" / "validation" / name, gt)
        write(root / "others" / name, other)
        image = generator.normal(size=gt.shape).astype(np.float32)
        write(root / "nnUNet_raw" / DATASET / "imagesTr" / f"case_{i}_0000.nii.gz", image)
    for folder in (results, preprocessed):
        (folder / "dataset.json").write_text(json.dumps(DATASET_JSON))
    (results / "plans.json").write_text(json.dumps(PLANS))
    return root


@pytest.fixture
def tree(built_tree, tmp_path, monkeypatch) -> Path:
    """A copy of the tree."""
    shutil.copytree(built_tree, tmp_path, dirs_exist_ok=True)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


@pytest.fixture
def no_plots(monkeypatch) -> None:
    """Leaves out the plots, which take most of a report's time."""
    monkeypatch.setattr(page, "metric_plots", lambda *_: [])


def report(tree: Path, *arguments: str) -> str:
    methods = ["-m", UNET, f"others={tree / 'others'}"]
    assert main(["report", "-d", DATASET, *methods, "-o", str(tree / "out"), "--processes", "1", *arguments]) == 0
    return (tree / "out" / "report.html").read_text()


def test_the_report_lies_beside_the_comparison(tree, capsys):
    text = report(tree)
    assert capsys.readouterr().out.strip() == str(tree / "out" / "report.html")
    assert {"comparison.md", "per_case.csv", "report.html"} <= {f.name for f in (tree / "out").iterdir()}
    # the others lack one slice of 3, 4 and 5: Dice 2 s / (2 s + 1) with s = 2, 3, 4; the best is case_2
    for dice, why in ((8 / 9, "best"), (6 / 7, "median"), (4 / 5, "worst")):
        assert f"others {dice:.3f}" in text and f"{why} of others" in text
    assert text.count("data:image/png;base64,") == 3 + 3 * 3  # overlays; surfaces of the truth and two methods
    assert "others: only its predictions were given" in text
    assert "Time and memory were not measured" in text
    assert 'id="published"' not in text


def test_without_images(tree, no_plots):
    text = report(tree, "--no-images")
    assert "data:image" not in text and 'id="cases"' not in text


def test_the_reference_is_the_one_that_is_asked_for(tree, monkeypatch, no_plots):
    asked = []

    def measured(methods, case, channels, folder, say):
        asked.append(case)
        return {}

    monkeypatch.setattr(measure, "measure_missing", measured)
    text = " ".join(report(tree, "--no-images", "--reference", "others", "--measure").split())
    assert 'The reference is <span class="method">' in text and "&nbsp;others</span>." in text
    # its Dice is 4/5, 6/7 and 8/9
    assert asked == ["case_1"]


def test_images_that_are_not_there_are_said(tree, no_plots):
    for file in (tree / "nnUNet_raw" / DATASET / "imagesTr").iterdir():
        file.unlink()
    text = report(tree)
    # in the order in which they were chosen: the best of each method first
    assert "No image on the grid of its ground truth was found for case_0, case_2, case_1" in text
    assert text.count("data:image/png;base64,") == 3 * 3  # the surfaces need no image


def test_two_dimensions(tree, no_plots):
    for folder in (
        tree / "nnUNet_preprocessed" / DATASET / "gt_segmentations",
        tree / "nnUNet_results" / DATASET / UNET / "fold_0" / "validation",
        tree / "others",
        tree / "nnUNet_raw" / DATASET / "imagesTr",
    ):
        for file in list(folder.iterdir()):
            voxels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))
            write(file, voxels[3])
    text = report(tree)
    assert "The images have two dimensions: there are no surfaces." in text
    assert text.count("data:image/png;base64,") == len({"case_0", "case_1", "case_2"})


def checkpoint(tree: Path) -> Path:
    results = tree / "nnUNet_results" / DATASET / UNET
    file = results / "fold_0" / "checkpoint_final.pth"
    weights = build_model(results).network.state_dict()
    torch.save({"network_weights": weights, "inference_allowed_mirroring_axes": (0, 1)}, file)
    return file


def test_costs_of_a_u_net_by_formula(tree):
    results = tree / "nnUNet_results" / DATASET / UNET
    # weights and biases: two encoder convolutions (27 voxels), the transposed one (8), the decoder's, the head
    layers = [(1, 4, 27, 512), (4, 8, 27, 64), (8, 4, 8, 64), (8, 4, 27, 512), (4, 2, 1, 512)]
    cost = cost_of(results, checkpoint(tree))
    assert cost.parameters == sum(i * o * k + o for i, o, k, _ in layers)
    assert cost.gflop_patch == pytest.approx(sum(2 * i * o * k * v for i, o, k, v in layers) / 1e9)
    assert (cost.windows, cost.mirrorings) == (2, 4)  # 12 rows and patches of 8: at 0 and 4
    assert cost.gflop_volume == pytest.approx(8 * cost.gflop_patch)
    assert cost_of(results, None).gflop_volume is None


def test_one_case_is_measured_with_nnunets_predictor(tree):
    results = tree / "nnUNet_results" / DATASET / UNET
    image = tree / "nnUNet_raw" / DATASET / "imagesTr" / "case_1_0000.nii.gz"
    found = predict_once(results, checkpoint(tree), [str(image)], torch.device("cpu"))
    assert 0 < found["seconds"] < 60
    assert found["peak_bytes"] > 50e6  # torch alone needs more
    assert found["device"] == device_name(torch.device("cpu"))


@pytest.mark.parametrize(("threads", "processes", "used"), [(64, 8, 8), (2, 8, 2)])
def test_nnunets_predictor_takes_no_more_threads_than_processes(monkeypatch, threads, processes, used):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(measure, "default_num_processes", processes)
    assert device_name(torch.device("cpu")).startswith(f"{used} CPU threads (")


def test_measurements_are_made_in_a_process_of_their_own(tree):
    results, file, said = tree / "nnUNet_results" / DATASET / UNET, checkpoint(tree), []
    image = tree / "nnUNet_raw" / DATASET / "imagesTr" / "case_1_0000.nii.gz"
    found = measure._measure(results, file, "case_1", [image], said.append)
    assert said == []
    assert (found.case, found.checkpoint, found.modified) == ("case_1", str(file), file.stat().st_mtime)
    assert 0 < found.seconds < 60 and found.peak_bytes > 0 and found.device


def test_measurements_are_kept_until_the_checkpoint_changes(tree, no_plots, monkeypatch):
    file, asked = checkpoint(tree), []

    def measured(results_folder, checkpoint, case, channels, say):
        asked.append((results_folder.name, case, [c.name for c in channels]))
        return Measurement(case, str(checkpoint), checkpoint.stat().st_mtime, 12.34, 3 * 2**30, "2 CPU threads (x)")

    monkeypatch.setattr(measure, "_measure", measured)
    monkeypatch.setattr(measure, "device_name", lambda _: "2 CPU threads (x)")
    text = report(tree, "--measure", "--no-images")
    # the reference is right everywhere: its median case is the middle one by name
    assert asked == [(UNET, "case_1", ["case_1_0000.nii.gz"])]
    assert ">12.3<" in text and ">3.00<" in text and "case_1 on 2 CPU threads (x)" in text
    report(tree, "--measure", "--no-images")
    assert len(asked) == 1
    assert ">12.3<" in report(tree, "--no-images")
    stored = json.loads((tree / "out" / "cost.json").read_text())
    assert stored == {UNET: asdict(measured(tree / UNET, file, "case_1", [], print))}
    asked.clear()
    torch.save({**torch.load(file, weights_only=True), "more": 1}, file)
    os.utime(file, (1, 1))
    assert ">12.3<" not in report(tree, "--no-images")
    report(tree, "--measure", "--no-images")
    assert len(asked) == 1


def test_another_device_is_measured_anew(tree, monkeypatch):
    checkpoint(tree)
    folds = [tree / "nnUNet_results" / DATASET / UNET / "fold_0" / "validation"]
    methods, device = describe_methods({UNET: folds}), "a GPU"

    def measured(results_folder, checkpoint, case, channels, say):
        return Measurement(case, str(checkpoint), checkpoint.stat().st_mtime, 12.34, 1, device)

    monkeypatch.setattr(measure, "_measure", measured)
    monkeypatch.setattr(measure, "device_name", lambda _: device)
    for device in ("a GPU", "2 CPU threads (x)"):
        found = measure.measure_missing(methods, "case_1", [], tree, print)
        assert found[UNET].device == device
    row = costs_section(methods, found).table.rows[0]
    assert (row[-2].text, row[-2].detail) == ("12.3", "on 2 CPU threads (x)")


def test_a_damaged_cost_file_is_measured_anew(tmp_path):
    (tmp_path / "cost.json").write_text("{")
    assert measure.stored(tmp_path) == {}
    (tmp_path / "cost.json").write_text('{"x": {"unknown": 1}}')
    assert measure.stored(tmp_path) == {}


def test_methods_without_checkpoints_are_not_measured(tree):
    methods = describe_methods({UNET: [tree / "nnUNet_results" / DATASET / UNET / "fold_0" / "validation"]})
    assert measure.measure_missing(methods, "case_1", [], tree, print) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["-d", "43"], "dataset '43' is not known"), (["-d", DATASET, "-m", "x=nowhere"], "nowhere holds no predictions")],
)
def test_mistakes_are_said_in_a_sentence(tree, capsys, arguments, message):
    assert main(["report", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sam2_3dmed report: ") and message in error
