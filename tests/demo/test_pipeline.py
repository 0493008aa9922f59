"""The demo as a whole: which commands it runs, and where."""

from __future__ import annotations

import argparse
import ast
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.commands import demo
from nnunetv2_sam2_3dmed.demo import run as demo_run
from nnunetv2_sam2_3dmed.demo.options import DemoOptions, training_cases
from nnunetv2_sam2_3dmed.demo.pipeline import child_environment, demo_steps
from nnunetv2_sam2_3dmed.demo.run import claim_folder, method_timings, run_demo, timing_table
from nnunetv2_sam2_3dmed.demo.steps import Step
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet.environment import trainers_folder


def commands(options: DemoOptions) -> dict[str, str]:
    return {step.name: " ".join(step.argv) for step in demo_steps(options, 24)}


@pytest.fixture
def options(tmp_path) -> DemoOptions:
    return DemoOptions(tmp_path / "out")


def test_the_commands_of_the_default_demo(options):
    truth = "--gt data/Task90_SyntheticCT/labelsTs"
    predictions = "-m nnU-Net=predictions/nnU-Net SAM2-3dMed=predictions/SAM2-3dMed"
    theirs, ours = "nnUNetTrainer_2minutes", "SAM2_3dMedTrainer_noPretrain_tuned_2minutes"
    images = "-f 0 -i nnUNet_raw/Dataset090_SyntheticCT/imagesTs"
    assert list(commands(options).values()) == [
        "python -m nnunetv2_sam2_3dmed.demo.synthetic data --test-cases 4 --cases 24",
        "nnUNetv2_convert_MSD_dataset -i data/Task90_SyntheticCT",
        "nnUNetv2_plan_and_preprocess -d 90 -c 3d_fullres -npfp 2 -np 2",
        "sam2_3dmed plan -d 90 --image-size 128 --slices 6 --batch-size 2",
        f"nnUNetv2_train 90 3d_fullres 0 -tr {theirs} -device cpu",
        f"nnUNetv2_train 90 3d 0 -tr {ours} -device cpu",
        f"nnUNetv2_predict -d 90 -c 3d_fullres -tr {theirs} {images} -o predictions/nnU-Net -device cpu",
        f"nnUNetv2_predict -d 90 -c 3d -tr {ours} {images} -o predictions/SAM2-3dMed -device cpu",
        f"sam2_3dmed compare -d 90 {truth} {predictions} -o comparison",
        "python -m nnunetv2_sam2_3dmed.demo.pictures --dataset nnUNet_raw/Dataset090_SyntheticCT "
        f"{truth} {predictions} -o pictures",
    ]


def test_a_real_task_keeps_its_number_and_name(options):
    chosen = commands(replace(options, data=Path("/data/Task04_Hippocampus"), held_out=2))
    assert chosen["data"].endswith("holdout data --data /data/Task04_Hippocampus --held-out 2 --cases 24")
    assert chosen["preprocess"].startswith("nnUNetv2_plan_and_preprocess -d 4 ")
    assert "-i nnUNet_raw/Dataset004_Hippocampus/imagesTs" in chosen["predict_nnU-Net"]


def test_minutes_and_device_change_plan_training_and_prediction_only(options):
    before, after = commands(options), commands(replace(options, minutes=8, device="cuda"))
    changed = {name for name in before if before[name] != after[name]}
    commanded = {f"{what}_{name}" for what in ("train", "predict") for name in ("nnU-Net", "SAM2-3dMed")}
    assert changed == {"plan", *commanded}
    assert after["plan"] == "sam2_3dmed plan -d 90", "a GPU takes the default plan"
    assert after["train_nnU-Net"] == "nnUNetv2_train 90 3d_fullres 0 -tr nnUNetTrainer_8minutes -device cuda"


