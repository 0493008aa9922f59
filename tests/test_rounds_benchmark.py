"""Parts of the benchmarks of rounds, corrections and extents, on cases worked out by hand."""

import csv
import json
import subprocess
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from nnunetv2_sam2_3dmed.annotation.record import Annotation, write_record
from nnunetv2_sam2_3dmed.annotation.rounds import ObjectScore, OutlinedCase, OutlinedObject, RankedCase, Round
from nnunetv2_sam2_3dmed.annotation.times import read_times
from nnunetv2_sam2_3dmed.evaluation.tables import Table
from tests.annotation.conftest import read, write

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TABLE = """image,prompt,where,object,axis,first,last
IMAGE,mask,outlines/a.nii.gz@2,1,0,,
IMAGE,mask,outlines/a.nii.gz@3,2,0,,
"""


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: import_module(name)


def test_no_subject_is_taken_apart(benchmark):
    dataset = benchmark("rounds_parts.dataset")
    cases = [f"case_{number:03d}" for number in range(1, 41) if number != 7]
    given = dataset.Shares(8, 4, 6, 8, rounds=2).assign(cases)
    assert list(given) == ["train", "val", "round_1", "round_2", "test"]
    everything = [case for part in given.values() for case in part]
    assert len(everything) == len(set(everything)) and set(everything) <= set(cases)
    part_of = {case: name for name, part in given.items() for case in part}
    for number in range(1, 41, 2):
        pair = [part_of.get(f"case_{n:03d}") for n in (number, number + 1) if n != 7]
        assert len(set(pair)) == 1
    for name, count in (("train", 8), ("val", 4), ("round_1", 6), ("round_2", 6), ("test", 8)):
        assert count <= len(given[name]) <= count + 1
    with pytest.raises(ValueError, match="are wanted, but there are 39"):
        dataset.Shares(20, 4, 10, 8, rounds=2).assign(cases)


def test_commands_that_ended_are_not_run_again(benchmark, tmp_path, monkeypatch):
    ran = []

    def fake(words, check):
        ran.append(words[1:])
        if "fail" in words:
            raise subprocess.CalledProcessError(1, words)

    monkeypatch.setattr(subprocess, "run", fake)
    make = benchmark("rounds_parts.steps").Steps
    steps = make(tmp_path)
    steps("one", "script", "a")
    with pytest.raises(subprocess.CalledProcessError):
        steps("two", "script", "fail", "b")
    steps = make(tmp_path)
    steps("one", "script", "a")
    steps("two", "script", "b", resumed=["script", "--c"])
    steps("two", "script", "b")
    with pytest.raises(SystemExit, match="step two was run before as\n  script b\nnot as\n  script d\n"):
        make(tmp_path)("two", "script", "d")
    steps("three", "script", "c", ended=True)
    make(tmp_path)("three", "script", "c")
    assert ran == [["a"], ["fail", "b"], ["--c"]]
    assert steps.commands == ["script a", "script b", "script b", "script c"]


@pytest.fixture
def outlined(tmp_path):
    """A round with the machine's 2D masks of two objects, and the truth."""
    gt = np.zeros((6, 8, 9), dtype=np.uint8)
    gt[1:4, 2:6, 2:6] = 1  # 16 voxels on slices 1 to 3
    gt[3:5, 6:8, 6:9] = 2  # 6 voxels on slices 3 and 4
    machine = np.zeros_like(gt)
    machine[2, 2:6, 2:5] = 1  # 4 voxels are missing
    image = write(tmp_path / "images" / "a_0000.nii.gz", np.zeros(gt.shape, np.float32))
    write(tmp_path / "truth" / "a.nii.gz", gt)
    made = Round(tmp_path / "round", {"dataset": "D", "file_ending": ".nii.gz", "model": "m", "model_sha256": "s"})
    write(made.outline("a"), machine)
    objects = [OutlinedObject(1, 2, 12), OutlinedObject(2, 3, 0)]
    made.outlines["a"] = OutlinedCase(str(image), "", [], "", "", 0, objects)
    (made.folder / "outlines.csv").write_text(TABLE.replace("IMAGE", str(image)))
    made.save()
    return made, gt


