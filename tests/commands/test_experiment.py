"""`sam2_3dmed experiment`: what it refuses before anything runs, and the commands that it lists."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.experiments.runs import LOCK
from nnunetv2_sam2_3dmed.locks import held, is_held
from tests.experiments.conftest import FAKE_TRAINING, write_checkpoint, write_summary

DATASET = "Dataset301_Tiny"
CASES = [f"case_{number:02d}" for number in range(10)]
FILE = """
name: table
datasets: [301]
folds: [0, 4]
methods:
  - {trainer: nnUNetTrainer, configuration: 3d_fullres}
  - {trainer: nnUNetTrainer_5epochs, configuration: 3d_fullres}
"""
CONFIGURATION = {
    "data_identifier": "nnUNetPlans_3d_fullres",
    "patch_size": [4, 8, 8],
    "architecture": {"network_class_name": "a.PlainConvUNet", "arch_kwargs": {}},
}


@pytest.fixture
def folders(tmp_path, monkeypatch) -> Path:
    """nnU-Net's folders with a dataset as its preprocessing leaves it, as far as the experiment looks."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    dataset = tmp_path / "preprocessed" / DATASET
    (dataset / "gt_segmentations").mkdir(parents=True)
    (dataset / "nnUNetPlans_3d_fullres").mkdir()
    for case in CASES:
        (dataset / "gt_segmentations" / f"{case}.nii.gz").touch()
        (dataset / "nnUNetPlans_3d_fullres" / f"{case}.b2nd").touch()
        (dataset / "nnUNetPlans_3d_fullres" / f"{case}_seg.b2nd").touch()
    (dataset / "dataset.json").write_text(
        json.dumps({"file_ending": ".nii.gz", "labels": {"background": 0, "organ": 1}})
    )
    plans = {"plans_name": "nnUNetPlans", "dataset_name": DATASET, "configurations": {"3d_fullres": CONFIGURATION}}
    (dataset / "nnUNetPlans.json").write_text(json.dumps(plans))
    return tmp_path


def experiment(folders: Path, text: str, *options: str) -> int:
    file = folders / "table.yaml"
    file.write_text(text)
    return main(["experiment", str(file), "--devices", "cpu", *options])


def test_dry_run_lists_every_command_and_writes_nnunets_own_folds(folders, capsys):
    assert experiment(folders, FILE, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"export nnUNet_results={folders / 'results'}" in lines
    assert [line for line in lines if line.startswith("nnUNetv2_train")] == [
        f"nnUNetv2_train 301 3d_fullres {fold} -tr {trainer} -p nnUNetPlans -device cpu"
        for fold in (0, 4)
        for trainer in ("nnUNetTrainer", "nnUNetTrainer_5epochs")
    ]
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    splits = json.loads((folders / "preprocessed" / DATASET / "splits_final.json").read_text())
    # numbers as in nnUNetTrainer.do_split
    expected = generate_crossval_split(CASES, seed=12345, n_splits=5)
    assert splits == [{part: list(map(str, cases)) for part, cases in split.items()} for split in expected]
    assert not list((folders / "results").iterdir()), "nothing has run"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[301]", "[301, Dataset301_Tiny]", "Dataset301_Tiny is in datasets twice, by number and by name"),
        ("[301]", "[302]", "dataset '302' is not known"),
        ("[0, 4]", "[5]", "fold 5 of Dataset301_Tiny is out of range, expected 0 to 4"),
        ("nnUNetTrainer,", "SAM2_3dMedTrainer,", "'3d_fullres' was planned for PlainConvUNet, but this trainer needs"),
        ("[301]", "[DatasetTiny]", "the dataset is 'DatasetTiny', expected a number or a name"),
        ("nnUNetTrainer_5epochs", "nnUNetTrainer_5epoch", "the trainer is 'nnUNetTrainer_5epoch', expected one that"),
        (
            "3d_fullres}",
            "3d}",
            "no configuration '3d', expected one of 3d_fullres: run `sam2_3dmed plan -d 301`",
        ),
        ("3d_fullres}", "2d}", "no configuration '2d', .*: run `nnUNetv2_plan_and_preprocess -d 301 -c 2d` to add it"),
        ("3d_fullres}", "3d_fullres, plans: nnUNetResEncUNetMPlans}", "-c 3d_fullres -pl nnUNetPlannerResEncM`"),
    ],
)
def test_mistakes_are_told_before_anything_runs(folders, capsys, old, new, says):
    assert experiment(folders, FILE.replace(old, new, 1)) == 2
    error = capsys.readouterr().err
    assert re.search(says, error), error
    assert not list((folders / "results").rglob("*.log"))


def test_data_that_are_not_preprocessed(folders, capsys):
    data = folders / "preprocessed" / DATASET / "nnUNetPlans_3d_fullres"
    (data / "case_03.b2nd").unlink()
    assert experiment(folders, FILE) == 2
    assert "lacks 1 of 10 cases, such as case_03" in capsys.readouterr().err
    for file in data.iterdir():
        file.unlink()
    assert experiment(folders, FILE) == 2
    assert "is missing or empty" in capsys.readouterr().err


