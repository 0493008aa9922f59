"""Cases segmented by a network of random weights: masks, order, and going on."""

import csv
import json

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.annotation import ranking as ranking_module
from nnunetv2_sam2_3dmed.annotation.disagreement import SegmentedObject, between_directions, between_prompts
from nnunetv2_sam2_3dmed.annotation.ranking import Ranking, is_done
from nnunetv2_sam2_3dmed.annotation.rounds import ObjectScore, RankedCase, Round, as_csv, chosen_cases
from nnunetv2_sam2_3dmed.annotation.unlabelled import Unlabelled
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.interactive.prompt_lines import PromptLine
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from tests.annotation.conftest import SHAPE, read, write

MADE_BY = {"dataset": "Dataset301_Tiny", "file_ending": ".nii.gz", "model": "m", "model_sha256": "abc"}
BOX = PromptLine("box", "3,10,12:3,30,33", 1)
CLICK = PromptLine("point", "4,15,15", 3)


@pytest.fixture
def ranking(lively_network, dataset) -> Ranking:
    return Ranking(InteractiveSession(lively_network, "cpu", "float32"), dataset.objects, previews=False)


@pytest.fixture
def unmeasured(monkeypatch):
    """Leaves out the propagations that only measure disagreement."""
    monkeypatch.setattr(ranking_module, "between_prompts", lambda session, segmented: 0.25)
    monkeypatch.setattr(ranking_module, "between_directions", lambda session, segmented: None)


def test_a_case_as_a_user_would_have_measured_it(ranking, lively_network, images, folders):
    case = Unlabelled("new_1", images / "new_1_0000.nii.gz", (BOX, CLICK))
    made = Round(folders / "round", MADE_BY)
    with_preview = Ranking(ranking.session, ranking.objects)
    assert with_preview.run([case], made) == {}
    assert (folders / "round" / "previews" / "new_1.png").stat().st_size > 1000

    session = InteractiveSession(lively_network, "cpu", "float32")
    session.set_image(case.image)
    session.add_box((3, 10, 12), (3, 30, 33), 1)
    session.add_points([(4, 15, 15)], 1, 3)
    session.propagate()
    labels, masks = session.labels(), {number: session.mask(number) for number in (1, 3)}
    np.testing.assert_array_equal(read(made.mask("new_1")), labels)
    assert made.cases["new_1"].mask_sha256 == sha256_of(made.mask("new_1"))
    assert made.cases["new_1"].image_sha256 == sha256_of(case.image)
    organ, lesion = made.cases["new_1"].objects
    assert (organ.label, organ.name, lesion.label, lesion.name) == (1, "organ", 3, "lesion")
    for scored, index, boxed in ((organ, 3, True), (lesion, 4, False)):
        segmented = SegmentedObject(scored.label, 0, index, boxed, masks[scored.label])
        assert scored.between_prompts == between_prompts(session, segmented)
        assert scored.between_directions == between_directions(session, segmented)
        assert scored.voxels == (labels == scored.label).sum()
    assert made.cases["new_1"].disagreement == max(organ.disagreement, lesion.disagreement)


def test_objects_end_where_the_annotator_says(ranking, images, folders):
    box = PromptLine("box", "3,10,12:3,30,33", 1, extent=(2, 4))
    case = Unlabelled("new_1", images / "new_1_0000.nii.gz", (box,))
    made = Round(folders / "round", MADE_BY)
    assert ranking.run([case], made) == {}
    labels = read(made.mask("new_1"))
    assert np.flatnonzero((labels == 1).any(axis=(1, 2))).tolist() == [2, 3, 4]
    assert made.cases["new_1"].prompts[0].endswith("slices 2 to 4")
    (scored,) = made.cases["new_1"].objects
    assert (scored.axis, scored.first, scored.last) == (0, 2, 4)
    with pytest.raises(UserError, match="with other prompts"):  # other slices are another case
        is_done(Unlabelled("new_1", case.image, (BOX,)), made, None)


def test_what_is_done_is_not_done_again_and_what_fails_stops_nothing(ranking, unmeasured, images, folders):
    cases = [
        Unlabelled("bad", images / "new_1_0000.nii.gz", (PromptLine("point", "4,15,900", 1),)),
        Unlabelled("new_1", images / "new_1_0000.nii.gz", (BOX,)),
    ]
    made = Round.begin(folders / "round", MADE_BY)
    said = []
    failed = ranking.run(cases, made, said.append)
    assert list(failed) == ["bad"] and "lies outside the image" in failed["bad"] and len(said) == 2
    mask, entry = made.mask("new_1"), made.cases["new_1"]
    assert json.loads((folders / "round" / "round.json").read_text())["cases"]["new_1"]["image"] == entry.image

    again = Round.begin(folders / "round", MADE_BY)
    written = mask.stat().st_mtime_ns
    assert again.cases == made.cases
    assert ranking.run(cases[1:], again, said.append) == {} and len(said) == 2 and mask.stat().st_mtime_ns == written
    mask.unlink()
    ranking.run(cases[1:], again, said.append)
    assert len(said) == 3 and sha256_of(mask) == entry.mask_sha256


