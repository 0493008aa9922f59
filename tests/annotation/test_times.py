"""Contents of times.csv, and who writes them."""

import csv
import multiprocessing

import numpy as np
import pytest

from nnunetv2_sam2_3dmed import locks
from nnunetv2_sam2_3dmed.annotation.outlines import Outlining
from nnunetv2_sam2_3dmed.annotation.ranking import Ranking
from nnunetv2_sam2_3dmed.annotation.rounds import Round
from nnunetv2_sam2_3dmed.annotation.times import (
    FILE,
    Sitting,
    add_person_seconds,
    add_sitting,
    read_times,
    set_machine_seconds,
    slices_of,
)
from nnunetv2_sam2_3dmed.annotation.unlabelled import Unlabelled
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.prompt_lines import PromptLine
from tests.annotation.conftest import read

HEADER = "case,object,stage,slices,machine_seconds,person_seconds\n"


def rows(folder) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / FILE).read_text("utf-8").splitlines()))


def test_sittings_are_added_up_and_the_machines_time_is_the_last(tmp_path):
    add_person_seconds(tmp_path, "a", 2, "outline", 12.5)
    set_machine_seconds(tmp_path, "a", "outline", 9.0, {1: 3, 2: 0, 4: 1})
    add_person_seconds(tmp_path, "a", 2, "outline", 30)
    set_machine_seconds(tmp_path, "a", "outline", 6.0, {1: 3, 2: 1, 4: 1})
    add_person_seconds(tmp_path, "a", 2, "volume", 0)
    assert [list(row.values()) for row in rows(tmp_path)] == [
        ["a", "2", "outline", "1", "2.00", "42.50"],
        ["a", "1", "outline", "3", "2.00", ""],
        ["a", "4", "outline", "1", "2.00", ""],
        ["a", "2", "volume", "", "", "0.00"],
    ]
    assert [one.person for one in read_times(tmp_path)] == [42.5, None, None, 0.0]


def test_how_large_a_persons_mask_is_after_the_last_sitting(tmp_path):
    add_sitting(tmp_path, "a", "volume", Sitting({1: 2.0, 3: 4.0}), {1: 70, 3: 8})
    add_sitting(tmp_path, "a", "volume", Sitting({3: 1.0}), {3: 0})
    add_person_seconds(tmp_path, "a", 1, "volume", 5.0)
    assert rows(tmp_path)[0]["person_voxels"] == "70" and rows(tmp_path)[1]["person_voxels"] == "0"
    assert [(one.person, one.person_voxels) for one in read_times(tmp_path)] == [(7.0, 70), (5.0, 0)]


def test_the_machines_answers_to_a_person_are_added_to_the_commands_time(tmp_path):
    set_machine_seconds(tmp_path, "a", "volume", 6.0, {1: 3, 2: 1})
    add_sitting(tmp_path, "a", "volume", Sitting({1: 9.0, 2: 0.0, 5: 1.0}, {1: 1.5, 5: 0.25}))
    add_sitting(tmp_path, "a", "volume", Sitting({1: 2.0}, {1: 0.5, 2: 1.0, 6: 4.0}))
    found = {one.label: (one.person, one.machine) for one in read_times(tmp_path)}
    assert found == {1: (11.0, 5.0), 2: (0.0, 4.0), 5: (1.0, 0.25), 6: (None, 4.0)}
    with pytest.raises(UserError, match="has -1 seconds"):
        add_sitting(tmp_path, "a", "volume", Sitting({1: 1.0}, {1: -1.0}))
    assert {one.label: one.person for one in read_times(tmp_path)}[1] == 11.0


