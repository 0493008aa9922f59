"""The first stage of a round with a network of random weights: 2D masks, the table, and what a person makes of both."""

from __future__ import annotations

import csv
import threading

import numpy as np
import pytest

from nnunetv2_sam2_3dmed import locks
from nnunetv2_sam2_3dmed.annotation.outlines import (
    TABLE,
    MaskRow,
    Outlining,
    add_to_table,
    changing_table,
    is_outlined,
    outline_dice,
)
from nnunetv2_sam2_3dmed.annotation.ranking import Ranking
from nnunetv2_sam2_3dmed.annotation.rounds import Round
from nnunetv2_sam2_3dmed.annotation.unlabelled import Unlabelled, cases_of_table
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive import InteractiveSession, PromptError
from nnunetv2_sam2_3dmed.interactive.prompt_lines import PromptLine
from nnunetv2_sam2_3dmed.locks import held
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from tests.annotation.conftest import read, write

MADE_BY = {"dataset": "Dataset301_Tiny", "file_ending": ".nii.gz", "model": "m", "model_sha256": "abc"}
BOX = PromptLine("box", "3,10,12:3,30,33", 1)
CLICK = PromptLine("point", "4,15,15", 3)


@pytest.fixture
def session(lively_network) -> InteractiveSession:
    return InteractiveSession(lively_network, "cpu", "float32")


@pytest.fixture
def outlining(session, dataset) -> Outlining:
    return Outlining(session, dataset.objects, previews=False)


@pytest.fixture
def made(folders) -> Round:
    return Round(folders / "round", MADE_BY)


@pytest.fixture
def cases(images) -> list[Unlabelled]:
    return [Unlabelled(f"new_{n}", images / f"new_{n}_0000.nii.gz", (BOX, CLICK)) for n in (1, 2)]


def rows(made: Round) -> list[dict[str, str]]:
    return list(csv.DictReader((made.folder / TABLE).read_text("utf-8").splitlines()))


def test_outlines_are_the_masks_of_the_prompted_slices_and_of_no_other(session, dataset, cases, made, lively_network):
    assert Outlining(session, dataset.objects).run(cases[:1], made) == {}
    alone = InteractiveSession(lively_network, "cpu", "float32")
    alone.set_image(cases[0].image)
    alone.add_box((3, 10, 12), (3, 30, 33), 1)
    organ = alone.predict_slice().mask
    alone.add_points([(4, 15, 15)], 1, 3)
    lesion = alone.predict_slice().mask
    labels = read(made.outline("new_1"))
    np.testing.assert_array_equal(labels[3] == 1, organ)
    np.testing.assert_array_equal(labels[4] == 3, lesion)
    assert organ.any() and lesion.any() and not labels[[0, 1, 2, 5, 6]].any()
    assert (made.folder / "outline_previews" / "new_1.png").stat().st_size > 1000
    outlined = made.outlines["new_1"]
    assert outlined.mask_sha256 == sha256_of(made.outline("new_1"))
    assert [(one.label, one.index, one.voxels) for one in outlined.objects] == [
        (1, 3, organ.sum()),
        (3, 4, lesion.sum()),
    ]
    image = str(cases[0].image)
    assert [list(row.values()) for row in rows(made)] == [
        [image, "mask", "outlines/new_1.nii.gz@3", "1", "0", "", ""],
        [image, "mask", "outlines/new_1.nii.gz@4", "3", "0", "", ""],
    ]
    assert Round.read(made.folder).outlines == made.outlines and not (made.folder / "ranking.csv").exists()


def test_an_object_that_the_model_does_not_see_is_for_the_person_to_draw(outlining, cases, made, monkeypatch):
    predict = InteractiveSession.predict_slice

    def blind(self, object_id, axis, index):
        if object_id == 3:
            self.remove_object(3)
            raise PromptError("SAM 2 sees nothing")
        return predict(self, object_id, axis, index)

    monkeypatch.setattr(InteractiveSession, "predict_slice", blind)
    assert outlining.run(cases[:1], made) == {}
    assert made.outlines["new_1"].objects[1].voxels == 0 and 3 not in read(made.outline("new_1"))
    assert rows(made)[1]["object"] == "3"