def test_another_model_or_other_prompts_need_another_folder(images, folders):
    image = images / "new_1_0000.nii.gz"
    case = Unlabelled("new_1", image, (BOX,))
    made = Round(folders / "round", MADE_BY)
    made.cases["new_1"] = RankedCase(
        str(image), sha256_of(image), case.source(0), [], "", "", [ObjectScore(1, "organ", 0.1, None, 5)]
    )
    made.save()
    made.mask("new_1").parent.mkdir()
    made.mask("new_1").touch()
    assert is_done(case, made, 0)
    with pytest.raises(UserError, match="with other prompts"):
        is_done(Unlabelled("new_1", image, (CLICK,)), made, 0)
    assert Round.begin(folders / "round", {**MADE_BY, "model": "elsewhere"}).id == made.id
    with pytest.raises(UserError, match=r"a round with model \(SHA-256\) abc, but now it is def: repeat"):
        Round.begin(folders / "round", {**MADE_BY, "model_sha256": "def"})
    write(image, np.zeros(SHAPE))
    with pytest.raises(UserError, match="with other image"):
        is_done(case, made, 0)


def test_other_contents_and_another_axis_are_other_prompts(images, folders):
    labels = np.zeros(SHAPE, dtype=np.uint8)
    prediction = write(folders / "predictions" / "new_1.nii.gz", labels)
    drawn = write(folders / "drawn.nii.gz", labels)
    image = images / "new_1_0000.nii.gz"
    for case, file in (
        (Unlabelled("new_1", image, prediction=prediction), prediction),
        (Unlabelled("new_1", image, (PromptLine("mask", f"{drawn}@2", 1),)), drawn),
    ):
        before = case.source(0)
        assert case.source(0) == before and sha256_of(file) in before[0]
        write(file, labels + 1)
        assert case.source(0) != before
    assert case.source(1) == case.source(0)  # the table says along which axis
    predicted = Unlabelled("new_1", image, prediction=prediction)
    assert predicted.source(1) != predicted.source(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-40], "is no valid JSON .* make the round again"),
        (lambda text: "[]", "is not what `sam2_3dmed annotate outline` or `rank` writes"),
        (lambda text: '{"cases": {"a": {}}}', "is not what `sam2_3dmed annotate outline` or `rank` writes"),
        (lambda text: text.replace('"new_1"', '"../new_1"'), "../new_1"),
        (lambda text: text.replace('"new_1"', '".new_1"'), ".new_1"),
        (lambda text: text.replace('"model_sha256"', '"sha256"'), "model_sha256"),
        (lambda text: text.replace('".nii.gz"', '"/../x"'), "/../x"),
        (lambda text: text.replace("0.1", '"much"'), "is not what `sam2_3dmed annotate outline` or `rank` writes"),
    ],
)
def test_damaged_and_foreign_rounds(folders, change, message):
    made = Round(folders / "round", MADE_BY)
    made.cases["new_1"] = RankedCase("i", "", [], [], "", "", [ObjectScore(1, "organ", 0.1, None, 5)])
    made.save()
    assert Round.read(folders / "round") == made
    file = folders / "round" / "round.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(UserError, match=message):
        Round.read(folders / "round")


def test_an_object_that_is_not_seen_is_the_hardest(ranking, images, folders, monkeypatch):
    def blind(*_):
        from nnunetv2_sam2_3dmed.interactive import PromptError

        ranking.session.reset()
        raise PromptError("SAM 2 sees no object")

    monkeypatch.setattr(ranking.session, "predict_slice", blind)
    made = Round(folders / "round", MADE_BY)
    assert ranking.run([Unlabelled("new_1", images / "new_1_0000.nii.gz", (BOX,))], made) == {}
    assert made.cases["new_1"].objects == [ObjectScore(1, "organ", 1.0, None, 0)]
    assert not read(made.mask("new_1")).any()