def test_both_methods_have_a_trainer_for_every_choice_of_minutes(options):
    exported = set()
    for module in Path(trainers_folder()).glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            exported |= {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
    for minutes in demo.MINUTES:
        assert {method.trainer for method in replace(options, minutes=minutes).methods} <= exported


def test_only_trainings_are_resumed_and_they_start_clean(options):
    steps = {step.name: step for step in demo_steps(options, 24)}
    assert {name for name, step in steps.items() if step.resume} == {"train_nnU-Net", "train_SAM2-3dMed"}
    folder = "nnUNet_results/Dataset090_SyntheticCT/nnUNetTrainer_2minutes__nnUNetPlans__3d_fullres"
    assert steps["train_nnU-Net"].clears == (folder,)
    assert all(not Path(pattern).is_absolute() for step in steps.values() for pattern in step.clears)


def test_nnunets_folders_are_inside_the_output(tmp_path):
    environment = child_environment(tmp_path / "out")
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        assert Path(environment[name]).parent == tmp_path / "out"
    assert environment["nnUNet_extTrainer"] == trainers_folder()


def test_the_number_of_training_cases(options, tmp_path):
    assert training_cases(options) == 24
    assert training_cases(replace(options, cases=6)) == 6
    with pytest.raises(UserError, match="--cases 4"):
        training_cases(replace(options, cases=4))
    with pytest.raises(UserError, match="--held-out 0"):
        training_cases(replace(options, held_out=0))
    task = tmp_path / "Task09_Spleen"
    for kind in ("imagesTr", "labelsTr"):
        (task / kind).mkdir(parents=True)
        for number in range(11):
            (task / kind / f"{number}.nii.gz").touch()
    (task / "dataset.json").touch()
    assert training_cases(replace(options, data=task)) == 7


def test_a_folder_of_the_users_is_not_taken(tmp_path):
    (tmp_path / "nnUNet_raw").mkdir()
    with pytest.raises(UserError, match="not empty and not from an earlier demo"):
        claim_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["nnUNet_raw"]
    claim_folder(tmp_path / "new")
    (tmp_path / "new" / "pictures").mkdir()
    claim_folder(tmp_path / "new")  # an earlier demo's


@pytest.fixture
def short_demo(monkeypatch) -> None:
    """Replaces the trainings and predictions by commands that only print, and leaves out the rest."""

    def steps(options: DemoOptions, cases: int) -> list[Step]:
        return [
            replace(step, argv=("python", "-c", f"print({step.name!r})"), watch=None)
            for step in demo_steps(options, cases)
            if step.name.startswith(("train", "predict"))
        ]

    monkeypatch.setattr(demo_run, "demo_steps", steps)


def test_the_demo_ends_with_timings_and_next_steps(short_demo, options, capsys):
    before = dict(os.environ)
    run_demo(options)
    timings = json.loads((options.output / "timings.json").read_text())
    assert timings["device"] == "cpu"
    assert set(timings["methods"]) == {"nnU-Net", "SAM2-3dMed"}
    for method, row in timings["methods"].items():
        assert row["train_command_seconds"] == pytest.approx(timings["step_seconds"][f"train_{method}"], abs=0.01)
        assert row["predicted_cases"] == 4
    text = capsys.readouterr().out
    assert str(options.output / "pictures") in text
    assert "nnUNetv2_train 9 3d 0 -tr SAM2_3dMedTrainer" in text
    assert dict(os.environ) == before  # nnU-Net's variables are for the commands only


def test_an_interrupt_says_how_to_go_on(short_demo, options, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_run.StepRunner, "run", interrupt)
    with pytest.raises(UserError, match="the same command continues"):
        run_demo(options)


def test_timings_count_the_epochs_of_the_training_log(options):
    fold = options.output / options.methods[1].results("Dataset090_SyntheticCT") / "fold_0"
    fold.mkdir(parents=True)
    (fold / "training_log_1.txt").write_text("x: Epoch time: 40.5 s \nx: Epoch time: 30.0 s \n")
    seconds = {f"{what}_{name}": 200.0 for what in ("train", "predict") for name in ("nnU-Net", "SAM2-3dMed")}
    timings = method_timings(options, seconds)
    assert timings["SAM2-3dMed"]["epochs"] == 2 and timings["SAM2-3dMed"]["epochs_seconds"] == 70.5
    assert timings["nnU-Net"]["epochs"] == 0
    row = next(line for line in timing_table(timings).splitlines() if line.startswith("SAM2-3dMed"))
    assert row.split() == ["SAM2-3dMed", "70", "200", "200"]


def test_command_line_options_reach_the_demo(monkeypatch, tmp_path):
    chosen = []
    monkeypatch.setattr(demo_run, "run_demo", chosen.append)
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    argv = [
        "-o",
        str(tmp_path),
        "--minutes",
        "8",
        "-device",
        "cuda",
        "--cases",
        "9",
        "--held-out",
        "3",
        "--restart",
    ]
    demo.run(parser.parse_args(argv))
    assert chosen == [DemoOptions(tmp_path, None, 8, "cuda", 9, 3, True)]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    demo.run(parser.parse_args([]))
    assert chosen[1] == DemoOptions(Path("demo_output"), None, 2, "cpu", None, 4, False)
    with pytest.raises(SystemExit):
        parser.parse_args(["--minutes", "4"])
