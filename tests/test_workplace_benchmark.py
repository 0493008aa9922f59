"""Folds, groups of cases and the folders that benchmarks of many trainings share."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from threading import Barrier, Event
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from nnunetv2_sam2_3dmed.locks import held
from nnunetv2_sam2_3dmed.training.whole_files import WholeFilesTrainer

real_run = subprocess.run
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: import_module(name)


def test_groups_of_validation_cases(benchmark, monkeypatch):
    """The other sides of 2, 4 and 6 are in training, those of 8, 9 and 12 are not."""
    fold = {"val": [f"c_{n}" for n in (2, 4, 6, 8, 9, 12)], "train": [f"c_{n}" for n in (1, 3, 5)]}
    module = benchmark("case_groups")
    monkeypatch.setattr(module, "CASES_OF_LEARNING", 2)
    assert module.groups_of(fold) == {  # sorted as text: 12, 2, 4, 6, 8, 9
        "all": ["c_12", "c_2", "c_4", "c_6", "c_8", "c_9"],
        "not used by learning.py": ["c_4", "c_6", "c_8", "c_9"],
        "no other side of the subject in training": ["c_12", "c_8", "c_9"],
        "neither": ["c_8", "c_9"],
    }


def test_dice_of_groups_of_cases(benchmark, monkeypatch):
    module = benchmark("case_groups")
    monkeypatch.setattr(module, "CASES_OF_LEARNING", 0)
    cases = [f"c_{n}" for n in range(1, 9)]
    rows = [("net", case, 0.5) for case in cases]
    rows += [(f"ours{seed}", case, 0.6 + 0.2 * seed) for case in cases for seed in (0, 1)]
    scores = pd.DataFrame(rows, columns=["method", "case", "dice"])
    table = module.group_table(scores, {"val": cases, "train": []}, "net", ["ours0", "ours1"])
    assert [cell.text for cell in table.rows[0]] == [
        *("all", "8", "0.500", "0.600, 0.800"),
        *("+0.200 [+0.200, +0.200]", "0.0078"),  # 2 / 2^8
    ]


def test_differences_are_tested_over_subjects(benchmark):
    """Sides of eight subjects gain 0.3 and 0.1; one side of a ninth has no score, the other gains 1.1."""
    module = benchmark("case_groups")
    differences = pd.Series({f"hippocampus_{n:03d}": 0.3 if n % 2 else 0.1 for n in range(1, 17)})
    assert module.by_subject(differences).round(6).tolist() == [0.2] * 8
    assert module.gain_texts(differences, 2) == ["+0.20 [+0.20, +0.20]", "0.0078"]  # 2 / 2^8
    differences["hippocampus_017"], differences["hippocampus_018"] = float("nan"), 1.1
    gain, p = module.gain_texts(differences, 2)
    assert gain.startswith("+0.25 [") and p == "0.0039"  # (16 * 0.2 + 1.1) / 17 over cases; 2 / 2^9
    assert "n = 9 subjects" in module.gain_note(differences.index)
    # five subjects are too few for an interval, though they have ten cases
    assert module.gain_texts(differences.iloc[:10], 2) == ["+0.20", "n/a (n=5)"]


def test_few_training_cases_are_of_other_subjects_than_the_test_and_the_pretraining(benchmark):
    transfer = benchmark("transfer")
    folds = transfer.folds_of([f"hippocampus_{n:03d}" for n in range(1, 209)])
    assert len(folds) == 1 + len(transfer.SIZES) * len(transfer.DRAWS)

    def subjects(cases):
        return {(int(case[-3:]) + 1) // 2 for case in cases}

    pretraining, *few = folds
    assert not subjects(pretraining["train"]) & subjects(pretraining["val"])
    for draw in range(3):
        of_draw = few[3 * draw : 3 * draw + 3]
        assert [len(fold["train"]) for fold in of_draw] == [8, 16, 32]
        assert set(of_draw[0]["train"]) < set(of_draw[1]["train"]) < set(of_draw[2]["train"])
        for fold in of_draw:
            assert fold["val"] == few[0]["val"] and len(fold["val"]) == 32
            assert not subjects(fold["val"]) & subjects(fold["train"])
            assert not subjects([*fold["val"], *fold["train"]]) & subjects(pretraining["train"])
    assert len({tuple(fold["train"]) for fold in few}) == 9
    # each training has its own number
    numbers = [
        transfer.training_of("nnU-Net, batches of 2", 4, size, draw).fold for draw in (0, 1, 2) for size in (8, 16, 32)
    ]
    assert numbers == list(range(1, 10))


def test_draws_of_several_runs_are_one_table_of_transfer(benchmark, tmp_path):
    transfer, reports = benchmark("transfer"), benchmark("reports")
    settings = {"minutes": 2, "pretrain_minutes": 4, "trainings_at_a_time": 2, "device": "cpu"}
    settings["pretraining_cases"] = 92
    file = tmp_path / "transfer.json"
    report = reports.begin_report(file, settings)
    values = {
        "good weights": 0.3,
        "good weights, frozen, tuned": 0.7,
        "good weights, tuned": 0.6,
        "random weights, tuned": 0.5,
        "nnU-Net, batches of 2": 0.25,
    }
    for draw, added in (("1", 0.1), ("0", 0.0)):
        dice = {
            method: {str(size): {"a": value + added, "b": value + added + 0.1} for size in (8, 16, 32)}
            for method, value in values.items()
        }
        report["runs"][draw] = {
            "dice_by_case": dice,
            "pretraining_dice_with_prompts": 0.7 + added,
            "notes": ["slow"],
            "machine": {"cpu": f"processor {draw}"},
        }
    file.write_text(json.dumps(report))
    report = reports.begin_report(file, settings)
    lines = transfer.table(transfer.results_of(report)).splitlines()
    # 0.35 and 0.45: mean 0.4, standard deviation 0.1 / sqrt(2); and so on
    assert lines[2] == "| 8 | 0.400 ± 0.071 | 0.800 ± 0.071 | 0.700 ± 0.071 | 0.600 ± 0.071 | 0.350 ± 0.071 |"
    assert lines[-1] == "| 32 | +0.100, +0.100 | +0.200, +0.200 | +0.400, +0.400 | +0.450, +0.450 |"
    text = transfer.setting(report)
    assert (
        "on cpu (draw 0 on processor 0, draw 1 on processor 1), 2 trainings at a time, one share of the cores" in text
    )
    assert "for 4 minutes, with all cores, on 92 cases of other subjects" in text
    assert "on the middle slice: 0.700, 0.800." in text and "2 of 3 draws" in text and text.count("slow") == 1
    with pytest.raises(SystemExit, match="'minutes': 2.* not .*'minutes': 3"):
        reports.begin_report(file, {**settings, "minutes": 3})
    file.write_text(json.dumps({"machine": {}, "dice_by_case": {}}))
    with pytest.raises(SystemExit, match="older form, without the settings.*move it away"):
        reports.begin_report(file, settings)


def test_epochs_of_transfer_that_differ_between_draws_are_pointed_out(benchmark):
    """12 epochs are 20 % more than 10, 30 are more than that above 23."""
    transfer = benchmark("transfer")
    runs = {}
    for draw, few, many in (("1", 10, 30), ("0", 12, 23)):
        epochs = {method: {"8": 20, "16": few, "32": 30} for method in transfer.METHODS}
        epochs["nnU-Net, batches of 2"]["32"] = many
        runs[draw] = {"epochs_of_25_iterations": epochs}
    lines = transfer.epochs_table({"runs": runs}).splitlines()
    assert lines[5:7] == ["| 8 | 20 | 20 | 20 | 20 | 20 |", "| 16 | 11 | 11 | 11 | 11 | 11 |"]
    assert lines[-1].startswith("Epochs differ by more than 20 % between draws")
    assert lines[-1].endswith(": nnU-Net, batches of 2 with 32 cases (23, 30).")


@pytest.mark.parametrize(("jobs", "added"), [(1, 0), (2, 1), (3, 0), (4, 1), (6, 3)])
def test_no_training_of_transfer_is_alone_at_the_end(benchmark, jobs, added):
    """Five methods with three numbers of cases are 15 trainings; those added are others, and not reported."""
    transfer = benchmark("transfer")
    trained, read = [], []

    def facts(training):
        read.append(training)
        return {"epochs": 3}

    work = SimpleNamespace(jobs=jobs, train_all=trained.extend, facts=facts, dice=lambda training: {"a": 0.5})
    run = transfer.run_draw(work, 1, 9)
    assert len(trained) == len(set(trained)) == 15 + added and len(trained) % jobs == 0
    assert set(read) == set(trained[:15])
    others = [
        transfer.training_of(m, 9, size, draw) for m in transfer.METHODS for size in (8, 16, 32) for draw in (0, 2)
    ]
    assert not set(trained) & set(others)
    assert all(training.trainer.startswith("PaperRecipeTrainer_9minutes_seed") for training in trained[15:])
    assert run["epochs_of_25_iterations"]["good weights"] == {"8": 3, "16": 3, "32": 3}


def test_weights_that_are_not_good_end_transfer(benchmark, capsys):
    transfer = benchmark("transfer")
    transfer.expect_good_weights(0.7, 0.7)
    assert "0.700" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="is 0.650, expected at least 0.7: .*--pretrain-minutes.*--least-pretraining"):
        transfer.expect_good_weights(0.65, 0.7)


def test_trainers_of_transfer_write_no_best_checkpoint(benchmark, monkeypatch):
    transfer, written = benchmark("transfer"), []
    monkeypatch.syspath_prepend(str(BENCHMARKS / "trainers"))
    monkeypatch.setattr(WholeFilesTrainer, "save_checkpoint", lambda self, filename: written.append(filename))
    for name, _ in transfer.METHODS.values():
        trainer = object.__new__(getattr(benchmark("benchmark_trainers"), name))
        trainer.save_checkpoint("fold_0/checkpoint_best.pth")
        trainer.save_checkpoint("fold_0/checkpoint_final.pth")
    assert written == ["fold_0/checkpoint_final.pth"] * 5


def test_seeds_of_several_runs_are_one_table_of_ablations(benchmark):
    """Sixteen cases alike: noBD has 0.1 less with each seed, noSRPP lies on both sides of the full model."""
    ablations, reports = benchmark("ablations"), benchmark("reports")
    cases = [f"hippocampus_{n:03d}" for n in range(1, 17)]
    runs = {}
    for seed, full, no_srpp in (("2", 0.7, 0.72), ("0", 0.74, 0.72), ("1", 0.72, 0.7)):
        values = dict.fromkeys((*ablations.ABLATIONS, ablations.OWN_FOLD), full)
        values |= {"noSRPP": no_srpp, "noBD": full - 0.1}
        runs[seed] = {"dice_by_case": {name: dict.fromkeys(cases, value) for name, value in values.items()}}
    lines = ablations.table([run["dice_by_case"] for run in reports.in_order({"runs": runs})]).splitlines()
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:-1] for line in lines[2:]}
    assert rows["full"][:3] == ["0.740, 0.720, 0.700", "0.720", "0.020"]
    assert rows["noBD"][3:] == ["worse with every seed", "-0.100 (-0.100 to -0.100)"]
    assert rows["noSRPP"][3:] == ["within the spread", "-0.007 (-0.007 to -0.007)"]
    assert lines[3].endswith("| 0.031 |")  # 2 / 2^8 of eight subjects, four times for as many tests
    (two, *_) = [line for line in ablations.table([runs["0"]["dice_by_case"]]).splitlines() if "noBD" in line]
    assert "too few seeds to say" in two


@pytest.fixture
def work(benchmark, tmp_path, monkeypatch):
    """A workplace whose commands write what nnU-Net's training would, and the list of those that ran."""
    source = tmp_path / "pre" / "Dataset004_Hippocampus"
    (source / "nnUNetPlans_3d_fullres").mkdir(parents=True)
    (source / "nnUNetPlans_3d_fullres" / "a_1_seg.b2nd").touch()
    for name in ("nnUNetPlans.json", "splits_final.json"):
        (source / name).write_text("{}")
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "pre"))
    monkeypatch.setenv("nnUNet_extTrainer", "trainers")
    module = benchmark("workplace")
    place = module.Workplace(tmp_path / "work", "cpu", jobs=2)
    ran = []

    def fake(words, env, check, stdout, close_fds):
        ran.append(" ".join(words[1:]))
        if "Fails" in words:
            raise subprocess.CalledProcessError(1, words)
        fold = place.fold_folder(module.Training("T", "3d", 0))
        (fold / "validation").mkdir(parents=True, exist_ok=True)
        for name in ("best", "final"):
            torch.save({"logging": {"mean_fg_dice": [0.25, 0.5]}}, fold / f"checkpoint_{name}.pth")
        metrics = {"1": {"Dice": 0.5}, "2": {"Dice": 1.0}}
        summary = {"metric_per_case": [{"reference_file": "labels/a_1.nii.gz", "metrics": metrics}]}
        (fold / "validation" / "summary.json").write_text(json.dumps(summary))

    monkeypatch.setattr(subprocess, "run", fake)
    return module, place, ran