def test_it_goes_on_and_keeps_what_was_filled_in(outlining, cases, made):
    bad = Unlabelled("bad", cases[0].image, (PromptLine("point", "4,15,900", 1),))
    said: list[str] = []
    failed = outlining.run([bad, cases[0]], made, said.append)
    assert list(failed) == ["bad"] and "lies outside the image" in failed["bad"] and len(said) == 2
    # as a spreadsheet in another language saves it, with a column of the person's own
    table = (made.folder / TABLE).read_text().splitlines()
    lines = [line.replace(",", ";") for line in table]
    edited = [f"{lines[0]};remark", lines[1].replace(";;", ";2;5") + ";clear", lines[2] + ";"]
    (made.folder / TABLE).write_text("\n".join(edited) + "\n")

    again = Round.read(made.folder)
    written = again.outline("new_1").stat().st_mtime_ns
    assert is_outlined(cases[0], again, None) and not is_outlined(cases[1], again, None)
    assert outlining.run(cases, again, said.append) == {} and len(said) == 3
    assert again.outline("new_1").stat().st_mtime_ns == written
    found = [(row["where"].split("/")[1], row["first"], row["last"]) for row in rows(again)]
    assert found == [
        *(("new_1.nii.gz@3", "2", "5"), ("new_1.nii.gz@4", "", "")),
        *(("new_2.nii.gz@3", "", ""), ("new_2.nii.gz@4", "", "")),
    ]
    assert [row["remark"] for row in rows(again)] == ["clear", "", "", ""]
    # killed after the table was written and before the round
    killed = Round.read(made.folder)
    del killed.outlines["new_2"]
    assert outlining.run(cases, killed, said.append) == {} and len(rows(killed)) == 4
    with pytest.raises(UserError, match="new_1 with other prompts"):
        is_outlined(Unlabelled("new_1", cases[0].image, (BOX,)), killed, None)
    (made.folder / TABLE).write_text("image,prompt\n")
    with pytest.raises(UserError, match="lacks the column where"):
        outlining.run(cases, killed)


def test_cases_that_another_command_added_meanwhile_stay(outlining, cases, made):
    other = Round.begin(made.folder, MADE_BY)  # begun at the same time
    assert outlining.run(cases[:1], made) == {} and outlining.run(cases[1:], other) == {}
    found = Round.read(made.folder)
    assert sorted(found.outlines) == ["new_1", "new_2"] and found.id == made.id == other.id
    with held(made.folder / ".round.lock"), pytest.raises(UserError, match="another command is writing"):
        made.add()


def test_two_never_write_the_table_at_once(outlining, cases, made, monkeypatch):
    monkeypatch.setattr(locks, "SECONDS_TO_TRY", 60.0)
    assert outlining.run(cases[:1], made) == {}
    made.outlines["new_2"] = made.outlines["new_1"]
    writer = threading.Thread(target=add_to_table, args=(made, "new_2"))
    with changing_table(made) as found:  # such as by the server, while a command goes on
        writer.start()
        writer.join(0.3)
        assert writer.is_alive() and len(rows(made)) == 2
        found[0]["first"], found[0]["last"] = "2", "5"
    writer.join(60)
    assert [(row["where"].split("/")[1], row["first"]) for row in rows(made)] == [
        ("new_1.nii.gz@3", "2"),
        ("new_1.nii.gz@4", ""),
        ("new_2.nii.gz@3", ""),
        ("new_2.nii.gz@4", ""),
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"where": "outlines/a.nii.gz@3", "object": "2"}, (3, 2, None)),
        ({"where": "outlines/a.nii.gz@3", "object": "2.0", "first": "1,0", "last": "5"}, (3, 2, (1, 5))),
        ({"where": "outlines/a.nii.gz", "object": "", "first": "1"}, (None, 1, None)),
        ({"where": "a@b.nii.gz", "object": "1"}, (None, 1, None)),
    ],
)
def test_rows_as_spreadsheets_save_them(row, expected, tmp_path):
    found = MaskRow.of(row, tmp_path / TABLE)
    assert (found.index, found.label, found.ends) == expected


