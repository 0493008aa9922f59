"""A round's queue: what a person makes of each case is what the commands of the round take."""

import csv
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnunetv2_sam2_3dmed import locks
from nnunetv2_sam2_3dmed.annotation.outlines import TABLE, Outlining, check_masks
from nnunetv2_sam2_3dmed.annotation.queue import RoundQueue
from nnunetv2_sam2_3dmed.annotation.ranking import Ranking
from nnunetv2_sam2_3dmed.annotation.rounds import ObjectScore, RankedCase, Round
from nnunetv2_sam2_3dmed.annotation.taking import Review, choose
from nnunetv2_sam2_3dmed.annotation.times import LOCK, Sitting, read_times
from nnunetv2_sam2_3dmed.annotation.unlabelled import Unlabelled, cases_of_table
from nnunetv2_sam2_3dmed.commands.main import build_parser
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.prompt_lines import PromptLine
from nnunetv2_sam2_3dmed.locks import held
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from tests.annotation.conftest import MADE_BY, SHAPE, machine, read, write

NAMES = {1: "organ", 3: "lesion"}


@pytest.fixture
def ranked(dataset, images, folders) -> Round:
    """A round with two cases in the second stage; the model is surer of the first."""
    made = Round(folders / "round a", MADE_BY)
    for number, disagreement in ((1, 0.04), (2, 0.3)):
        name = f"new_{number}"
        mask = write(made.mask(name), machine(number))
        scored = [ObjectScore(1, "organ", disagreement, None, 300), ObjectScore(3, "lesion", 0.01, 0.02, 4)]
        image = images / f"{name}_0000.nii.gz"
        sums = sha256_of(image), sha256_of(mask)
        made.cases[name] = RankedCase(str(image), sums[0], ["box"], ["box"], sums[1], "2026-01-01", scored)
    made.save()
    return made


@pytest.fixture
def outlined(lively_network, dataset, images, folders) -> Round:
    """A round with two cases in the first stage, of slices 3 and 4."""
    made = Round(folders / "lesions", MADE_BY)
    prompts = (PromptLine("box", "3,10,12:3,30,33", 1), PromptLine("point", "4,15,15", 3))
    cases = [Unlabelled(f"new_{n}", images / f"new_{n}_0000.nii.gz", prompts) for n in (1, 2)]
    session = InteractiveSession(lively_network, "cpu", "float32")
    assert Outlining(session, dataset.objects, previews=False).run(cases, made) == {}
    return made


def rows(made: Round) -> list[tuple[str, ...]]:
    found = csv.DictReader((made.folder / TABLE).read_text("utf-8").splitlines())
    return [(row["where"].split("/")[1], row["object"], row["first"], row["last"]) for row in found]


def test_volumes_come_with_the_hardest_first_and_are_taken(ranked, dataset):
    queue = RoundQueue(ranked.folder, NAMES)
    assert [(case.name, case.stage, case.objects, case.done) for case in queue.cases()] == [
        ("new_2", "volume", (1, 3), False),
        ("new_1", "volume", (1, 3), False),
    ]
    hard, easy = queue.cases()
    image, masks = queue.read(hard)
    np.testing.assert_array_equal(sum(value * mask for value, mask in masks.items()), machine(2))
    corrected = machine(2)
    corrected[0, 0, 0] = 3
    queue.finish(hard, corrected, image, Sitting({1: 12.5}))
    queue.finish(easy, machine(1), queue.read(easy)[0], Sitting({}))
    assert [case.done for case in queue.cases()] == [True, True]
    np.testing.assert_array_equal(read(ranked.folder / "corrected" / "new_2.nii.gz"), corrected)
    # a case that is opened again shows what the person had made of it, and the time adds up
    again, masks = queue.read(queue.find("new_2"))
    assert masks[3][0, 0, 0]
    queue.finish(queue.find("new_2"), corrected, again, Sitting({1: 2.0, 3: 4.0}))
    assert {one.place: one.person for one in read_times(ranked.folder)} == {
        ("new_2", 1, "volume"): 14.5,
        ("new_2", 3, "volume"): 4.0,
        ("new_1", 1, "volume"): 0.0,
        ("new_1", 3, "volume"): 0.0,
    }
    # the next command takes both: the one that was not changed as confirmed
    words = shlex.split(queue.command())
    assert words[:4] == ["sam2_3dmed", "annotate", "take", "-d"]
    given = {word: words[k + 1] for k, word in enumerate(words) if word.startswith("--")}
    assert given["--round"] == str(ranked.folder)
    review = Review(Path(given["--corrected"]), [given["--confirmed"]], None, "Ada", True, False)
    taken = {one.case: one.annotation.source for one in choose(dataset, ranked, review)}
    assert taken == {"new_1": "confirmed", "new_2": "corrected"}