def test_folders_of_an_experiment_leave_the_users_folds_alone(work):
    _, place, _ = work
    assert place.link() == ["a_1"]
    for _ in range(2):
        place.begin([{"train": [], "val": ["a_1"]}], plan=["--slices", "6"])
    assert (place.preprocessed / "nnUNetPlans_3d_fullres").is_symlink()
    assert not (place.preprocessed / "nnUNetPlans.json").is_symlink()
    with pytest.raises(SystemExit, match="splits_final.json says something else"):
        place.begin([{"train": ["a_1"], "val": []}], plan=["--slices", "6"])
    with pytest.raises(SystemExit, match="settings.json says something else"):
        place.begin([{"train": [], "val": ["a_1"]}], plan=["--slices", "8"])


def test_a_command_by_itself_has_all_cores(work, monkeypatch):
    module, _, _ = work
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    shared = module.Workplace(Path("work"), "cpu", jobs=2)
    shared.environment["own"] = "kept"
    alone = shared.with_all_cores()
    assert (shared.environment["OMP_NUM_THREADS"], alone.environment["OMP_NUM_THREADS"]) == ("2", "4")
    assert (shared.jobs, alone.jobs, alone.environment["own"]) == (2, 1, "kept")
    alone("script", "word", done=True)
    assert shared.commands == ["script word"]
    assert module.threads("cuda", 2) == {}