def test_the_hardest_case_comes_first():
    def ranked(*scores):
        return RankedCase("", "", [], [], "", "", list(scores))

    cases = {
        "easy": ranked(ObjectScore(1, "organ", 0.1, 0.2, 9)),
        "hard": ranked(ObjectScore(1, "organ", 0.05, None, 9), ObjectScore(3, "lesion", 0.3, 0.7, 2)),
        "also": ranked(ObjectScore(1, "organ", 0.2, 0.0, 9)),
    }
    rows = list(csv.DictReader(as_csv(cases).splitlines()))
    assert [row["case"] for row in rows] == ["hard", "hard", "also", "easy"]
    assert [row["case_disagreement"] for row in rows] == ["0.7000", "0.7000", "0.2000", "0.2000"]
    assert [row["disagreement"] for row in rows] == ["0.0500", "0.7000", "0.2000", "0.2000"]
    assert rows[0]["between_directions"] == "" and rows[1]["between_prompts"] == "0.3000"


def test_of_each_patient_the_hardest_case_is_chosen():
    def ranked(disagreement, patient):
        return RankedCase("", "", [], [], "", "", [ObjectScore(1, "organ", disagreement, None, 9)], patient)

    cases = {
        "a_art": ranked(0.3, "a"),
        "a_t2": ranked(0.4, "a"),
        "b_art": ranked(0.1, "b"),
        "b_t2": ranked(0.05, "b"),
        "alone": ranked(0.9, ""),
    }
    rows = list(csv.DictReader(as_csv(cases).splitlines()))
    assert [(row["case"], row["patient"], row["chosen"]) for row in rows] == [
        ("a_t2", "a", "yes"),
        ("b_art", "b", "yes"),
        ("alone", "", ""),
        ("a_art", "a", "no"),
        ("b_t2", "b", "no"),
    ]
    assert chosen_cases({**cases, "a_dwi": ranked(0.35, "a")}, per_patient=2) == {"a_t2", "a_dwi", "b_art", "b_t2"}


def test_boxes_on_every_slice_are_the_second_opinion(ranking, lively_network, images, folders):
    image = images / "new_1_0000.nii.gz"
    boxes = tuple(PromptLine("box", f"{z},10,12:{z},30,{31 + z}", 1) for z in (2, 3, 4))
    made = Round(folders / "round", MADE_BY)
    assert ranking.run([Unlabelled("new_1", image, boxes)], made) == {}
    session = InteractiveSession(lively_network, "cpu", "float32")
    session.set_image(image)
    alone = []
    for z in (2, 3, 4):
        session.add_box((z, 10, 12), (z, 30, 31 + z))
        alone.append(session.predict_slice(1, 0, z).mask)
        session.reset()
    session.add_box((3, 10, 12), (3, 30, 35))  # the 3D box is as wide as the widest
    session.propagate(slices=(2, 4))
    both, propagated = np.stack(alone), session.mask()[2:5]
    (scored,) = made.cases["new_1"].objects
    assert scored.on_every_slice and scored.between_directions is None
    expected = 1 - 2 * (both & propagated).sum() / (both.sum() + propagated.sum())
    assert scored.between_prompts == scored.disagreement == pytest.approx(expected)
    assert 0 < expected < 1
    np.testing.assert_array_equal(read(made.mask("new_1"))[2:5] == 1, both)
    (row,) = csv.DictReader((made.folder / "ranking.csv").read_text().splitlines())
    assert row["second_prompt"] == "every slice"


def test_patients_are_known_to_a_round_that_is_read_again(folders):
    made = Round(folders / "round", MADE_BY)
    for name in ("p1_art", "p1_t2", "p2_t2"):
        made.cases[name] = RankedCase("i", "", [], [], "", "", [ObjectScore(1, "organ", 0.1, None, 5)])
    made.group("^(p[0-9]+)_", per_patient=2)
    again = Round.read(made.folder)
    assert [case.patient for case in again.cases.values()] == ["p1", "p1", "p2"] and again.per_patient == 2
    with pytest.raises(UserError, match="does not match the case"):
        made.group("^(p1)_")


def test_whatever_a_case_raises_the_others_are_ranked(ranking, unmeasured, images, folders, monkeypatch):
    segment = Ranking._segment

    def failing(self, prompts):
        if prompts[0] == CLICK:
            raise MemoryError
        segment(self, prompts)

    monkeypatch.setattr(Ranking, "_segment", failing)
    cases = [
        Unlabelled("bad", images / "new_1_0000.nii.gz", (CLICK,)),
        Unlabelled("new_2", images / "new_2_0000.nii.gz", (BOX,)),
    ]
    made = Round.begin(folders / "round", MADE_BY)
    failed = ranking.run(cases, made)
    assert list(failed) == ["bad"] and failed["bad"].startswith("MemoryError (not foreseen")
    assert list(made.cases) == ["new_2"] and [scored.label for scored in made.cases["new_2"].objects] == [1]
    assert not made.mask("bad").exists()