def test_two_experiments_in_one_folder(folders, capsys):
    with held(folders / "out" / ".lock"):
        assert experiment(folders, FILE, "-o", str(folders / "out")) == 2
    assert "another experiment is using" in capsys.readouterr().err


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + 120
    while not condition():
        assert monotonic() < deadline, "nothing came of it in time"
        sleep(0.1)


@pytest.fixture
def faked_python(tmp_path) -> Path:
    """A Python with this one's packages, beside which fakes of nnUNetv2_train and sam2_3dmed are installed."""
    environment = tmp_path / "venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    (environment / "lib").symlink_to(Path(sys.prefix) / "lib")
    python = environment / "bin" / "python"
    python.symlink_to(Path(sys.executable).resolve())
    fakes = {"nnUNetv2_train": f'exec "{python}" "{FAKE_TRAINING}" "$@"', "sam2_3dmed": 'echo "faked report $*"'}
    for name, line in fakes.items():
        (environment / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (environment / "bin" / name).chmod(0o755)
    return python


@pytest.mark.skipif(not (Path(sys.prefix) / "pyvenv.cfg").is_file(), reason="needs a virtual environment to copy")
def test_killed_and_started_again_it_finishes_everything_once(folders, faked_python):
    (folders / "table.yaml").write_text(f"{FILE}reference: nnUNetTrainer_5epochs__nnUNetPlans__3d_fullres\n")
    results, output = folders / "results" / DATASET, folders / "results" / "experiment_table"
    command = [str(faked_python), "-m", "nnunetv2_sam2_3dmed.commands.main", "experiment", str(folders / "table.yaml")]
    command += ["--devices", "cpu"]
    environment = {**os.environ, "FAKE_DATASETS": DATASET, "FAKE_TRAINING": "hangs", "FAKE_HANGS_IN": "5epochs"}
    keys = [f"{name}__nnUNetPlans__3d_fullres" for name in ("nnUNetTrainer", "nnUNetTrainer_5epochs")]
    first, second = (results / key / "fold_0" for key in keys)

    def history(fold: Path) -> list[str]:
        file = fold / "history.txt"
        return file.read_text().splitlines() if file.is_file() else []

    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: any("worker" in line for line in history(second)) or process.poll() is not None)
    process.kill()
    printed, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, printed
    # what it had started does not live on
    wait_until(lambda: not is_held(second / LOCK))

    environment["FAKE_TRAINING"] = ""
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    for key in keys:
        for fold in (0, 4):
            lines = history(results / key / f"fold_{fold}")
            assert [line for line in lines if line.startswith("epoch")] == [f"epoch {number}" for number in range(4)]
    # what was done before was not started again, and what was under way went on
    starts = {fold: [line for line in history(fold) if line.startswith("start")] for fold in (first, second)}
    assert [len(starts[first]), len(starts[second])] == [1, 2]
    assert starts[second][1].endswith(" --c")
    records = [json.loads((output / "records" / DATASET / key / "fold_0.json").read_text()) for key in keys]
    assert [record["attempts"] for record in records] == [1, 2]
    options = f"-d {DATASET} -f 0 4 -m {' '.join(keys)} -o {output / DATASET} --reference {keys[1]}"
    assert f"faked report report {options}" in printed
    # a third call trains nothing
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert len(history(second)) == 4 + 1 + 2 and "faked report" in printed


@pytest.mark.parametrize("devices", [["cpu"], ["cuda:1", "cuda:0"]])
def test_devices_output_and_locks_are_what_was_asked_for(folders, monkeypatch, devices):
    from nnunetv2_sam2_3dmed.experiments import devices as devices_module
    from nnunetv2_sam2_3dmed.experiments import experiment as experiment_module

    seen = []

    def run_here(experiment, chosen):
        assert is_held(experiment.output / ".lock")
        seen.append((experiment.output, [device.name for device in chosen]))

    monkeypatch.setattr(devices_module, "count_gpus", lambda: 2)
    monkeypatch.setattr(experiment_module, "run_here", run_here)
    (folders / "table.yaml").write_text(FILE)
    output = folders / "out"
    with pytest.raises(SystemExit, match="1"):  # nothing was trained
        main(["experiment", str(folders / "table.yaml"), "-o", str(output), "--devices", *devices])
    assert seen == [(output, devices)]
    assert f"-device {devices[0].split(':')[0]}\n" in (output / "plan.txt").read_text()


def test_compare_only_trains_nothing(folders, monkeypatch, capsys):
    from nnunetv2_sam2_3dmed.experiments import experiment as experiment_module

    monkeypatch.setattr(experiment_module, "run_here", lambda *_: pytest.fail("it trains"))
    with pytest.raises(SystemExit, match="1"):
        experiment(folders, FILE, "--compare-only", "-o", str(folders / "out"))
    assert "nothing to compare" in capsys.readouterr().out
    assert not (folders / "out" / "plan.txt").exists()