def test_an_annotator_draws_the_true_outlines_and_is_timed_once(benchmark, outlined, tmp_path):
    annotator = benchmark("rounds_parts.annotator")
    made, gt = outlined
    for _ in range(2):  # again after an interruption
        annotator.revise_outlines(made.folder, tmp_path / "truth", tmp_path / "revised", by_hand=True)
    drawn = read(tmp_path / "revised" / "a.nii.gz")
    np.testing.assert_array_equal(drawn[2], np.where(gt[2] == 1, 1, 0))
    np.testing.assert_array_equal(drawn[3], np.where(gt[3] == 2, 2, 0))
    assert not drawn[[0, 1, 4, 5]].any()
    rows = csv.DictReader((made.folder / "outlines.csv").read_text().splitlines())
    assert [(row["where"], row["first"], row["last"]) for row in rows] == [
        ("outlines/a.nii.gz@2", "1", "3"),
        ("outlines/a.nii.gz@3", "3", "4"),
    ]
    # 2 s for each of three slices, and a second for 20 voxels: 4 and 6 are wrong; by hand 3 slices of 48, 2 of 12
    assert {one.place[1:]: one.person for one in read_times(made.folder)} == {
        (1, "prompt"): 5,
        (2, "prompt"): 5,
        (1, "outline"): 6 + 4 / 20,
        (2, "outline"): 6 + 6 / 20,
        (1, "manual"): 6 + 48 / 20,
        (2, "manual"): 4 + 12 / 20,
    }


def test_an_annotator_makes_the_volume_the_true_one(benchmark, outlined, tmp_path):
    annotator = benchmark("rounds_parts.annotator")
    made, gt = outlined
    machine = gt.copy()
    machine[1] = 0  # 16 voxels of the first object
    machine[5, 0, :4] = 2  # 4 voxels too many of the second
    write(made.mask("a"), machine)
    scores = [ObjectScore(label, "x", 0.0, None, 9) for label in (1, 2)]
    made.cases["a"] = RankedCase("", "", [], [], "", "", scores)
    made.save()
    for _ in range(2):
        annotator.revise_volumes(made.folder, tmp_path / "truth", tmp_path / "corrected")
    np.testing.assert_array_equal(read(tmp_path / "corrected" / "a.nii.gz"), gt)
    assert {one.label: one.person for one in read_times(made.folder)} == {1: 6 + 16 / 20, 2: 4 + 4 / 20}


def test_dice_stays_where_an_object_was_whole_earlier(benchmark):
    rows = [("box_corrected", "a", "x", 1, 0.5), ("box_corrected", "a", "x", 2, 1.0), ("box", "a", "x", 1, 0.1)]
    rows += [("box_corrected", "a", "y", turn, turn / 10) for turn in (1, 2, 3, 4)]
    table = benchmark("correction_training").dice_by_correction(
        pd.DataFrame(rows, columns=["protocol", "case", "class", "round", "dice"]), "box_corrected"
    )
    assert table.loc[("a", "x")].tolist() == [0.5, 1.0, 1.0, 1.0]
    assert table.loc[("a", "y")].tolist() == [0.1, 0.2, 0.3, 0.4]


def test_gains_of_corrections_are_paired_over_the_mean_of_the_seeds(benchmark):
    """Three corrections lift each case's Dice by 0.1 with one seed and 0.3 with the other: 0.2. Eight subjects."""
    cases = [f"hippocampus_{n:03d}" for n in range(1, 17)]
    index = pd.MultiIndex.from_product([cases, ["x"]], names=["case", "class"])

    def dice(last: float) -> pd.DataFrame:
        return pd.DataFrame({0: 0.5, 1: 0.5, 2: 0.5, 3: last}, index=index)

    seeds = {"without": [dice(0.5), dice(0.6)], "with": [dice(0.6), dice(0.9)]}
    table = benchmark("correction_training").gains("corrected", seeds)
    assert [[cell.text for cell in row] for row in (table.rows[0], table.rows[3])] == [
        ["0", "0.500, 0.500", "0.500", "0.500, 0.500", "0.500", "+0.000 [+0.000, +0.000]", "1.0000"],
        # all eight subjects differ in one direction: p = 2 / 2^8
        ["3", "0.500, 0.600", "0.550", "0.600, 0.900", "0.750", "+0.200 [+0.200, +0.200]", "0.0078"],
    ]
    assert "over n = 8 subjects" in table.note


