"""Prompts on the first frame of videos: what is prompted, what is scored, and the tables."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image

from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.prompt_evaluation.experiment_file import FIRST_BOX, FIRST_MASK
from nnunetv2_sam2_3dmed.video import VideoSession, benchmark, open_video
from nnunetv2_sam2_3dmed.video.benchmark import MeasuredVideos, VideoResult, run_benchmark
from nnunetv2_sam2_3dmed.video.benchmark_results import ALL, as_markdown, summary
from nnunetv2_sam2_3dmed.video.cases import labels_of, video_cases
from nnunetv2_sam2_3dmed.video.png_masks import read_png_mask, write_png_masks
from nnunetv2_sam2_3dmed.video.scores import FrameScore, ObjectScores
from tests.interactive.reference import SIZE, TINY, random_weights
from tests.video.files import write_video
from tests.video.test_session import COLUMNS, ROWS, Discs

COUNT = 9


def truth() -> np.ndarray:
    """Object 1 on frames 0 to 5, object 2 from frame 3 on."""
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    labels = np.zeros((COUNT, ROWS, COLUMNS), dtype=np.uint8)
    for index in range(COUNT):
        if index < 6:
            labels[index][(rows - 18) ** 2 + (columns - 20 - 6 * np.sin(index / 3)) ** 2 < 80] = 1
        if index >= 3:
            labels[index, 30:38, 36:46] = 2
    return labels


@pytest.fixture
def frames() -> list[np.ndarray]:
    return [next(iter(Discs().decode(index)))[1] for index in range(COUNT)]


@pytest.fixture
def dataset(tmp_path, frames):
    """Two videos: one file with PNG masks on some frames, and a folder of pictures that are counted from 1."""
    folder = tmp_path / "discs"
    (folder / "videos" / "b").mkdir(parents=True)
    (folder / "masks").mkdir()
    write_video(folder / "videos" / "a.mkv", "ffv1", "bgr0", frames)
    write_png_masks(folder / "masks" / "a", iter(truth()))
    for index in (1, 7):  # frames without ground truth
        (folder / "masks" / "a" / f"{index:05d}.png").unlink()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "videos" / "b" / f"{index + 1:04d}.png")
    write_png_masks(folder / "masks" / "b", iter(truth()), [f"{index + 1:04d}" for index in range(COUNT)])
    (folder / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "disc": 1, "both": [1, 2]}, "regions_class_order": [2, 1]})
    )
    return folder


def test_frames_with_ground_truth(dataset):
    a, b = video_cases(dataset)
    assert (a.name, b.name) == ("a", "b")
    a.open()
    assert a.annotated() == [0, 2, 3, 4, 5, 6, 8]
    b.open()
    assert b.annotated() == list(range(COUNT))
    for case in (a, b):
        np.testing.assert_array_equal(case.labels(8, (ROWS, COLUMNS)), truth()[8])
    assert labels_of(dataset, [a, b]) == ({"disc": (1,), "both": (1, 2)}, None)
    (dataset / "dataset.json").unlink()
    assert labels_of(dataset, [a, b]) == ({"object 1": (1,), "object 2": (2,)}, None), "one of them comes later"


@pytest.mark.parametrize("resolution", [".", "480p", "Full-Resolution"])
def test_davis(tmp_path, frames, resolution):
    for part, content in (("JPEGImages", frames), ("Annotations", truth())):
        folder = tmp_path / "davis" / part / resolution / "dog"
        folder.mkdir(parents=True)
        for index, picture in enumerate(content):
            Image.fromarray(picture).save(folder / f"{index:05d}.png")
    (case,) = video_cases(tmp_path / "davis")
    assert case.open().shape == (COUNT, ROWS, COLUMNS) and case.annotated() == list(range(COUNT))


def test_camus(tmp_path, frames):
    patient = tmp_path / "camus" / "patient0001"
    patient.mkdir(parents=True)
    for view in ("2CH", "4CH"):
        for name, array in (("", np.stack(frames)[..., 0]), ("_gt", truth())):
            sitk.WriteImage(
                sitk.GetImageFromArray(array), str(patient / f"patient0001_{view}_half_sequence{name}.nii.gz")
            )
            for time in ("ED", "ES"):  # single frames, as CAMUS has them, too
                sitk.WriteImage(
                    sitk.GetImageFromArray(array[0]), str(patient / f"patient0001_{view}_{time}{name}.nii.gz")
                )
    cases = video_cases(tmp_path / "camus")
    assert [case.name for case in cases] == [f"patient0001_{view}_half_sequence" for view in ("2CH", "4CH")]
    assert cases[0].open().shape == (COUNT, ROWS, COLUMNS)
    np.testing.assert_array_equal(cases[0].labels(4, (ROWS, COLUMNS)), truth()[4])


def test_voxels_beside_a_header_are_no_video(tmp_path, frames):
    for part, array in (("videos", np.stack(frames)[..., 0]), ("masks", truth())):
        (tmp_path / part).mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / part / "a.mhd"))
    assert (tmp_path / "videos" / "a.raw").is_file()
    (case,) = video_cases(tmp_path)
    assert case.open().shape == (COUNT, ROWS, COLUMNS)
    np.testing.assert_array_equal(case.labels(4, (ROWS, COLUMNS)), truth()[4])


@pytest.fixture
def measured(session, dataset, tmp_path):
    cases = video_cases(dataset)
    classes, _ = labels_of(dataset, cases)
    return run_benchmark(session, cases, classes, [FIRST_BOX, FIRST_MASK], tmp_path / "out")


def test_scores_are_those_of_the_protocol_done_by_hand(measured, model, dataset):
    session = VideoSession(model, "cpu", "float32")
    session.set_video(open_video(dataset / "videos" / "a.mkv"))
    gt = truth() == 1
    rows, columns = np.nonzero(gt[0])
    session.add_box((0, rows.min(), columns.min()), (0, rows.max() + 1, columns.max() + 1))
    session.propagate(direction="forward")
    found = session.mask()
    result = next(r for r in measured.results if r[:3] == (FIRST_BOX, "a", "disc"))
    assert [one.frame for one in result.scores.frames] == [0, 2, 3, 4, 5, 6, 8] and result.scores.prompted == (0,)
    for one in result.scores.frames:
        both = (gt[one.frame] & found[one.frame]).sum()
        total = gt[one.frame].sum() + found[one.frame].sum()
        assert one.dice == pytest.approx(2 * both / total if total else 1)
    with_prompt = [one.dice for one in result.scores.frames]
    assert result.scores.mean() == pytest.approx(np.mean(with_prompt[1:]))
    assert result.scores.mean(with_prompts=True) == pytest.approx(np.mean(with_prompt))


def test_label_maps_of_measured_videos_are_not_kept(session, dataset, tmp_path):
    shutil.rmtree(dataset / "masks" / "a")
    sitk.WriteImage(sitk.GetImageFromArray(truth()), str(dataset / "masks" / "a.mha"))
    (dataset / "dataset.json").unlink()
    cases = video_cases(dataset)
    classes, _ = labels_of(dataset, cases)
    assert cases[0]._labels is None
    run_benchmark(session, cases, classes, [FIRST_MASK], tmp_path / "out")
    assert cases[0]._labels is None


def test_ignored_pixels_are_neither_prompted_nor_scored(session, dataset, tmp_path):
    """Only the left half was drawn, and frame 5 not at all."""
    labels = truth()
    labels[:, :, 24:] = 3
    labels[5] = 3
    shutil.rmtree(dataset / "masks" / "a")
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(dataset / "masks" / "a.mha"))
    (dataset / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "disc": 1, "square": 2, "ignore": 3}})
    )
    cases = video_cases(dataset)[:1]
    classes, ignore = labels_of(dataset, cases)
    assert (classes, ignore) == ({"disc": (1,), "square": (2,)}, 3)
    (one,) = run_benchmark(session, cases, classes, [FIRST_BOX], tmp_path / "out", ignore).results
    assert [s.frame for s in one.scores.frames] == [0, 1, 2, 3, 4, 6, 7, 8]
    found = session.mask()[:, :, :24]
    assert session.mask()[:, :, 24:].any()
    assert [s.pixels for s in one.scores.frames] == [found[s.frame].sum() for s in one.scores.frames]


def test_seconds_are_of_prompts_and_propagation(session, dataset, tmp_path, monkeypatch):
    clock = [0.0]

    def lasting(seconds, call):
        def slow(*args, **kwargs):
            clock[0] += seconds
            return call(*args, **kwargs)

        return slow

    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(benchmark, "score_frame", lasting(1000, benchmark.score_frame))
    monkeypatch.setattr(session, "add_box", lasting(9, session.add_box))
    monkeypatch.setattr(session, "propagate", lasting(18, session.propagate))
    measured = run_benchmark(session, video_cases(dataset)[:1], {"disc": (1,)}, [FIRST_BOX], tmp_path / "out")
    assert measured.seconds_per_frame == {(FIRST_BOX, "a"): (9 + 18) / COUNT}


def test_a_mask_is_the_ground_truth_on_its_own_frame(measured):
    for one in measured.results:
        if one.protocol == FIRST_MASK:
            assert [s.dice for s in one.scores.frames if s.frame in one.scores.prompted] == [1.0]
            assert one.scores.excess_at_prompts() == 0


def test_an_object_that_appears_later_is_prompted_there(session, dataset, tmp_path):
    measured = run_benchmark(session, video_cases(dataset)[:1], {"late": (2,)}, [FIRST_BOX], tmp_path / "out")
    (one,) = measured.results
    assert one.scores.prompted == (3,)
    assert [s.frame for s in one.scores.frames] == [3, 4, 5, 6, 8], "nothing is to be found before"
    assert np.isnan(one.scores.over_propagation()), "before it has come it has not left"


def test_a_prompt_in_which_nothing_is_seen_counts_as_empty_masks(session, dataset, tmp_path, monkeypatch):
    answer = session._network.answer

    def nothing(*args, **kwargs):
        output = answer(*args, **kwargs)
        return output._replace(logits=output.logits * 0 - 5)

    monkeypatch.setattr(session._network, "answer", nothing)
    measured = run_benchmark(session, video_cases(dataset)[:1], {"disc": (1,)}, [FIRST_BOX], tmp_path / "out")
    (one,) = measured.results
    assert one.rejected
    assert [s.dice for s in one.scores.frames] == [0, 0, 0, 0, 0, 1, 1], "right where the object is not"


def test_a_video_that_fails_is_named_and_the_others_are_measured(session, dataset, tmp_path):
    file = dataset / "masks" / "b" / "0005.png"
    Image.fromarray(np.zeros((3, 3), dtype=np.uint8)).save(file)
    kept = []
    measured = run_benchmark(
        session,
        video_cases(dataset),
        {"disc": (1,)},
        [FIRST_BOX],
        tmp_path / "out",
        keep=lambda m: kept.append(len(m.results)),
    )
    assert kept == [1] and list(measured.failed) == ["b"]
    assert "0005.png has 3 x 3 pixels, but its frame has 40 x 48" in measured.failed["b"]


def test_quartiles_over_videos(measured):
    rows = {(protocol, name): scores for protocol, name, scores, _ in summary(measured.results, ["disc", "both"])}
    assert set(rows) == {(p, name) for p in (FIRST_BOX, FIRST_MASK) for name in ("disc", "both", ALL)}
    means = {(one.video, one.class_name): one.scores.mean() for one in measured.results if one.protocol == FIRST_BOX}
    disc = rows[FIRST_BOX, "disc"]["Dice"]
    assert disc.n == 2 and disc.median == pytest.approx((means["a", "disc"] + means["b", "disc"]) / 2)
    of_videos = [(means[video, "disc"] + means[video, "both"]) / 2 for video in "ab"]
    low, high = np.percentile(of_videos, (25, 75))
    both = rows[FIRST_BOX, ALL]["Dice"]
    assert both.n == 2 and (both.median, both.q1, both.q3) == pytest.approx((np.mean(of_videos), low, high))


def test_davis_scores_are_means_over_objects():
    def result(video, name, value):
        frames = [FrameScore(k, value, value, value, 9, 9, 0) for k in range(4)]
        return VideoResult(FIRST_BOX, video, name, ObjectScores(frames, (0,), 4), False)

    results = [result("a", "disc", 0.9), result("a", "both", 0.6), result("b", "disc", 0.0)]
    *_, (_, name, scores, _) = summary(results, ["disc", "both"])
    assert name == ALL and scores["J&F"].mean == scores["F"].mean == pytest.approx(0.5)
    assert scores["Dice"].median == pytest.approx((0.75 + 0.0) / 2)
    page = as_markdown(
        MeasuredVideos(results), ["disc", "both"], dict.fromkeys(("dataset", "model", "image_size", "device"))
    )
    row = next(line for line in page.splitlines() if line.startswith(f"| {ALL}"))
    assert [cell.strip() for cell in row.split("|")[6:9]] == ["0.500"] * 3


def test_the_command(dataset, tmp_path, capsys):
    weights = tmp_path / f"{TINY}.pt"
    torch.save({"model": random_weights()}, weights)
    common = ["--model", str(weights), "--image-size", str(SIZE), "-device", "cpu", "--precision", "float32"]
    out = tmp_path / "out"
    words = ["prompt-benchmark", "--videos", str(dataset), "-o", str(out), "--protocols", FIRST_BOX, *common]
    assert main(words) == 0
    page = capsys.readouterr().out
    assert page.strip() == (out / "prompt_benchmark.md").read_text().strip()
    assert "Published, and not comparable" in page and "ultrasound videos, left ventricle" in page
    assert "96.13 (95.09 to 97.15)" in page and "92.22 (83.37 to 95.88)" in page
    published = [line for line in page.splitlines() if "arXiv 2504.03600" in line]
    assert len(published) == 7 and all(line.split("|")[2].strip() == "not stated" for line in published)
    with (out / "per_video.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["video"], row["class"], row["frames"]) for row in rows] == [
        ("a", "disc", "7"),
        ("a", "both", "7"),
        ("b", "disc", "9"),
        ("b", "both", "9"),
    ]
    with (out / "per_frame.csv").open() as file:
        frames = [row for row in csv.DictReader(file) if (row["video"], row["class"]) == ("b", "disc")]
    dice = [float(row["Dice"]) for row in frames if row["prompt"] == "0"]
    assert float(rows[2]["Dice"]) == pytest.approx(np.mean(dice), abs=1e-5)
    content = json.loads((out / "prompt_benchmark.json").read_text())
    assert content["videos"] == ["a", "b"] and content["results"][0]["Dice"]["n"] == 2
    assert len(list((out / FIRST_BOX / "a").glob("*.png"))) == COUNT
    pixels = [int(row["pixels"]) for row in frames]
    masks = [read_png_mask(out / FIRST_BOX / "b" / f"{index:05d}.png") for index in range(COUNT)]
    assert all((mask == 1).sum() <= count for mask, count in zip(masks, pixels, strict=True))
    assert main(words) == 2 and "has files of another run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what to measure"),
        (["-d", "9", "--videos", "."], "say what to measure"),
        (["--videos", ".", "--protocols", "boxes"], "the protocol is boxes, but for videos must be one of"),
        (["--videos", ".", "--axis", "0"], "--axis is for datasets: leave it out with --videos"),
        (["--videos", ".", "-f", "1"], "-f is for datasets"),
        (["-d", "9", "--protocols", "first_box"], "the protocol is first_box, but for a dataset must be one of"),
        (["--videos", "nothing"], "there is no folder nothing"),
        (["--videos", "."], "has no videos with masks"),
    ],
)
def test_mistakes_of_the_command(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["prompt-benchmark", "-o", "out", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_video_without_masks(dataset):
    (dataset / "videos" / "c.mkv").write_bytes(b"")
    with pytest.raises(UserError, match=r"c\.mkv has no masks of its name"):
        video_cases(dataset)


def test_an_ignore_label_that_nnunet_refuses(dataset):
    labels = {"background": 0, "disc": 2, "ignore": 1}
    (dataset / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(UserError, match=r"dataset\.json has labels that nnU-Net refuses .*highest"):
        labels_of(dataset, [])


def test_masks_of_frames_that_are_not_there(dataset):
    Image.fromarray(np.zeros((ROWS, COLUMNS), dtype=np.uint8)).save(dataset / "masks" / "a" / "00009.png")
    with pytest.raises(UserError, match=r"00009\.png belongs to no frame of .*a\.mkv"):
        video_cases(dataset)[0].open()
