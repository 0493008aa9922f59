"""The demo: its commands, what it repeats and removes when it is started again, and the experiment that it ends in."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.experiments import demo, one_run
from nnunetv2_sam2_3dmed.experiments.demo import (
    EXPERIMENT,
    PREPARED,
    DemoOptions,
    PreparationCommand,
    claim_folder,
    demo_environment,
    preparation,
    run_demo,
    run_preparation,
)
from nnunetv2_sam2_3dmed.experiments.specification import Method, read_specification
from nnunetv2_sam2_3dmed.locks import held
from nnunetv2_sam2_3dmed.nnunet.environment import trainers_folder


@pytest.fixture
def options(tmp_path) -> DemoOptions:
    return DemoOptions(tmp_path / "out")


def commands(options: DemoOptions, cases: int = 24) -> list[str]:
    return [" ".join(command.argv) for command in preparation(options, cases)]


def test_the_commands_of_the_default_demo(options):
    assert commands(options) == [
        "python -m nnunetv2_sam2_3dmed.experiments.demo_task data --cases 24",
        "nnUNetv2_convert_MSD_dataset -i data/Task90_SyntheticCT",
        "nnUNetv2_plan_and_preprocess -d 90 -c 3d_fullres -npfp 2 -np 2",
        "sam2_3dmed plan -d 90 --image-size 128 --slices 6 --batch-size 2",
    ]
    assert commands(replace(options, device="cuda"))[-1] == "sam2_3dmed plan -d 90", "a GPU takes the default plan"


def test_a_real_task_keeps_its_number_and_name(options):
    chosen = commands(replace(options, data=Path("/data/Task04_Hippocampus")), 7)
    assert chosen[0].endswith("demo_task data --data /data/Task04_Hippocampus --cases 7")
    assert chosen[1].endswith("-i data/Task04_Hippocampus")
    assert chosen[2].startswith("nnUNetv2_plan_and_preprocess -d 4 ")


def test_the_experiment_trains_both_methods_for_the_same_time_on_fold_0(tmp_path):
    (tmp_path / "demo.yaml").write_text(EXPERIMENT.format(number=90, minutes=13))
    specification = read_specification(tmp_path / "demo.yaml")
    assert (specification.datasets, specification.folds, specification.reference) == (("90",), (0,), None)
    assert specification.methods == (
        Method("nnUNetTrainer_13minutes", "3d_fullres", name="nnU-Net"),
        Method("SAM2_3dMedTrainer_noPretrain_tuned_13minutes", "3d", name="SAM2-3dMed"),
    )


def test_nnunets_folders_are_inside_the_output(tmp_path):
    environment = demo_environment(tmp_path / "out")
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        assert Path(environment[name]).parent == tmp_path / "out"
    assert environment["nnUNet_extTrainer"] == trainers_folder()


def test_a_folder_of_the_users_is_not_taken(tmp_path):
    (tmp_path / "nnUNet_raw").mkdir()
    with pytest.raises(UserError, match="not empty and not from an earlier demo"):
        claim_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["nnUNet_raw"]
    claim_folder(tmp_path / "new")
    (tmp_path / "new" / PREPARED).write_text('[["done"]]')
    claim_folder(tmp_path / "new")  # an earlier demo's
    assert json.loads((tmp_path / "new" / PREPARED).read_text()) == [["done"]]


WRITE = """
import os, pathlib, signal, sys, time
file = pathlib.Path(sys.argv[1], "file")
file.parent.mkdir()  # fails where something is left of an earlier attempt
file.write_text(sys.argv[2])
if sys.argv[2] == "fails":
    sys.exit("it fails on purpose")