def test_seeds_of_several_runs_are_one_table_of_corrections(benchmark):
    module = benchmark("correction_training")
    rows = [
        (protocol, f"case{n}", "x", turn, turn / 10 + more)
        for protocol, more in (("box_corrected", 0.0), ("box_within_corrected", 0.2))
        for n in range(8)
        for turn in (1, 2, 3, 4)
    ]
    interactions = pd.DataFrame(rows, columns=["protocol", "case", "class", "round", "dice"])
    found, within = (
        module.dice_by_correction(interactions, protocol) for protocol in ("box_corrected", "box_within_corrected")
    )
    pd.testing.assert_frame_equal(module.by_object(module.by_case(found)), found)
    runs = {}
    for seed in ("1", "0"):
        runs[seed] = {
            "notes": ["noise"],
            "machine": {"cpu": "one of two"},
            "trainings": {"without": {"epochs": 3 + int(seed)}, "with": {"epochs": 5}},
            "dice": {
                protocol: {"without": module.by_case(dice), "with": module.by_case(dice + int(seed) / 10)}
                for protocol, dice in (("box_corrected", found), ("box_within_corrected", within))
            },
        }
    settings = {"budget_minutes": 2, "trainings_at_a_time": 2}
    text = module.summary(json.loads(json.dumps({"settings": settings, "runs": runs})))
    cells = [[cell.strip() for cell in line.split(" | ")[1:5]] for line in text.splitlines() if line.startswith("| 3 ")]
    assert cells == [
        ["0.600, 0.600", "0.600", "0.600, 0.700", "0.650"],
        ["0.400, 0.400", "0.400", "0.400, 0.500", "0.450"],
    ]
    assert text.index("first and last slice given") < text.index("any slice")
    assert "2 minutes each on one of two, 2 trainings at a time. Epochs: 3 without corrections (seed 0), 5 with" in text
    assert text.count("noise") == 1


def test_models_of_rounds_stand_beside_their_controls(benchmark):
    cases = [f"hippocampus_{n:03d}" for n in range(1, 17)]  # both sides of eight subjects
    index = pd.MultiIndex.from_product([["box"], cases], names=["protocol", "case"])
    first, rounds, control = (pd.Series(dice, index=index) for dice in (0.5, 0.8, 0.6))
    table = benchmark("rounds_parts.report").dice_table([first, rounds], [control])
    assert [[row[i].text for i in (1, 3, 5, 6)] for row in table.rows] == [
        ["0", "0.5000", "–", "–"],
        ["1", "0.8000", "+0.3000 [+0.3000, +0.3000]", "0.0078"],
        ["1, without new cases", "0.6000", "+0.1000 [+0.1000, +0.1000]", "0.0078"],
        ["1, with minus without new cases", "", "+0.2000 [+0.2000, +0.2000]", "0.0078"],
    ]
    assert "over n = 8 subjects" in table.note


def test_first_round_is_reported_while_the_second_one_runs(benchmark, tmp_path, monkeypatch):
    report, timed = benchmark("rounds_parts.report"), []
    monkeypatch.setattr(report, "times_of", lambda folder: [folder.name])
    monkeypatch.setattr(report, "time_table", lambda times: Table("Times", ["x"], []))
    monkeypatch.setattr(report, "plot_times", lambda file, times, title: timed.extend(times))
    cases = [f"hippocampus_{n:03d}" for n in range(1, 4)]
    for name, dice in (("0", 0.5), ("1", 0.75), ("control_1", 0.625)):
        (tmp_path / name).mkdir()
        scores = pd.DataFrame({"protocol": "box", "case": cases, "slices": "all", "dice": dice})
        scores.to_csv(tmp_path / name / "per_case.csv")
    rest = ("id", "m", "s", "", "2026-01-01", "0.1", "0.5", "l")
    record = {f"c{n}": Annotation(f"c{n}", "corrected", f"round_{n}", *rest) for n in (1, 2)}
    (tmp_path / "nnUNet_raw" / "D").mkdir(parents=True)
    write_record(tmp_path / "nnUNet_raw" / "D", record)
    rounds = SimpleNamespace(
        args=SimpleNamespace(epochs=[6, 15], note=[], shares=SimpleNamespace(train=1), data=tmp_path),
        results=tmp_path / "nnUNet_results",
        data=SimpleNamespace(name="D", cases={}),
        work=tmp_path,
        run=SimpleNamespace(commands=[]),
        folder=lambda number: Path(f"round_{number}"),
        tested=lambda number, control=False: tmp_path / f"{'control_' if control else ''}{number}",
    )
    report.write(rounds, tmp_path / "results", "name", {}, count=1)
    text = (tmp_path / "results" / "name.md").read_text()
    assert "1 of 2 rounds, with their controls, have ended." in text and "round_2" not in text
    content = json.loads((tmp_path / "results" / "name.json").read_text())
    assert content["dice"] == [{"box": dict.fromkeys(cases, dice)} for dice in (0.5, 0.75)]
    assert content["dice_without_new_cases"] == [{"box": dict.fromkeys(cases, 0.625)}]
    assert [row["case"] for row in content["dice_of_revised_masks"]] == ["c1"] and timed == ["round_1"]