@pytest.mark.parametrize("keep", [False, True])
def test_a_training_that_has_ended_is_not_repeated(work, keep):
    module, place, ran = work
    training = module.Training("T", "3d", 0)
    for _ in range(2):
        place.train_all([training], keep)
    assert ran == ["4 3d 0 -tr T -device cpu"]
    assert place.commands == ["nnUNetv2_train 4 3d 0 -tr T -device cpu"] * 2
    assert place.dice(training) == {"a_1": 0.75}
    assert place.facts(training) == {"epochs": 2, "pseudo_dice": [0.25, 0.5]}
    folder = place.fold_folder(training)
    assert (folder / "checkpoint_final.pth").exists() == keep and not (folder / "checkpoint_best.pth").exists()


def test_an_interrupted_training_goes_on(work):
    module, place, ran = work
    place.fold_folder(module.Training("T", "3d", 0)).mkdir(parents=True)
    place.train(module.Training("T", "3d", 0))
    assert ran == ["4 3d 0 -tr T -device cpu --c"]


def test_a_training_that_fails_does_not_end_the_others(work):
    module, place, ran = work
    with pytest.raises(SystemExit, match=r"trainer='Fails'.*\n.*goes on"):
        place.train_all([module.Training("Fails", "3d", 0), module.Training("T", "3d", 0)])
    assert place.facts(module.Training("T", "3d", 0))["epochs"] == 2


