"""Protocols on a real session: what is prompted, measured, and written."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import volume_from_array
from nnunetv2_sam2_3dmed.images.windows import AS_PICTURES
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.prompt_evaluation.benchmark import PromptBenchmark
from nnunetv2_sam2_3dmed.prompt_evaluation.experiment_file import PROTOCOLS
from nnunetv2_sam2_3dmed.prompt_evaluation.measurements import Measured
from nnunetv2_sam2_3dmed.prompt_evaluation.protocols import Protocol, Turn, clicks_on_the_middle_slice, protocols
from nnunetv2_sam2_3dmed.prompt_evaluation.raw_cases import RawCase, check_headers, raw_cases
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import Click, error_click
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated_user import SimulatedUser
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


def test_pictures_of_8_bits_are_shown_as_they_are(session, case):
    SimulatedUser(session, case, CLASSES, None, axis=0, window=AS_PICTURES)
    assert (session.window.low, session.window.high) == (0, 255)


def test_prompts_reach_the_session_where_they_were_meant(session, case):
    prompted = SimulatedUser(session, case, CLASSES, None, axis=0)
    assert sorted(prompted.gt) == [1, 2]
    seen = prompted.gt[2]
    assert seen[2, 40 - 34 : 40 - 30, 48 - 41 : 48 - 36].all() and seen.sum() == 20
    prompted.box(2, 2, (6, 7, 10, 12))
    prompted.box(1, 2, (12, 16, 32, 38))
    by_object = {prompt.object_id: prompt for prompt in session.prompts}
    if 2 in by_object:  # the network may see nothing in it, and then takes it back
        assert by_object[2].prompt.box == (6, 7, 10, 12) and by_object[2].index == 2
    assert by_object[1].prompt.box == (12, 16, 32, 38)


def test_diameters_reach_the_session_where_they_were_measured(session, case):
    prompted = SimulatedUser(session, case, CLASSES, None, axis=0)
    boxes = {}
    for name in ("recist", "recist_line"):
        session.reset()
        (turn,) = protocols()[name].interact(prompted, 1, np.random.default_rng(0))
        assert (turn.prompts, turn.rejected) == (1, 0) and turn.found.any()
        (placed,) = session.prompts
        boxes[name] = np.array(placed.prompt.box)
        assert placed.index == 2
    # 20 rows and 22 columns from (12, 16) in the view: the longest diameter is a diagonal, sqrt(20^2 + 22^2) long
    radius = np.hypot(20, 22) / 2
    np.testing.assert_allclose(boxes["recist_line"], (22 - radius, 27 - radius, 22 + radius, 27 + radius), atol=1e-6)
    tight = np.array((12, 16, 32, 38))
    assert (boxes["recist"][:2] <= tight[:2]).all() and (boxes["recist"][2:] >= tight[2:]).all()


def test_diameters_are_those_of_the_slice_with_the_longest_one(session, case):
    prompted = SimulatedUser(session, case, CLASSES, None, axis=0)
    prompted.gt[1][3, 12:34, 16:40] = True  # 22 rows and 24 columns, where slices 1 and 2 have 20 and 22
    for name in ("recist", "recist_line"):
        session.reset()
        (turn,) = protocols()[name].interact(prompted, 1, np.random.default_rng(0))
        assert (turn.prompts, turn.rejected) == (1, 0)
        (placed,) = session.prompts
        assert placed.index == 3
    radius = np.hypot(22, 24) / 2  # its circle around (23, 28)
    np.testing.assert_allclose(placed.prompt.box, (23 - radius, 28 - radius, 39, 28 + radius), atol=1e-6)
    session.reset()
    next(protocols()["box"].interact(prompted, 1, np.random.default_rng(0)))
    assert session.prompts[0].index == 2


def test_no_voxel_lies_outside_the_slices_that_are_named(session, case):
    prompted = SimulatedUser(session, case, CLASSES, None, axis=0)
    for name, free in (("box_within", "box"), ("1_mask_within", "1_mask")):
        masks = {}
        for protocol in (name, free):
            session.reset()
            (turn,) = protocols()[protocol].interact(prompted, 1, np.random.default_rng(0))
            masks[protocol] = turn.found
        assert masks[free][[0, 4]].any(), "the network goes on without being told"
        assert not masks[name][[0, 4]].any()
        np.testing.assert_array_equal(masks[name][1:4], masks[free][1:4])


def test_slices_are_named_as_the_array_has_them(session, case):
    """Along the last axis, the view of this image is the array the other way round."""
    prompted = SimulatedUser(session, case, CLASSES, None, axis=2)
    (turn,) = protocols()["1_mask_within"].interact(prompted, 1, np.random.default_rng(0))
    assert np.flatnonzero(turn.found.any(axis=(1, 2))).tolist() == list(range(48 - 32, 48 - 10))
    assert np.flatnonzero(session.mask(1).any(axis=(0, 1))).tolist() == list(range(10, 32))


def test_every_protocol_has_its_name():
    assert set(protocols(5)) == {"5_clicks" if name == "clicks" else name for name in PROTOCOLS}


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
        assert set(np.unique(sitk.GetArrayFromImage(written))) <= {0, 1, 3}
    # a mask that was drawn comes back as it was drawn, and what overlaps it is another object
    drawn = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "1_mask" / "case_01.nii.gz")))[2]
    assert (drawn[truth()[2] == 0] == 0).all()
    turns = [t for t in measured.interactions if t.protocol == "1_mask"]
    assert [t.slice_dice for t in turns] == [1.0, 1.0] and all(t.seconds > 0 for t in measured.interactions)
    clicks = [t for t in measured.interactions if (t.protocol, t.class_name) == ("2_clicks", "large")]
    assert [t.number for t in clicks] == [1, 2] and [t.prompts + t.rejected for t in clicks] == [1, 2]
    # one Dice under one name: that of the last round's object alone
    last = {(t.protocol, t.class_name): t.dice for t in measured.interactions}
    for (protocol, name, area), score in scores.items():
        if area == "all":
            assert score.metrics.dice == pytest.approx(last[protocol, name])


def as_user(gt: np.ndarray, name: str = "a"):
    """Simulated user without files or a network."""
    return SimpleNamespace(
        gt={1: gt},
        case=SimpleNamespace(name=name),
        image=volume_from_array(np.zeros(gt.shape, np.float32), (1.0, 1.0, 1.0)),
        view=SimpleNamespace(order=(0, 1, 2)),
        label_map=lambda values: np.zeros(gt.shape, np.uint8),
    )


def without_network(**options) -> PromptBenchmark:
    session = SimpleNamespace(reset=lambda: None)
    return PromptBenchmark(session, {"organ": (1,)}, [1], None, tolerance_mm=1.0, **options)


def test_salient_slices_have_more_than_256_voxels_of_the_object():
    gt = np.zeros((2, 20, 20), dtype=bool)
    gt[:, 2:18, 2:18] = True  # 256 on each slice
    assert set(without_network()._scored(as_user(gt), gt, gt)) == {"all"}
    gt[1, 0, 0] = True
    found = gt & (np.arange(2) == 1)[:, None, None]  # nothing on the slice that is not salient
    scores = without_network()._scored(as_user(gt), gt, found)
    assert scores["salient"].dice == 1.0 and scores["all"].dice == pytest.approx(2 * 257 / (513 + 257))


def test_each_seed_case_and_object_draws_its_own(tmp_path):
    drawn = []

    def interact(user, number, rng):
        drawn.append(float(rng.uniform()))
        yield Turn(1, 1, 0, 0.0, user.gt[number])

    protocol = Protocol("x", "x", "x", interact)
    gt = np.ones((2, 3, 4), dtype=bool)
    for seed, case in ((0, "a"), (0, "a"), (0, "b"), (1, "a")):
        (tmp_path / "x").mkdir(exist_ok=True)
        without_network(seed=seed)._run(as_user(gt, case), protocol, tmp_path, Measured())
    assert drawn[0] == drawn[1] and len(set(drawn)) == 3


def test_rounds_of_clicks_annotate_the_slice_before_they_propagate(lively_network, session, case):
    prompted = SimulatedUser(session, case, CLASSES, None, axis=0)
    rounds = list(clicks_on_the_middle_slice(3)(prompted, 1, np.random.default_rng(0)))
    assert len(rounds) == 3
    seen = prompted.gt[1]
    for turns in (1, 2, 3):
        # one who gives so many clicks in a session of his own, and then propagates once
        alone = InteractiveSession(lively_network, "cpu", "float32")
        other = SimulatedUser(alone, case, CLASSES, None, axis=0)
        rng = np.random.default_rng(0)
        found, clicks = np.zeros(seen.shape[1:], dtype=bool), []
        for _ in range(turns):
            clicks.append(error_click(seen[2], found, rng, clicks))
            other.click(1, 2, clicks[-1])
            found = other.found(1)[2]
        alone.propagate([1], 0)
        np.testing.assert_array_equal(rounds[turns - 1].found, other.found(1))


class Refusing(SimulatedUser):
    """A case with a SAM 2 that sees nothing at some clicks, and with a clock of its own."""

    refused: tuple[Click, ...] = ()
    blind = False
    clock = 0.0

    def click(self, number, index, click):
        self.clicks.append(click)
        self.clock += 1
        self.blind = click in self.refused
        return super().click(number, index, click)

    def propagate(self, number, extent=None):
        self.clock += 10
        super().propagate(number)

    def found(self, number):
        self.clock += 100
        return super().found(number)


@pytest.fixture
def refusing(session, case, monkeypatch) -> Refusing:
    made = Refusing(session, case, CLASSES, None, axis=0)
    made.clicks = []
    answer = session._network.answer

    def nothing_where_blind(*args, **options):
        output = answer(*args, **options)
        return output._replace(logits=-output.logits.abs() - 1) if made.blind else output

    monkeypatch.setattr(session._network, "answer", nothing_where_blind)
    monkeypatch.setattr("time.perf_counter", lambda: made.clock)
    return made


def test_a_click_that_is_rejected_counts_for_nothing_and_the_next_one_is_elsewhere(refusing):
    first = error_click(refusing.gt[1][2], None, np.random.default_rng(0))
    refusing.refused = (first,)
    rounds = list(clicks_on_the_middle_slice(3)(refusing, 1, np.random.default_rng(0)))
    # in the second and third round, all that were tried are given again
    assert [refusing.clicks.index(click) for click in refusing.clicks] == [0, 0, 2, 0, 2, 5]
    assert [(turn.prompts, turn.rejected) for turn in rounds] == [(0, 1), (1, 1), (2, 1)]
    assert not rounds[0].found.any() and rounds[1].found.any()
    (prompted,) = refusing.session.prompts
    assert len(prompted.prompt.points) == 2


def test_seconds_end_when_the_masks_are_there(refusing):
    # a click, a propagation and the masks; clicks that are given again are no part of a round
    rounds = list(clicks_on_the_middle_slice(2)(refusing, 1, np.random.default_rng(0)))
    assert [turn.seconds for turn in rounds] == [111, 111]
    for name, seconds in (("1_mask", 110), ("box", 110), ("boxes", 100)):
        (turn,) = protocols()[name].interact(refusing, 1, np.random.default_rng(0))
        assert turn.seconds == seconds, name


def test_nobody_clicks_on_errors_in_voxels_that_are_ignored(session, case):
    labels = sitk.ReadImage(str(case.label))
    array = truth()
    array[:, :, 34:] = 9
    ignoring = sitk.GetImageFromArray(array)
    ignoring.CopyInformation(labels)
    sitk.WriteImage(ignoring, str(case.label))
    prompted = SimulatedUser(session, case, CLASSES, 9, axis=0)
    everywhere = np.ones(prompted.gt[1].shape[1:], dtype=bool)
    prompted.mask(1, 2, everywhere)
    found = prompted.found(1)[2]
    np.testing.assert_array_equal(found, prompted.view.of(array)[2] != 9)
    assert session.mask(1)[2].all()  # what is written holds ignored voxels too


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


def damaged(case: RawCase, tmp_path) -> RawCase:
    """A case whose header is well, and whose image has a voxel that is NaN."""
    image = sitk.ReadImage(str(case.image))
    image[0, 0, 0] = float("nan")
    sitk.WriteImage(image, str(tmp_path / "nan.mha"))  # ITK reads 0 for NaN in a NIfTI file
    return RawCase("case_00", tmp_path / "nan.mha", case.label)


def test_a_run_goes_on_with_what_it_had_and_without_what_it_cannot_read(session, case, tmp_path):
    box = [protocols()["box"]]
    benchmark = PromptBenchmark(session, CLASSES, [1, 3, 4], None, tolerance_mm=2.0)
    kept: list[list[str]] = []

    def keep(measured):
        kept.append(list(measured.encoding_seconds))
        if len(kept) == 1:
            raise KeyboardInterrupt

    second = RawCase("case_02", case.image, case.label)
    earlier = Measured()
    with pytest.raises(KeyboardInterrupt):
        benchmark.run([case, second], box, tmp_path / "out", earlier=earlier, keep=keep)
    lines: list[str] = []
    cases = [damaged(case, tmp_path), case, second]
    measured = benchmark.run(cases, box, tmp_path / "out", lines.append, earlier, keep)
    assert kept == [["case_01"], ["case_01", "case_02"]]
    assert lines[2:] == ["2/3 case_01: measured before", "3/3 case_02"]
    assert list(measured.failed) == ["case_00"] and "NaN" in measured.failed["case_00"]
    assert [s.case for s in measured.scores if s.area == "all"] == ["case_01"] * 2 + ["case_02"] * 2
    with pytest.raises(UserError, match="no case can be prompted: .*nan.mha holds 1 values that are not finite"):
        benchmark.run(cases[:1], box, tmp_path / "none")


def test_headers_are_checked(case, tmp_path):
    assert check_headers([case]) == []
    moved = sitk.ReadImage(str(case.label))
    moved.SetOrigin((30.0, 0.0, 0.0))
    sitk.WriteImage(moved, str(tmp_path / "moved.nii.gz"))
    (warning,) = check_headers([case, RawCase("case_02", case.image, tmp_path / "moved.nii.gz")])
    assert warning.startswith("the ground truth of case_02 lies elsewhere than the image (up to 30.0 mm apart)")
    coarse = sitk.ReadImage(str(case.label))
    coarse.SetSpacing((2.0, 1.0, 2.0))
    sitk.WriteImage(coarse, str(tmp_path / "coarse.nii.gz"))
    with pytest.raises(UserError, match="case_02 cannot be prompted: coarse.nii.gz has the spacing"):
        check_headers([case, RawCase("case_02", case.image, tmp_path / "coarse.nii.gz")])
    sitk.WriteImage(sitk.ReadImage(str(case.label))[:-1], str(tmp_path / "short.nii.gz"))
    (tmp_path / "text.nii.gz").write_text("no image")
    short, text = (RawCase(name, case.image, tmp_path / f"{name}.nii.gz") for name in ("short", "text"))
    with pytest.raises(UserError, match=r"short.nii.gz has \(5, 40, 47\) voxels .* \(as are 1 more cases\)"):
        check_headers([case, short, text])
    with pytest.raises(UserError, match="text.nii.gz cannot be read as an image"):
        check_headers([text])


def test_cases_that_are_not_there_are_named(tmp_path):
    dataset = {"file_ending": ".nii.gz", "labels": {"background": 0, "a": 1}}
    with pytest.raises(UserError, match="does not exist, but the raw images are prompted"):
        raw_cases(tmp_path / "none", dataset, ["a"])
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
    (tmp_path / "imagesTr" / "a_0000.nii.gz").touch()
    assert raw_cases(tmp_path, dataset, ["a"])[0].label == tmp_path / "labelsTr" / "a.nii.gz"
    with pytest.raises(UserError, match="lacks the images of b"):
        raw_cases(tmp_path, dataset, ["a", "b"])
    with pytest.raises(UserError, match="the channel is 1, but a has 1"):
        raw_cases(tmp_path, dataset, ["a"], channel=1)