def test_outlines_and_their_ends_are_propagated(outlined, dataset, lively_network):
    queue = RoundQueue(outlined.folder, NAMES)
    case = queue.find("new_1")
    assert (case.stage, case.axis, case.objects) == ("outline", 0, (1, 3))
    image, _ = queue.read(case)
    # the person draws the organ on two slices, and erases the lesion
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[3:5, 12:20, 15:30] = 1
    queue.finish(case, drawn, image, Sitting({1: 30.0}), {1: (2, 5)})
    assert rows(outlined) == [
        ("new_2.nii.gz@3", "1", "", ""),
        ("new_2.nii.gz@4", "3", "", ""),
        ("new_1.nii.gz@3", "1", "2", "5"),
        ("new_1.nii.gz@4", "1", "2", "5"),
    ]
    assert queue.extents(queue.find("new_1")) == {1: (0, 2, 5)} and queue.extents(queue.find("new_2")) == {}
    person = {one.place: (one.person, one.person_voxels) for one in read_times(outlined.folder)}
    assert person["new_1", 1, "outline"] == (30.0, 240) and person["new_1", 3, "outline"] == (0.0, 0)

    # the second stage takes them, and goes no further than the ends
    words = shlex.split(queue.command())
    assert words[2] == "rank" and words[words.index("--prompts") + 1] == str(outlined.folder / TABLE)
    revised = Path(words[words.index("--revised") + 1])
    (found, _) = sorted(cases_of_table(outlined.folder / TABLE, dataset, revised), key=lambda one: one.name)
    session = InteractiveSession(lively_network, "cpu", "float32")
    session.set_image(found.image)
    check_masks(session, outlined, "new_1", found.given)
    session.clear()
    assert Ranking(session, dataset.objects, previews=False).run([found], outlined) == {}
    labels = read(outlined.mask("new_1"))
    np.testing.assert_array_equal(labels[3:5], drawn[3:5])
    assert not labels[:2].any() and not labels[6:].any()
    # it is in the second stage now; the other one is still in the first
    assert [(one.name, one.stage) for one in queue.cases()] == [("new_2", "outline"), ("new_1", "volume")]
    assert queue.extents(queue.find("new_1")) == {1: (0, 2, 5)}


def test_mistakes_of_the_first_stage_write_nothing(outlined):
    queue = RoundQueue(outlined.folder, NAMES)
    case = queue.find("new_1")
    image, _ = queue.read(case)
    before = rows(outlined)
    drawn = np.zeros(SHAPE, np.uint8)
    with pytest.raises(UserError, match="nothing is outlined in new_1"):
        queue.finish(case, drawn, image, Sitting({}))
    drawn[3, 5:9, 5:9] = 1
    for ends, message in (
        ({1: (4, 6)}, "organ goes from slice 4 to 6, but its mask is on slice 3"),
        ({1: (0, 2)}, "organ goes from slice 0 to 2, but its mask is on slice 3"),
        ({1: (5, 3)}, "the first slice of organ is 5 and the last 3, but they must be from 0 to 6, the first not"),
        ({1: (0, 7)}, "the first slice of organ is 0 and the last 7, but they must be from 0 to 6, the first not"),
        ({3: (1, 2)}, "lesion goes from slice 1 to 2, but it has no mask"),
    ):
        with pytest.raises(UserError, match=message):
            queue.finish(case, drawn, image, Sitting({}), ends)
    assert rows(outlined) == before and not queue.find("new_1").done


def test_those_chosen_of_each_patient_come_first(ranked):
    for name, disagreement, patient in (("other", 0.2, "p"), ("same", 0.25, "p")):
        ranked.cases[name] = replace(
            ranked.cases["new_1"], objects=[ObjectScore(1, "organ", disagreement, None, 300)], patient=patient
        )
    ranked.save()
    # the table that the command prints has the same order
    expected = ["same", "new_2", "other", "new_1"]
    queue = RoundQueue(ranked.folder, NAMES)
    assert [case.name for case in queue.cases()] == expected
    # the other one of the patient does not wait; those without a patient do
    assert [case.name for case in queue.cases() if case.waits] == ["same", "new_2", "new_1"]
    table = csv.DictReader((ranked.folder / "ranking.csv").read_text("utf-8").splitlines())
    assert list(dict.fromkeys(row["case"] for row in table)) == expected