@pytest.mark.parametrize(("column", "value"), [("object", "organ"), ("first", "2.5"), ("last", "inf")])
def test_rows_without_whole_numbers(column, value, tmp_path):
    row = {"where": "outlines/a.nii.gz@3", "object": "1", "first": "1", "last": "2", column: value}
    with pytest.raises(UserError, match=f"outlines.csv has the {column} '{value}' in the row of outlines/a.nii.gz@3"):
        MaskRow.of(row, tmp_path / TABLE)


def test_columns_that_a_person_added_stay(outlining, cases, made):
    assert outlining.run(cases[:1], made) == {}
    header, organ, lesion = (made.folder / TABLE).read_text().splitlines()
    box = f'{cases[0].image},box,"1,2,3:1,4,5",1,0,,,mm,a.nrrd,"größer, unten",Zoë'
    edited = [f"{header},unit,output,Remark,Seen by", f"{organ},,a.nrrd,,", f"{lesion},,,,", box]
    (made.folder / TABLE).write_text("\n".join(edited) + "\n", encoding="latin-1")
    assert outlining.run(cases, made) == {}
    found = (made.folder / TABLE).read_text("utf-8").splitlines()
    assert found[:4] == edited and len(found) == 6 and "new_2.nii.gz@3,1,0,,,,,," in found[4]


def test_revised_outlines_go_exactly_to_the_slices_that_are_named(outlining, dataset, cases, made, folders, session):
    assert outlining.run(cases[:1], made) == {}
    text = (made.folder / TABLE).read_text().splitlines()
    (made.folder / TABLE).write_text("\n".join([text[0], text[1][:-1] + "2,5", text[2]]) + "\n")
    labels = read(made.outline("new_1"))
    organ = int((labels[3] == 1).sum())
    revised = labels.copy()
    revised[3][np.nonzero(labels[3] == 1)[0].min(), :] = 1  # one row to both sides
    added = int((revised[3] == 1).sum()) - organ
    assert added > 0
    write(folders / "revised" / "new_1.nii.gz", revised)

    (case,) = cases_of_table(made.folder / TABLE, dataset, folders / "revised")
    assert case.name == "new_1" and [line.extent for line in case.given] == [(2, 5), None]
    ranking = Ranking(outlining.session, dataset.objects, previews=False)
    assert ranking.run([case], made) == {}
    found = read(made.mask("new_1"))
    first, second = made.cases["new_1"].objects
    assert first.outline_dice == pytest.approx(2 * organ / (2 * organ + added)) and second.outline_dice == 1.0
    assert set(np.flatnonzero((found == 1).any(axis=(1, 2)))) <= {2, 3, 4, 5} and (found[2] == 1).any()

    session.set_image(case.image)
    session.add_mask(revised[3] == 1, 3, 1)
    session.add_mask(revised[4] == 3, 4, 3)
    session.propagate([1], slices=(2, 5))
    session.propagate([3])
    np.testing.assert_array_equal(found, session.labels())
    ranked = list(csv.DictReader((made.folder / "ranking.csv").read_text().splitlines()))
    assert [row["outline_dice"] for row in ranked] == [f"{first.outline_dice:.4f}", "1.0000"]
    assert Round.read(made.folder).cases == made.cases


