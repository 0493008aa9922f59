"""Protocols on a real session: what is prompted, and what is written."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.prompting.benchmark import PromptBenchmark
from nnunetv2_sam2_3dmed.prompting.cases import PromptedCase, RawCase, raw_cases
from nnunetv2_sam2_3dmed.prompting.protocols import protocols
from tests.interactive.reference import phantom

SHAPE = (5, 40, 48)
CLASSES = {"large": (1,), "small": (3,), "absent": (4,)}


def truth() -> np.ndarray:
    """A box of 20 x 22 voxels on slices 1 to 3, and one of 4 x 5 on slice 2."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:4, 8:28, 10:32] = 1
    labels[2, 30:34, 36:41] = 3
    return labels


@pytest.fixture
def case(tmp_path) -> RawCase:
    """Stored with rows running to the front and columns to the right, as NIfTI files usually are."""
    files = []
    for name, array in (("image", phantom(SHAPE)), ("label", truth())):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((1.0, 1.0, 2.0))
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        files.append(tmp_path / f"{name}.nii.gz")
        sitk.WriteImage(image, str(files[-1]))
    return RawCase("case_01", *files)


@pytest.fixture
def session(lively_network) -> InteractiveSession:
    return InteractiveSession(lively_network, "cpu", "float32")


def test_prompts_reach_the_session_where_they_were_meant(session, case):
    prompted = PromptedCase(session, case, CLASSES, None, axis=0)
    assert sorted(prompted.truths) == [1, 2]
    seen = prompted.truths[2]
    assert seen[2, 40 - 34 : 40 - 30, 48 - 41 : 48 - 36].all() and seen.sum() == 20
    prompted.box(2, 2, (6, 7, 10, 12))
    prompted.box(1, 2, (12, 16, 32, 38))
    by_object = {prompt.object_id: prompt for prompt in session.prompts}
    if 2 in by_object:  # the network may see nothing in it, and then takes it back
        assert by_object[2].prompt.box == (6, 7, 10, 12) and by_object[2].index == 2
    assert by_object[1].prompt.box == (12, 16, 32, 38)


def test_masks_scores_and_rounds(session, case, tmp_path):
    known = protocols(2)
    chosen = [known[name] for name in ("2_clicks", "1_mask", "box", "boxes")]
    out = tmp_path / "out"
    benchmark = PromptBenchmark(session, CLASSES, [1, 3, 4], None, tolerance_mm=2.0)
    lines: list[str] = []
    measured = benchmark.run([case], chosen, out, lines.append)

    assert lines == ["1/1 case_01"] and measured.absent == {"case_01": ["absent"]}
    scores = {(s.protocol, s.class_name, s.area): s for s in measured.scores}
    # only the large object has slices of more than 256 voxels
    assert {key[1:] for key in scores} == {("large", "all"), ("small", "all"), ("large", "salient")}
    assert scores["boxes", "large", "all"].prompts == 3 and scores["box", "large", "all"].prompts == 1
    for protocol in ("2_clicks", "1_mask", "box", "boxes"):
        written = sitk.ReadImage(str(out / protocol / "case_01.nii.gz"))
        assert written.GetDirection() == (-1, 0, 0, 0, -1, 0, 0, 0, 1) and written.GetSpacing() == (1.0, 1.0, 2.0)
        labels = sitk.GetArrayFromImage(written)
        assert set(np.unique(labels)) <= {0, 1, 3}
        found, there = labels == 1, truth() == 1
        dice = 2 * (found & there).sum() / (found.sum() + there.sum())
        assert scores[protocol, "large", "all"].metrics.dice == pytest.approx(dice)
    # a mask that was drawn comes back as it was drawn, and what overlaps it is another object
    drawn = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "1_mask" / "case_01.nii.gz")))[2]
    assert (drawn[truth()[2] == 0] == 0).all()
    turns = [t for t in measured.interactions if t.protocol == "1_mask"]
    assert [t.slice_dice for t in turns] == [1.0, 1.0] and all(t.seconds > 0 for t in measured.interactions)
    clicks = [t for t in measured.interactions if (t.protocol, t.class_name) == ("2_clicks", "large")]
    assert [t.number for t in clicks] == [1, 2]


def test_the_same_seed_gives_the_same_masks_whatever_else_is_run(session, case, tmp_path):
    clicks, box = protocols(1)["1_clicks"], protocols(1)["box"]
    benchmark = PromptBenchmark(session, CLASSES, [1, 3, 4], None, tolerance_mm=2.0, seed=5)
    first = benchmark.run([case], [clicks], tmp_path / "a")
    second = benchmark.run([case], [box, clicks], tmp_path / "b")
    dice = [
        [s.metrics.dice for s in measured.scores if s.protocol == "1_clicks" and s.area == "all"]
        for measured in (first, second)
    ]
    assert dice[0] == dice[1] and len(dice[0]) == 2


def test_cases_that_are_not_there_are_named(tmp_path):
    dataset = {"file_ending": ".nii.gz", "labels": {"background": 0, "a": 1}}
    with pytest.raises(UserError, match="does not exist, but prompts are given on the raw images"):
        raw_cases(tmp_path / "none", dataset, ["a"])
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
    (tmp_path / "imagesTr" / "a_0000.nii.gz").touch()
    assert raw_cases(tmp_path, dataset, ["a"])[0].truth == tmp_path / "labelsTr" / "a.nii.gz"
    with pytest.raises(UserError, match="lacks the images of b"):
        raw_cases(tmp_path, dataset, ["a", "b"])
    with pytest.raises(UserError, match="the channel is 1, but a has 1"):
        raw_cases(tmp_path, dataset, ["a"], channel=1)