def test_the_table_as_a_person_left_it(outlined):
    queue = RoundQueue(outlined.folder, NAMES)
    case = queue.find("new_1")
    image, _ = queue.read(case)
    table = outlined.folder / TABLE
    text = table.read_text("utf-8")
    # without the slice, the mask is that on which the object is largest
    table.write_text(text.replace("new_1.nii.gz@3,1,0,,", "new_1.nii.gz,1.0,0,2.0,5"), "utf-8")
    assert queue.extents(case) == {1: (0, 2, 5)}
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[3, 12:20, 15:30] = 1
    queue.finish(case, drawn, image, Sitting({}))
    assert [row for row in rows(outlined) if row[0].startswith("new_1")] == [("new_1.nii.gz@3", "1", "", "")]
    damaged = table.read_text("utf-8").replace("new_1.nii.gz@3,1", "new_1.nii.gz@3,organ")
    table.write_text(damaged, "utf-8")
    for job in (lambda: queue.extents(case), lambda: queue.finish(case, drawn, image, Sitting({}))):
        with pytest.raises(UserError, match="has the object 'organ' in the row of outlines/new_1.nii.gz@3"):
            job()
    assert table.read_text("utf-8") == damaged


def test_masks_that_take_too_much_are_not_made(ranked):
    asked = []

    def refuse(size):
        asked.append(size)
        raise UserError("too large")

    queue = RoundQueue(ranked.folder, NAMES)
    with pytest.raises(UserError, match="too large"):
        queue.read(queue.find("new_1"), None, refuse)
    assert asked == [2 * np.prod(SHAPE)]


def test_a_case_that_changed_since_it_was_opened_is_not_written(outlined, ranked):
    queue = RoundQueue(outlined.folder, NAMES)
    case = queue.find("new_1")
    image, _ = queue.read(case)
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[3, 12:20, 15:30] = 1
    before = rows(outlined)
    # the second stage has begun meanwhile, or the first one was repeated
    for change in (
        lambda made: made.cases.update(new_1=ranked.cases["new_1"]),
        lambda made: made.outlines.update(new_1=replace(outlined.outlines["new_1"], mask_sha256="other")),
    ):
        made = Round.read(outlined.folder)
        made.cases.pop("new_1", None)
        change(made)
        made.save()
        with pytest.raises(UserError, match="new_1 was segmented again since it was opened"):
            queue.finish(case, drawn, image, Sitting({1: 3.0}))
    made.cases.pop("new_1", None)
    del made.outlines["new_1"]
    made.save()
    with pytest.raises(UserError, match="no case 'new_1'"):
        queue.finish(case, drawn, image, Sitting({1: 3.0}))
    assert rows(outlined) == before and not case.done
    assert all(one.person is None for one in read_times(outlined.folder))


def test_seconds_count_once_after_an_error(ranked, monkeypatch):
    queue = RoundQueue(ranked.folder, NAMES)
    case = queue.find("new_1")
    image, _ = queue.read(case)
    (ranked.folder / "times.csv").write_text("case,object,stage,slices,machine_seconds,person_seconds\nnew_1,1,x,,,\n")
    with pytest.raises(UserError, match="has the stage 'x'"):
        queue.finish(case, machine(1), image, Sitting({1: 5.0, 3: 2.0}))
    assert not case.done  # a table that cannot be read is found first
    (ranked.folder / "times.csv").unlink()
    with monkeypatch.context() as busy, held(ranked.folder / LOCK):
        busy.setattr(locks, "SECONDS_TO_TRY", 0.0)
        with pytest.raises(UserError, match="another process is writing"):
            queue.finish(case, machine(1), image, Sitting({1: 5.0, 3: 2.0}))
    queue.finish(case, machine(1), image, Sitting({1: 5.0, 3: 2.0}))
    assert {one.label: one.person for one in read_times(ranked.folder)} == {1: 5.0, 3: 2.0}


def test_a_sitting_that_is_sent_again_counts_once(ranked):
    queue = RoundQueue(ranked.folder, NAMES)
    hard, easy = queue.cases()
    image, other = queue.read(hard)[0], queue.read(easy)[0]
    queue.finish(hard, machine(2), image, Sitting({1: 5.0, 3: 2.0}, {1: 1.0}, number=8))
    queue.finish(easy, machine(1), other, Sitting({1: 3.0}, number=8))  # another case's
    queue.finish(hard, machine(2), image, Sitting({1: 6.5}, {1: 0.25}, number=8))
    queue.finish(hard, machine(2), image, Sitting({1: 6.5, 3: 2.0}, number=8))
    queue.finish(hard, machine(2), image, Sitting({3: 4.0}, number=9))
    for _ in range(2):  # of a client that sends none again
        queue.finish(easy, machine(1), other, Sitting({3: 1.0}))
    assert {one.place[:2]: (one.person, one.machine) for one in read_times(ranked.folder)} == {
        ("new_2", 1): (6.5, 1.25),
        ("new_2", 3): (6.0, None),
        ("new_1", 1): (3.0, None),
        ("new_1", 3): (2.0, None),
    }