def test_an_unseen_object_does_not_get_the_mask_of_another_on_its_slice(
    outlining, dataset, images, made, folders, monkeypatch
):
    def blind(self, object_id, axis, index):
        if object_id == 3:
            self.remove_object(3)
            raise PromptError("SAM 2 sees nothing")
        return predict(self, object_id, axis, index)

    predict = InteractiveSession.predict_slice
    given = (BOX, PromptLine("point", "3,15,15", 3))
    with monkeypatch.context() as patched:
        patched.setattr(InteractiveSession, "predict_slice", blind)
        assert outlining.run([Unlabelled("new_1", images / "new_1_0000.nii.gz", given)], made) == {}
    labels = read(made.outline("new_1"))
    assert set(np.unique(labels)) == {0, 1}  # the only label of the file is not object 3's
    (case,) = cases_of_table(made.folder / TABLE, dataset)
    ranking = Ranking(outlining.session, dataset.objects, previews=False)
    failed = ranking.run([case], made)
    assert "new_1.nii.gz has no voxel of object 3 on slice 3: draw it" in failed["new_1"]
    elsewhere = Round(folders / "another", MADE_BY)
    assert "no voxel of object 3" in ranking.run([case], elsewhere)["new_1"]

    labels[3, :, :9][labels[3, :, :9] == 0] = 3
    write(folders / "revised" / "new_1.nii.gz", labels)
    (case,) = cases_of_table(made.folder / TABLE, dataset, folders / "revised")
    assert ranking.run([case], made) == {}
    assert [scored.outline_dice for scored in made.cases["new_1"].objects] == [1.0, 0.0]
    np.testing.assert_array_equal(read(made.mask("new_1"))[3], labels[3])


def test_what_was_drawn_on_a_slice_without_a_row_is_not_ignored(outlining, dataset, cases, made, folders):
    assert outlining.run(cases[:1], made) == {}
    labels = read(made.outline("new_1"))
    labels[5, 10:20, 10:20] = 3
    write(folders / "revised" / "new_1.nii.gz", labels)
    (case,) = cases_of_table(made.folder / TABLE, dataset, folders / "revised")
    ranking = Ranking(outlining.session, dataset.objects, previews=False)
    failed = ranking.run([case], made)
    assert "new_1.nii.gz has voxels of object 3 on slice 5, but the table has no row for that" in failed["new_1"]
    table = (made.folder / TABLE).read_text()
    # without a slice, the object is prompted where it is largest, and may be on others, too
    (made.folder / TABLE).write_text(table.replace("@4", ""))
    (case,) = cases_of_table(made.folder / TABLE, dataset, folders / "revised")
    assert ranking.run([case], Round(folders / "another", MADE_BY)) == {}
    (made.folder / TABLE).write_text(table + table.splitlines()[-1].replace("@4", "@5") + "\n")
    (case,) = cases_of_table(made.folder / TABLE, dataset, folders / "revised")
    assert ranking.run([case], made) == {}


def test_masks_that_were_drawn_anew_are_compared_on_their_slice(outlining, cases, made, folders):
    assert outlining.run(cases[:1], made) == {}
    labels = read(made.outline("new_1"))
    # another program's file of one object, whose label is its own
    file = write(folders / "new_1.nii.gz", ((labels == 3) * 7).astype(np.uint8))
    drawn = PromptLine("mask", f"{file}@4", 3)
    assert outline_dice(made, "new_1", [drawn, BOX]) == {3: 1.0}
    assert outline_dice(made, "new_1", [PromptLine("mask", f"{file}@5", 3)]) == {}  # on another slice
    assert outline_dice(made, "new_2", [drawn]) == {}
    write(made.outline("new_1"), np.zeros_like(labels))
    with pytest.raises(UserError, match="is not the mask that the model wrote: put revised masks into another folder"):
        outline_dice(made, "new_1", [drawn])


def test_revised_masks_need_the_names_of_others(outlining, dataset, cases, made, folders):
    assert outlining.run(cases[:1], made) == {}
    write(folders / "revised" / "new_2.nii.gz", read(made.outline("new_1")))
    with pytest.raises(UserError, match="new_2.nii.gz is the name of no mask in .*outlines.csv, expected new_1.nii.gz"):
        cases_of_table(made.folder / TABLE, dataset, folders / "revised")
    with pytest.raises(UserError, match="--revised is .*nowhere, but must be a folder"):
        cases_of_table(made.folder / TABLE, dataset, folders / "nowhere")


def test_outlines_are_along_one_axis(outlining, images, made):
    case = Unlabelled("new_1", images / "new_1_0000.nii.gz", (BOX, PromptLine("point", "4,15,15", 3, axis=2)))
    failed = outlining.run([case], made)
    assert "along several axes" in failed["new_1"]
