"""`sam2_3dmed experiment`: what it refuses before anything runs, and the commands that it lists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.locks import held
from tests.experiments.conftest import write_checkpoint, write_summary

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
    """nnU-Net's folders with a dataset as its preprocessing leaves it, as far as the benchmark looks."""
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


def benchmark(folders: Path, text: str, *options: str) -> int:
    file = folders / "table.yaml"
    file.write_text(text)
    return main(["experiment", str(file), "--devices", "cpu", *options])


def test_dry_run_lists_every_command_and_writes_nnunets_own_folds(folders, capsys):
    assert benchmark(folders, FILE, "--dry-run") == 0
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
    assert benchmark(folders, FILE.replace(old, new, 1)) == 2
    error = capsys.readouterr().err
    assert re.search(says, error), error
    assert not list((folders / "results").rglob("*.log"))


def test_data_that_are_not_preprocessed(folders, capsys):
    data = folders / "preprocessed" / DATASET / "nnUNetPlans_3d_fullres"
    (data / "case_03.b2nd").unlink()
    assert benchmark(folders, FILE) == 2
    assert "lacks 1 of 10 cases, such as case_03" in capsys.readouterr().err
    for file in data.iterdir():
        file.unlink()
    assert benchmark(folders, FILE) == 2
    assert "is missing or empty" in capsys.readouterr().err


def test_two_benchmarks_in_one_folder(folders, capsys):
    with held(folders / "out" / ".lock"):
        assert benchmark(folders, FILE, "-o", str(folders / "out")) == 2
    assert "another benchmark is using" in capsys.readouterr().err


def test_scripts_are_written_and_nothing_is_submitted(folders, capsys):
    options = ("--write-scripts", "sbatch", "-o", str(folders / "out"))
    assert main(["experiment", str(_file(folders)), *options, "--slurm-option", "account=lab"]) == 0
    said = capsys.readouterr().out
    assert "for 4 runs; submit it with `sbatch " in said
    assert said.rstrip().endswith(f"-o {folders / 'out'} --compare-only")
    script = (folders / "out" / "scripts" / "array.sbatch").read_text()
    assert "#SBATCH --account=lab\n" in script
    assert "#SBATCH --array=1-4\n" in script


def test_seeds_of_earlier_calls_stay_and_a_dry_run_writes_none(folders, capsys):
    output = folders / "out"
    options = ("--write-scripts", "sbatch", "-o", str(output))
    for seeds in ("[0, 1]", "[2]"):
        assert benchmark(folders, f"{FILE}seeds: {seeds}\n", *options[2:], "--dry-run") == 0
        assert output.exists() == (seeds == "[2]")
        assert main(["experiment", str(folders / "table.yaml"), *options]) == 0
    with held(output / ".lock"):
        assert benchmark(folders, f"{FILE}seeds: [3]\n", *options) == 2
    (module,) = (output / "trainers").glob("*.py")
    names = set(re.findall(r"nnUNetTrainer\w*_seed\d", module.read_text()))
    assert names == {f"{name}_seed{seed}" for name in ("nnUNetTrainer", "nnUNetTrainer_5epochs") for seed in range(3)}


def test_a_run_on_folds_that_were_written_anew_since_is_refused(folders, capsys):
    assert benchmark(folders, FILE, "--dry-run") == 0
    splits = json.loads((folders / "preprocessed" / DATASET / "splits_final.json").read_text())
    fold = folders / "results" / DATASET / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_4"
    write_checkpoint(fold / "checkpoint_final.pth")
    write_summary(fold, cases=splits[4]["val"])
    assert benchmark(folders, FILE, "--dry-run") == 0
    (folders / "preprocessed" / DATASET / "splits_final.json").write_text(json.dumps(splits[::-1]))
    capsys.readouterr()
    for mode in ("--dry-run", "--compare-only"):
        assert benchmark(folders, FILE, mode) == 2
        error = capsys.readouterr().err
        assert f"{fold} held out 2 cases, expected the 2 that fold 4 in" in error
        assert f"rename or remove {fold.parent}, or put the split back" in error


def _file(folders: Path) -> Path:
    (folders / "table.yaml").write_text(FILE)
    return folders / "table.yaml"


def test_help_and_mistakes_in_the_file_do_not_wait_for_torch(tmp_path):
    code = (
        "import sys; from nnunetv2_sam2_3dmed.commands.main import main, build_parser; "
        "build_parser(['experiment']); main(['experiment', 'missing.yaml']); print(sorted(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "there is no file missing.yaml" in printed.stderr
    assert "'yaml'" in printed.stdout and "'torch'" not in printed.stdout and "'nnunetv2'" not in printed.stdout