def test_nobody_else_trains_in_the_folder(work, monkeypatch):
    module, place, ran = work
    monkeypatch.setattr("nnunetv2_sam2_3dmed.locks.SECONDS_TO_TRY", 0.0)
    with held(place.folder / "lock"), pytest.raises(SystemExit, match="another process is training"):
        place.train_all([module.Training("T", "3d", 0)])
    assert not ran


def test_what_waits_is_not_started_after_an_interrupt(work, monkeypatch):
    _, place, _ = work
    begun, go_on, ran = Barrier(3), Event(), []
    shutdown = ThreadPoolExecutor.shutdown

    def shut_down(pool, *args, **options) -> None:
        shutdown(pool, *args, **options)
        go_on.set()  # only now do those that run end

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shut_down)

    def wait(number: int) -> None:
        ran.append(number)
        begun.wait(60)
        assert go_on.wait(60)

    with pytest.raises(KeyboardInterrupt), place.share_cores() as pool:
        for number in range(5):
            pool.submit(wait, number)
        begun.wait(60)  # two of five run
        raise KeyboardInterrupt
    assert len(ran) == 2


@pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: [0])(0)) < 2, reason="one core")
def test_each_job_has_its_own_cores(work):
    _, place, _ = work
    both = Barrier(2)  # neither thread does the work of both

    def cores() -> set[int]:
        both.wait(10)
        return os.sched_getaffinity(0)

    with place.share_cores() as pool:
        first, second = [one.result() for one in [pool.submit(cores) for _ in range(2)]]
    assert first | second == os.sched_getaffinity(0) and not first & second


@pytest.mark.parametrize(
    "name",
    [
        *("Ablation_noSRPP_seed0", "UnfittedPromptTrainer_45minutes", "FrozenGoodWeightsTrainer_6minutes"),
        *("PaperRecipeTrainer_6minutes_seed0", "PlainNNUNetTrainer_6minutes"),
    ],
)
def test_nnunet_finds_the_trainers_and_the_benchmarks_module_is_read_first(work, name):
    """With the workplace's environment; the module keeps to the number of threads."""
    _, place, _ = work
    code = f"""
import torch
torch.set_num_threads(4)
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
print(find({name!r}).__name__, torch.get_num_threads())
"""
    environment = {**place.environment, "OMP_NUM_THREADS": "1"}
    done = real_run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.split()[-2:] == [name, "1"]