def test_a_spreadsheets_table_is_read_and_own_columns_stay(tmp_path):
    (tmp_path / FILE).write_text(
        "sep=;\ncase;object;stage;note;slices;machine_seconds;person_seconds\na;1;manual;hard;;;500\n"
    )
    add_person_seconds(tmp_path, "b", 1, "manual", 400)
    assert [(row["case"], row["person_seconds"], row["note"]) for row in rows(tmp_path)] == [
        ("a", "500.00", "hard"),
        ("b", "400.00", ""),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,1,volume,3,1,-2", "line 2 of .* has -2 seconds, expected 0 or more"),
        ("a,1,volume,3,1,nan", "has nan seconds"),
        ("a,1,volume,3,1,12 s", "has the person_seconds '12 s', expected a number"),
        ("a,1,revision,3,1,2", "has the stage 'revision', expected one of prompt, outline, volume, manual"),
        ("a,organ,volume,3,1,2", "has the object 'organ', expected a number"),
        ("a,,volume,3,1,2", "has the object '', expected a label value"),
        ("../a,1,volume,3,1,2", "has the case '../a', which is no file name"),
        ("a,1,volume,3,1,2\na,1,volume,,,", "line 3 of .* is the second of a, object 1, stage volume"),
    ],
)
def test_mistakes(tmp_path, line, message):
    (tmp_path / FILE).write_text(HEADER + line + "\n")
    with pytest.raises(UserError, match=message):
        read_times(tmp_path)


def test_a_client_cannot_write_nonsense(tmp_path):
    for case, stage, seconds in (
        ("a", "volume", -1.0),
        ("a", "volume", float("inf")),
        ("a", "x", 1.0),
        ("", "volume", 1),
    ):
        with pytest.raises(UserError):
            add_person_seconds(tmp_path, case, 1, stage, seconds)
    assert not (tmp_path / FILE).exists()


def test_a_sitting_is_added_as_a_whole_or_not_at_all(tmp_path):
    add_sitting(tmp_path, "a", "volume", Sitting({1: 2.0, 3: 0.0}))
    with pytest.raises(UserError, match="-1 seconds"):
        add_sitting(tmp_path, "a", "volume", Sitting({1: 5.0, 3: -1.0}))
    add_sitting(tmp_path, "a", "volume", Sitting({1: 0.5, 2: 4.0}))
    assert {one.label: one.person for one in read_times(tmp_path)} == {1: 2.5, 3: 0.0, 2: 4.0}


def add_often(folder, label: int) -> None:
    for _ in range(20):
        add_person_seconds(folder, "a", label % 2, "volume", 1)


def test_several_processes_write_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "SECONDS_TO_TRY", 60.0)  # on a slow disk, two of them may need more than usual
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=add_often, args=(tmp_path, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert {one.label: one.person for one in read_times(tmp_path)} == {0: 40.0, 1: 20.0}


def test_slices_along_an_axis():
    labels = np.zeros((4, 5, 6), dtype=np.uint8)
    labels[1, 2, 3:5] = labels[3, 2, 3] = 7
    assert slices_of(labels, [7, 8], 0) == {7: 2, 8: 0} and slices_of(labels, [7], 2) == {7: 2}
    assert slices_of(labels, [7], 1) == {7: 1}


def test_the_stages_write_the_machines_time_of_each_object(lively_network, dataset, images, folders, monkeypatch):
    made_by = {"dataset": dataset.name, "file_ending": ".nii.gz", "model": "m", "model_sha256": "abc"}
    into = Round(folders / "round", made_by)
    lines = (PromptLine("box", "3,10,12:3,30,33", 1), PromptLine("point", "4,15,15", 3))
    case = Unlabelled("new_1", images / "new_1_0000.nii.gz", lines)
    session = InteractiveSession(lively_network, "cpu", "float32")
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("nnunetv2_sam2_3dmed.annotation.outlines.time.perf_counter", lambda: float(next(clock)))
    assert Outlining(session, dataset.objects, previews=False).run([case], into) == {}
    outlined = read_times(into.folder)
    assert [(*one.place, one.slices, one.machine, one.person) for one in outlined] == [
        ("new_1", 1, "outline", 1, 5.0, None),
        ("new_1", 3, "outline", 1, 5.0, None),
    ]
    assert Ranking(session, dataset.objects, previews=False).run([case], into) == {}
    volume = read_times(into.folder)[2:]
    mask = read(into.mask("new_1"))
    assert [(one.label, one.stage, one.slices) for one in volume] == [
        (label, "volume", int((mask == label).any(axis=(1, 2)).sum())) for label in (1, 3)
    ]
    assert volume[0].machine == volume[1].machine > 0