if sys.argv[2] == "interrupted":
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)
"""


def command(folder: str, content: str) -> PreparationCommand:
    return PreparationCommand(f"make {folder}", ("python", "-S", "-c", WRITE, folder, content), (f"{folder}*",))


@pytest.fixture
def prepare_again(tmp_path):
    """Run the preparation with these contents of three folders and return the steps that were not done before."""
    claim_folder(tmp_path)

    def run(*contents: str) -> list[str]:
        said: list[str] = []
        commands = [command(f, c) for f, c in zip(("one", "two", "three"), contents)]
        with held(tmp_path / ".lock") as lock:
            run_preparation(commands, tmp_path, said.append, lock)
        return [text.split("\n")[1].split()[-1] for text, then in zip(said, said[1:]) if then.startswith("  done in")]

    return run


def test_what_is_done_is_not_done_again(prepare_again, tmp_path):
    assert prepare_again("1", "2", "3") == ["one", "two", "three"]
    assert prepare_again("1", "2", "3") == []
    # another command, and all that follow it, with what they had made removed
    assert prepare_again("1", "changed", "3") == ["two", "three"]
    assert [(tmp_path / folder / "file").read_text() for folder in ("one", "two", "three")] == ["1", "changed", "3"]
    assert prepare_again("1", "changed", "3") == []


def test_a_folder_of_a_demo_that_kept_its_state_otherwise_is_prepared_anew(prepare_again, tmp_path):
    (tmp_path / PREPARED).write_text('{"made_by": "sam2_3dmed demo"}')
    assert prepare_again("1", "2", "3") == ["one", "two", "three"]


def test_an_interruption_or_a_failure_starts_its_command_anew(prepare_again, tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        prepare_again("1", "interrupted", "3")
    with pytest.raises(UserError, match="two fails failed with exit status 1: see the end of its log .*_2.log"):
        prepare_again("1", "fails", "3")
    assert capsys.readouterr().err.rstrip().endswith("it fails on purpose")
    assert prepare_again("1", "2", "3") == ["two", "three"]


def test_new_plans_remove_what_was_trained_with_the_old_ones(options):
    made = [pattern for command in preparation(options, 24)[3:] for pattern in command.makes]
    assert made == ["nnUNet_results/Dataset090_*"]
    # nnU-Net's conversion refuses a number that any of its three folders knows
    assert set(preparation(options, 24)[1].makes) == {
        f"nnUNet_{folder}/Dataset090_*" for folder in ("raw", "preprocessed", "results")
    }


@pytest.fixture
def faked(monkeypatch):
    """The preparation and the experiment replaced by notes of what they were asked for."""
    seen: dict = {}

    class Experiment:
        runs = ()
        datasets = ("Dataset090_SyntheticCT",)

    def prepare(specification, output):
        seen.update(specification=specification, output=output, results=os.environ["nnUNet_results"])
        return Experiment()

    def run_experiment(experiment, devices):
        seen["devices"] = [device.name for device in devices]
        if seen.get("complete", True):
            report = seen["output"] / Experiment.datasets[0] / "report.html"
            report.parent.mkdir(parents=True)
            report.touch()
        return seen.get("complete", True)

    monkeypatch.setattr(demo, "run_preparation", lambda commands, *_: seen.update(commands=commands))
    monkeypatch.setattr(demo, "prepare", prepare)
    monkeypatch.setattr(demo, "run_experiment", run_experiment)
    for name in demo_environment(Path("any")):
        monkeypatch.setenv(name, "before")  # put back afterwards
    return seen


def test_options_reach_the_commands_and_the_experiment(faked, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["demo", "-o", str(output), "--minutes", "3", "-device", "cpu", "--cases", "7"]) == 0
    assert faked["commands"][0].argv[-2:] == ("--cases", "7")
    assert [m.trainer for m in faked["specification"].methods] == [
        "nnUNetTrainer_3minutes",
        "SAM2_3dMedTrainer_noPretrain_tuned_3minutes",
    ]
    assert (faked["output"], faked["results"]) == (output / "experiment", str(output / "nnUNet_results"))
    assert faked["devices"] == ["cpu"]
    said = capsys.readouterr().out
    assert f"export nnUNet_results={output / 'nnUNet_results'}" in said
    assert "$ sam2_3dmed experiment demo.yaml -o experiment --devices cpu" in said
    assert str(output / "experiment" / "Dataset090_SyntheticCT" / "report.html") in said
    assert "nnUNetv2_train 9 3d 0 -tr SAM2_3dMedTrainer" in said


def test_a_gpu_and_an_incomplete_experiment(faked, tmp_path):
    faked["complete"] = False
    assert run_demo(DemoOptions(tmp_path / "out", device="cuda"), lambda text: None) is False
    assert faked["devices"] == ["cuda:0"]
    with pytest.raises(SystemExit, match="1"):
        main(["demo", "-o", str(tmp_path / "out"), "-device", "cpu"])


def test_an_interrupt_says_how_to_go_on(faked, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "run_experiment", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert main(["demo", "-o", str(tmp_path / "out"), "-device", "cpu"]) == 2
    assert "interrupted; the same command continues where it stopped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--minutes", "0"], "--minutes 0: expected 1 or more"), (["--cases", "4"], "--cases 4, expected at least 5")],
)
def test_mistakes(faked, tmp_path, capsys, arguments, says):
    assert main(["demo", "-o", str(tmp_path / "out"), "-device", "cpu", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and "commands" not in faked


def test_two_demos_in_one_folder(faked, tmp_path, capsys):
    arguments = ["demo", "-o", str(tmp_path / "out"), "-device", "cpu"]
    assert main(arguments) == 0
    faked.clear()
    with held(tmp_path / "out" / ".lock"):
        assert main(arguments) == 2
    assert "another experiment is using" in capsys.readouterr().err and not faked


def test_python_is_this_one():
    assert one_run.resolve_command("python") == [sys.executable]