def test_the_reference_with_its_first_seed_and_the_folds_that_all_have(folders, monkeypatch):
    from nnunetv2_sam2_3dmed.experiments import experiment as experiment_module

    keys = [f"{name}__nnUNetPlans__3d_fullres" for name in ("nnUNetTrainer_seed{}", "nnUNetTrainer_5epochs_seed{}")]
    file = f"{FILE}seeds: [2, 3]\nreference: nnUNetTrainer_5epochs__nnUNetPlans__3d_fullres\n"
    assert experiment(folders, file, "--dry-run") == 0  # which writes the folds
    splits = json.loads((folders / "preprocessed" / DATASET / "splits_final.json").read_text())
    for key in (key.format(seed) for seed in (2, 3) for key in keys):
        fold = folders / "results" / DATASET / key / "fold_4"
        write_checkpoint(fold / "checkpoint_final.pth")
        write_summary(fold, cases=splits[4]["val"])
    compared = []
    monkeypatch.setattr(experiment_module, "run_comparison", lambda argv, _: compared.append(" ".join(argv)) or 1)
    with pytest.raises(SystemExit, match="1"):
        experiment(folders, file, "--compare-only", "-o", str(folders / "out"))
    methods = " ".join(key.format(seed) for seed in (2, 3) for key in keys)
    options = f"-d {DATASET} -f 4 -m {methods} -o {folders / 'out' / DATASET} --reference {keys[1].format(2)}"
    assert compared == [f"sam2_3dmed report {options}"]


def test_the_options_of_a_cluster_are_handed_over(folders, monkeypatch, capsys):
    from nnunetv2_sam2_3dmed.experiments import slurm

    submitted = []

    def submit(name, runs, output, environment, options):
        assert is_held(output / ".lock")
        submitted.append((name, [run.fold for run in runs], options))
        return [type("Job", (), {"job_id": "12_0"})] * len(runs)

    monkeypatch.setattr(slurm, "submit", submit)
    (folders / "table.yaml").write_text(FILE)
    options = ["--partition", "gpu", "--time", "2-00:30:00", "--gpus", "0", "--mem", "32", "--cpus", "8"]
    options += ["--slurm-option", "account=lab", "-o", str(folders / "out")]
    assert main(["experiment", str(folders / "table.yaml"), "--slurm", *options]) == 0
    expected = slurm.ClusterOptions("gpu", 2910, 0, 32, 8, {"account": "lab"})
    assert submitted == [("table", [0, 0, 4, 4], expected)]
    said = capsys.readouterr().out
    assert "submitted 4 runs as job 12\n" in said
    assert said.rstrip().endswith(f"-o {folders / 'out'} --compare-only")
    assert "-device cpu\n" in (folders / "out" / "plan.txt").read_text()


def test_seeds_are_trainers_by_name(folders, capsys):
    assert experiment(folders, f"{FILE}seeds: [0, 7]\n", "--dry-run") == 0
    trained = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("nnUNetv2_train")]
    names = [f"{name}_seed{seed}" for seed in (0, 7) for name in ("nnUNetTrainer", "nnUNetTrainer_5epochs")]
    assert [(words[5], words[3]) for words in trained] == [
        *((name, fold) for fold in "04" for name in names[:2]),
        *((name, fold) for fold in "04" for name in names[2:]),
    ]


def test_a_seed_whose_name_belongs_to_another_class(folders, monkeypatch, capsys):
    users = "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
    users += "class nnUNetTrainer_seed5(nnUNetTrainer):\n    pass\n"
    (folders / "users").mkdir()
    (folders / "users" / "users_own.py").write_text(users)
    monkeypatch.setenv("nnUNet_extTrainer", str(folders / "users"))
    assert experiment(folders, f"{FILE}seeds: [5]\n", "--dry-run") == 2
    assert "there is a trainer nnUNetTrainer_seed5 already (in users_own)" in capsys.readouterr().err


def test_a_run_on_folds_that_were_written_anew_since_is_refused(folders, capsys):
    assert experiment(folders, FILE, "--dry-run") == 0
    splits = json.loads((folders / "preprocessed" / DATASET / "splits_final.json").read_text())
    fold = folders / "results" / DATASET / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_4"
    write_checkpoint(fold / "checkpoint_final.pth")
    write_summary(fold, cases=splits[4]["val"])
    assert experiment(folders, FILE, "--dry-run") == 0
    (folders / "preprocessed" / DATASET / "splits_final.json").write_text(json.dumps(splits[::-1]))
    capsys.readouterr()
    for mode in ("--dry-run", "--compare-only"):
        assert experiment(folders, FILE, mode) == 2
        error = capsys.readouterr().err
        assert f"{fold} held out 2 cases, expected the 2 that fold 4 in" in error
        assert f"rename or remove {fold.parent}, or put the split back" in error


def test_help_and_mistakes_in_the_file_do_not_wait_for_torch(tmp_path):
    code = (
        "import sys; from nnunetv2_sam2_3dmed.commands.main import main, build_parser; "
        "build_parser(['experiment']); main(['experiment', 'missing.yaml']); print(sorted(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "there is no file missing.yaml" in printed.stderr
    assert "'yaml'" in printed.stdout and "'torch'" not in printed.stdout and "'nnunetv2'" not in printed.stdout
