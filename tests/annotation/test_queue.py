"""A round's queue: what a person makes of each case is what the commands of the round take."""

import csv
import shlex
from pathlib import Path

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.annotation.outlines import TABLE, Outlining, check_masks
from nnunetv2_sam2_3dmed.annotation.queue import RoundQueue
from nnunetv2_sam2_3dmed.annotation.ranking import Ranking
from nnunetv2_sam2_3dmed.annotation.rounds import ObjectScore, RankedCase, Round
from nnunetv2_sam2_3dmed.annotation.taking import Review, choose
from nnunetv2_sam2_3dmed.annotation.times import read_times
from nnunetv2_sam2_3dmed.annotation.unlabelled import Unlabelled, cases_of_table
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.prompt_lines import PromptLine
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from tests.annotation.conftest import SHAPE, read, write

MADE_BY = {"dataset": "Dataset301_Tiny", "file_ending": ".nii.gz", "model": "/m.pt", "model_sha256": "abc"}
NAMES = {1: "organ", 3: "lesion"}


def machine(number: int) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[2:5, 10:20, 10 : 20 + number] = 1
    mask[3, 12:14, 12:14] = 3
    return mask


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
    queue.finish(hard, corrected, image, {1: 12.5})
    queue.finish(easy, machine(1), queue.read(easy)[0], {})
    assert [case.done for case in queue.cases()] == [True, True]
    np.testing.assert_array_equal(read(ranked.folder / "corrected" / "new_2.nii.gz"), corrected)
    # a case that is opened again shows what the person had made of it, and the time adds up
    again, masks = queue.read(queue.find("new_2"))
    assert masks[3][0, 0, 0]
    queue.finish(queue.find("new_2"), corrected, again, {1: 2.0, 3: 4.0})
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
    queue.finish(case, drawn, image, {1: 30.0}, {1: (2, 5)})
    assert rows(outlined) == [
        ("new_2.nii.gz@3", "1", "", ""),
        ("new_2.nii.gz@4", "3", "", ""),
        ("new_1.nii.gz@3", "1", "2", "5"),
        ("new_1.nii.gz@4", "1", "2", "5"),
    ]
    assert queue.extents(queue.find("new_1")) == {1: (2, 5)} and queue.extents(queue.find("new_2")) == {}
    person = {one.place: one.person for one in read_times(outlined.folder)}
    assert person["new_1", 1, "outline"] == 30.0 and person["new_1", 3, "outline"] == 0.0

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


def test_mistakes_of_the_first_stage_write_nothing(outlined):
    queue = RoundQueue(outlined.folder, NAMES)
    case = queue.find("new_1")
    image, _ = queue.read(case)
    before = rows(outlined)
    drawn = np.zeros(SHAPE, np.uint8)
    with pytest.raises(UserError, match="nothing is outlined in new_1"):
        queue.finish(case, drawn, image, {})
    drawn[3, 5:9, 5:9] = 1
    for ends, message in (
        ({1: (4, 6)}, "organ goes from slice 4 to 6, but its mask is on slice 3"),
        ({1: (0, 2)}, "organ goes from slice 0 to 2, but its mask is on slice 3"),
        ({1: (5, 3)}, "organ goes from slice 5 to 3, but slices are 0 to 6"),
        ({1: (0, 7)}, "organ goes from slice 0 to 7, but slices are 0 to 6"),
        ({3: (1, 2)}, "lesion goes from slice 1 to 2, but it has no mask"),
    ):
        with pytest.raises(UserError, match=message):
            queue.finish(case, drawn, image, {}, ends)
    assert rows(outlined) == before and not queue.find("new_1").done


def test_files_that_are_not_those_of_the_round(ranked):
    queue = RoundQueue(ranked.folder, NAMES)
    case = queue.find("new_1")
    with pytest.raises(UserError, match="no case 'other'"):
        queue.find("other")
    with pytest.raises(UserError, match=r"voxels of 3, but the labels of Dataset301_Tiny are 1"):
        RoundQueue(ranked.folder, {1: "organ"}).read(case)
    write(case.mask, machine(3))
    with pytest.raises(UserError, match="is not the file of the round"):
        queue.read(case)
    case.image.unlink()
    with pytest.raises(UserError, match=r"new_1_0000.nii.gz is missing"):
        queue.read(case)