def test_rounds_with_other_settings_are_refused_before_files_are_made(benchmark, tmp_path, monkeypatch):
    module, made = benchmark("annotation_rounds"), []
    monkeypatch.setattr(module, "make_datasets", lambda *arguments: made.append(arguments))
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer"):
        monkeypatch.setenv(name, "before")
    shares = benchmark("rounds_parts.dataset").Shares
    given = {"work": tmp_path, "data": tmp_path, "device": "cpu", "minutes": 2, "model": None, "trainer": None}
    given |= {"finetune_trainer": "T", "epochs": [1], "image_size": 64, "patch_size": None, "slices": None}
    given |= {"batch_size": None, "shares": shares(8, 4, 6, 8, rounds=1)}
    for _ in range(2):
        module.Rounds(SimpleNamespace(**given))
    assert len(made) == 2
    for other in ({"shares": shares(8, 4, 6, 10, rounds=1)}, {"epochs": [2]}, {"image_size": 96}):
        with pytest.raises(SystemExit, match="settings.json says something else.*--work"):
            module.Rounds(SimpleNamespace(**{**given, **other}))
    assert len(made) == 2


def test_extents_are_tested_over_subjects(benchmark):
    """Each of 16 cases gains 0.25 by a named extent, and has a voxel outside without one: eight subjects."""
    cases = [f"hippocampus_{n:03d}" for n in range(1, 17)]
    protocols = {"box": 0.5, "box_within": 0.75, "1_mask": 0.5, "1_mask_within": 0.75}
    rows = [(protocol, case, "all", dice) for protocol, dice in protocols.items() for case in cases]
    scores = pd.DataFrame(rows, columns=["protocol", "case", "slices", "dice"])
    counts = {name: dict.fromkeys(cases, int("within" not in name)) for name in protocols}
    table = benchmark("extents").comparison(scores, counts)
    median = ("0.5000 (0.5000 to 0.5000)", "0.7500 (0.7500 to 0.7500)")
    gain = ("+0.2500 [+0.2500, +0.2500]", "0.0078")  # 2 / 2^8
    assert [cell.text for cell in table.rows[0]] == ["box", "0.5000", median[0], "16", "0.7500", median[1], "0", *gain]
    assert "over n = 8 subjects" in table.note


def test_a_measured_model_says_how_it_was_made(benchmark):
    module = benchmark("prompted_runs")
    args = SimpleNamespace(minutes=45, jobs=2, note=["a note"])
    text = module.origin(module.training_of("T", 45, 0), {"cpu": "a CPU", "gpu": "a GPU"}, args)
    assert text.startswith("\nT_45minutes_seed0: 45 minutes of training on a GPU, 2 trainings at a time. Folds keep")
    assert text.endswith("\n\na note\n")


def test_voxels_outside_of_each_objects_slices(benchmark):
    gt = np.zeros((5, 2, 2), dtype=np.uint8)
    gt[1:3, 0], gt[2:4, 1] = 1, 2
    found = np.zeros_like(gt)
    found[0, 0, 0] = found[3, 0, 0] = found[2, 0, 0] = 1  # two outside of slices 1 and 2
    found[1, 1] = found[3, 1] = 2  # two outside of slices 2 and 3
    assert benchmark("extents").outside(found, gt) == 4