def test_an_image_without_an_object(outlined, dataset):
    queue = RoundQueue(outlined.folder, NAMES)
    first, second = queue.find("new_1"), queue.find("new_2")
    image, masks = queue.read(first)
    labels = sum(value * mask for value, mask in masks.items())
    assert labels.any()
    queue.finish(first, labels, image, Sitting({1: 4.0}), {1: (2, 5)}, empty=True)
    assert queue.find("new_1").done and queue.read(first)[1] == {} and queue.command() is None
    assert not [row for row in rows(outlined) if row[0].startswith("new_1")]
    queue.finish(second, labels, queue.read(second)[0], Sitting({}))
    # the next command takes the other one alone
    args = parsed(queue.command())
    (found,) = cases_of_table(args.prompts, dataset, args.revised)
    assert found.name == "new_2"
    # the person was wrong
    queue.finish(first, labels, image, Sitting({1: 2.0}))
    assert queue.read(first)[1].keys() == masks.keys() and not first.nothing.exists()
    args = parsed(queue.command())
    assert len(cases_of_table(args.prompts, dataset, args.revised)) == 2
    queue.finish(first, labels, image, Sitting({}), empty=True)
    assert queue.read(first)[1] == {} and not first.result.exists()


def test_a_volume_is_not_said_to_be_empty(ranked):
    queue = RoundQueue(ranked.folder, NAMES)
    case = queue.find("new_1")
    with pytest.raises(UserError, match="new_1 is a volume"):
        queue.finish(case, machine(1), queue.read(case)[0], Sitting({}), empty=True)
    assert not case.done


def parsed(command: str):
    words = shlex.split(command)
    assert words[0] == "sam2_3dmed"
    return build_parser(words[1:]).parse_args(words[1:])


@pytest.mark.parametrize("window", [["auto"], ["40", "400"], ["-600", "1500"]])
def test_the_next_command_has_the_rounds_settings(outlined, window):
    made = Round.read(outlined.folder)
    made.made_by.update(image_size=512, window=window)
    made.save()
    queue = RoundQueue(outlined.folder, NAMES)
    for case in queue.cases():
        image, masks = queue.read(case)
        queue.finish(case, sum(value * mask for value, mask in masks.items()), image, Sitting({}))
    args = parsed(queue.command())
    assert (args.action, args.model, args.image_size, args.window) == ("rank", "/m.pt", 512, window)
    assert args.group_by is None
    grouped = Round.read(outlined.folder)
    grouped.cases["new_3"] = RankedCase("", "", [], [], "", "", [ObjectScore(1, "organ", 0.1, None, 300)])
    grouped.group("^(new)_", per_patient=3)
    Round.read(outlined.folder).add()  # by a command without the rule
    grouping = parsed(queue.command())
    assert (grouping.group_by, grouping.per_patient) == ("^(new)_", 3)
    # the round goes on with what the command makes of them
    again = {**made.made_by, "window": args.window, "image_size": args.image_size, "model": args.model}
    assert Round.begin(args.round_folder, again).id == made.id


def test_volumes_that_stay_as_they_are_are_taken_though_labels_had_no_prompt(ranked, dataset):
    made = Round.read(ranked.folder)
    for name, case in made.cases.items():
        made.cases[name] = replace(case, objects=case.objects[:1])
    made.save()
    queue = RoundQueue(ranked.folder, NAMES)
    for case in queue.cases():
        queue.finish(case, machine(int(case.name[-1])), queue.read(case)[0], Sitting({}))
    args = parsed(queue.command())
    assert args.confirmed == ["new_2", "new_1"] and args.partial
    review = Review(args.corrected, args.confirmed, args.accept_below, args.annotator, args.partial, args.replace)
    assert {one.annotation.source for one in choose(dataset, made, review)} == {"confirmed"}


def test_files_that_are_not_those_of_the_round(ranked):
    queue = RoundQueue(ranked.folder, NAMES)
    case = queue.find("new_1")
    with pytest.raises(UserError, match="no case 'other'"):
        queue.find("other")
    with pytest.raises(UserError, match=r"voxels of 3, but the labels of Dataset301_Tiny are 1"):
        RoundQueue(ranked.folder, {1: "organ"}).read(case)
    write(case.mask, machine(3))
    with pytest.raises(UserError, match="was changed or removed since the model segmented it: restore the file"):
        queue.read(case)
    case.image.unlink()
    with pytest.raises(UserError, match=r"new_1_0000.nii.gz was changed or removed"):
        queue.read(case)
