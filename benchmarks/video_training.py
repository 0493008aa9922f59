"""Train a promptable model on synthetic ultrasound videos from random weights, and follow objects in other videos.

    eval "$(sam2_3dmed env)"
    python benchmarks/video_training.py --minutes 30 --work FOLDER          # two CPU cores

Runs stock commands on 40 videos in FOLDER, prints each, and skips finished ones; an interrupted training continues.
Then prompts 12 videos of another seed with the box of the first frame, and 12 more in which the probe slides, so that
the heart crosses the picture, three ways:

- propagated: the box on the first frame, masks propagated forward;
- repeated: the ground truth mask of the first frame on all frames;
- per frame: the same network on each frame by itself, with the first frame's box, without memory.

Writes benchmarks/results/NAME.json and NAME.md, and docs/images/NAME.png of a video in which the probe slides, where
NAME is video_training_30min_cpu: Dice and J&F without the first frame, differences per video with a 95 % bootstrap
interval and Wilcoxon's signed-rank test, and Dice by the overlap of the first frame's box with the box of the frame in
question.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from equal_time import Runner
from scipy import stats

from nnunetv2_sam2_3dmed.evaluation.software import software_and_machine
from nnunetv2_sam2_3dmed.evaluation.tables import without_nan
from nnunetv2_sam2_3dmed.files import write_png, write_text
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.prompt_evaluation.experiment_file import FIRST_BOX
from nnunetv2_sam2_3dmed.prompt_evaluation.simulated import bounding_box
from nnunetv2_sam2_3dmed.video import VideoSession
from nnunetv2_sam2_3dmed.video.benchmark import GroundTruth, VideoResult, run_benchmark
from nnunetv2_sam2_3dmed.video.benchmark_results import ALL, summary
from nnunetv2_sam2_3dmed.video.cases import VideoCase, labels_of, video_cases
from nnunetv2_sam2_3dmed.video.phantoms import write_phantoms
from nnunetv2_sam2_3dmed.video.png_masks import read_png_mask, write_png_masks
from nnunetv2_sam2_3dmed.video.scores import ObjectScores, score_frame

RESULTS, PICTURES = Path(__file__).parent / "results", Path(__file__).parents[1] / "docs" / "images"
ID, DATASET, CONFIGURATION = "820", "Dataset820_SyntheticUltrasound", "3d_slices8"
TRAINED = (40, 1)  # number of videos, and seed
# by the name of their folder: kind, what to call it, number of videos, and seed
MEASURED = {
    "test": ("ultrasound", "the probe rests", 12, 2),
    "swept": ("ultrasound_swept", "the probe slides", 12, 3),
}
DRAWN = "swept"
OVERLAPS = (0.0, 0.25, 0.5, 0.75, 1.0)  # edges, of intersection over union
PROPAGATED, REPEATED, PER_FRAME = "propagated", "repeated", "per frame"
WAYS = {
    PROPAGATED: "box on the first frame, propagated",
    REPEATED: "ground truth of the first frame, repeated",
    PER_FRAME: "each frame by itself, with the first frame's box",
}
COLUMNS = ("Dice", "J", "F", "J&F")
SHOWN = 6  # frames in the picture
COLOURS = ("tab:orange", "tab:cyan")

Masks = Callable[[int, str], np.ndarray]  # of a frame and a class, bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for videos, nnU-Net's folders and masks")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the tables go")
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="where the picture goes")
    args = parser.parse_args()

    work = args.work.resolve()
    for folder, (kind, count, seed) in {
        "train": ("ultrasound", *TRAINED),
        **{name: (kind, count, seed) for name, (kind, _, count, seed) in MEASURED.items()},
    }.items():
        if not (work / folder / "dataset.json").exists():
            write_phantoms(work / folder, kind, count, seed)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (work / name).mkdir(exist_ok=True)
        os.environ[name] = str(work / name)
    run = Runner(dry=False)
    checkpoint = train(run, work, args)

    name = f"video_training_{args.minutes}min_{args.device}"
    session = VideoSession(checkpoint, args.device)
    report = {
        "minutes": args.minutes,
        "videos_in_dataset": TRAINED[0],
        "kind": "synthetic ultrasound",
        "image_size": args.image_size,
        "batch_size": args.batch_size,
        "commands": [command.replace(str(work), "WORK") for command in run.commands],
        "ways": WAYS,
        "measured": {
            title: measure(
                session,
                work / folder,
                work / f"masks_{name}_{folder}",
                args.pictures / f"{name}.png" if folder == DRAWN else None,
            )
            for folder, (_, title, _, _) in MEASURED.items()
        },
        "software_and_machine": software_and_machine(),
    }
    write_text(args.results / f"{name}.json", json.dumps(report, indent=1) + "\n")
    write_text(args.results / f"{name}.md", as_markdown(report))
    print((args.results / f"{name}.md").read_text())


def measure(session: VideoSession, videos: Path, masks: Path, drawing: Path | None) -> dict:
    """Prompt the videos of a folder in all ways, write masks and perhaps a picture, and return the scores."""
    cases = video_cases(videos)
    classes, _ = labels_of(videos, cases)
    if masks.exists():  # of a measurement before
        shutil.rmtree(masks)
    measured = run_benchmark(session, cases, classes, [FIRST_BOX], masks, progress=print)
    if measured.failed:
        raise SystemExit(f"not all videos were measured: {measured.failed}")
    results = [one._replace(protocol=PROPAGATED) for one in measured.results]
    for case in cases:
        results += baselines(session, case, classes, masks)
    if drawing is not None:
        picture(drawing, cases, classes, results, masks)
    return {
        "videos": len(cases),
        "scores": [
            {
                "way": way,
                "class": class_name,
                "rejected": rejected,
                **{c: without_nan(asdict(scores[c])) for c in COLUMNS},
            }
            for way, class_name, scores, rejected in summary(results, list(classes))
            if class_name == ALL or way == PROPAGATED
        ],
        "differences": differences(results),
        "overlaps": by_overlap(results, cases, classes),
    }


def train(run: Runner, work: Path, args: argparse.Namespace) -> Path:
    """Run the stock commands and return the final checkpoint."""
    run(
        *("sam2_3dmed", "videos", str(work / "train"), "-d", ID, "--name", DATASET.partition("_")[2]),
        done=work / "nnUNet_raw" / DATASET / "dataset.json",
    )
    preprocessed = work / "nnUNet_preprocessed" / DATASET
    run(
        *("nnUNetv2_plan_and_preprocess", "-d", ID, "-c", "3d_fullres", "-npfp", "1", "-np", "1"),
        done=preprocessed / "nnUNetPlans.json",
    )
    run(
        *("sam2_3dmed", "plan", "-d", ID, "--image-size", str(args.image_size)),
        *("--batch-size", str(args.batch_size)),
    )
    trainer = f"SAM2_PromptTrainer_noPretrain_tuned_{args.minutes}minutes"
    folder = work / "nnUNet_results" / DATASET / f"{trainer}__nnUNetPlans__{CONFIGURATION}" / "fold_0"
    run(
        *("nnUNetv2_train", ID, CONFIGURATION, "0", "-tr", trainer, "-device", args.device),
        done=folder / "validation" / "summary.json",
        go_on=["--c"] if folder.exists() else [],
    )
    return folder / "checkpoint_final.pth"


def baselines(
    session: VideoSession, case: VideoCase, classes: dict[str, tuple[int, ...]], folder: Path
) -> list[VideoResult]:
    """Score a video with the first frame's mask repeated, and with each frame segmented by itself."""
    video = case.open()
    truth = GroundTruth(case, classes, video.shape[1:], None)
    boxes = {name: bounding_box(truth.mask(truth.first[name], name)) for name in truth.first}
    session.set_video(video)
    alone: dict[tuple[int, str], np.ndarray] = {}
    for frame in truth.frames:
        for number, (name, (top, left, bottom, right)) in enumerate(boxes.items(), start=1):
            session.reset()  # without memory of other frames; features stay
            try:
                session.add_box((frame, top, left), (frame, bottom, right), number)
                session.predict_slice(number, 0, frame)
                alone[frame, name] = session.frame_mask(frame, number)
            except PromptError:  # no object is seen in the box
                alone[frame, name] = np.zeros(video.shape[1:], dtype=bool)
    ways: dict[str, Masks] = {
        REPEATED: lambda frame, name: truth.mask(truth.first[name], name),
        PER_FRAME: lambda frame, name: alone[frame, name],
    }
    results = []
    for way, mask in ways.items():
        for name, first in truth.first.items():
            frames = [frame for frame in truth.frames if frame >= first]
            scores = [score_frame(frame, truth.mask(frame, name), mask(frame, name)) for frame in frames]
            scored = ObjectScores(scores, (first,), len(video))
            results.append(VideoResult(way, case.name, name, scored, False))
        write_png_masks(folder / way / case.name, (label_map(mask, boxes, frame) for frame in truth.frames))
    case.close()
    return results


def label_map(mask: Masks, names: Sequence[str] | dict, frame: int) -> np.ndarray:
    """Return the classes of a frame by their numbers from 1; later ones overwrite."""
    masks = [mask(frame, name) for name in names]
    found = np.zeros(masks[0].shape, dtype=np.uint8)
    for number, one in enumerate(masks, start=1):
        found[one] = number
    return found


def per_video(results: Sequence[VideoResult], way: str, score: Callable[[ObjectScores], float]) -> dict[str, float]:
    """Mean of a score over a video's objects, by video."""
    found: dict[str, list[float]] = {}
    for one in results:
        if one.protocol == way:
            found.setdefault(one.video, []).append(score(one.scores))
    return {video: float(np.mean(values)) for video, values in sorted(found.items())}


def differences(results: Sequence[VideoResult]) -> list[dict]:
    """Propagation minus each baseline, paired by video."""
    found = []
    for way in (REPEATED, PER_FRAME):
        for column, score in (("Dice", ObjectScores.mean), ("J&F", ObjectScores.j_and_f)):
            ours, other = (np.array(list(per_video(results, w, score).values())) for w in (PROPAGATED, way))
            apart = ours - other
            interval = stats.bootstrap((apart,), np.mean, rng=np.random.default_rng(0)).confidence_interval
            found.append(
                {
                    "against": way,
                    "score": column,
                    "mean": float(apart.mean()),
                    "interval": [float(interval.low), float(interval.high)],
                    "p": float(stats.wilcoxon(apart).pvalue) if apart.any() else 1.0,
                    "videos_better": int((apart > 0).sum()),
                }
            )
    return found


def by_overlap(
    results: Sequence[VideoResult], cases: Sequence[VideoCase], classes: dict[str, tuple[int, ...]]
) -> list[dict]:
    """Mean Dice of frames, grouped by the overlap of the object's box there with its box on the first frame."""
    overlap: dict[tuple[str, str, int], float] = {}
    for case in cases:
        truth = GroundTruth(case, classes, case.open().shape[1:], None)
        for name, first in truth.first.items():
            prompted = bounding_box(truth.mask(first, name))
            for frame in truth.frames:
                mask = truth.mask(frame, name)
                if frame != first and mask.any():
                    overlap[case.name, name, frame] = intersection_over_union(prompted, bounding_box(mask))
        case.close()
    dice = {
        (one.protocol, one.video, one.class_name, score.frame): score.dice
        for one in results
        for score in one.scores.frames
    }
    groups = []
    for low, high in pairwise(OVERLAPS):
        frames = [key for key, value in overlap.items() if low <= value < high or value == high == OVERLAPS[-1]]
        groups.append(
            {
                "from": low,
                "to": high,
                "frames": len(frames),
                **{way: float(np.mean([dice[(way, *key)] for key in frames])) if frames else None for way in WAYS},
            }
        )
    return groups


def intersection_over_union(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Overlap of two boxes of first row and column and last row and column, both inside."""
    size = [max(0, min(one[i + 2], other[i + 2]) - max(one[i], other[i]) + 1) for i in (0, 1)]
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    common = size[0] * size[1]
    return common / (sum(areas) - common)


def as_markdown(report: dict) -> str:
    """Tables of the scores, of the differences, and by overlap of the boxes."""
    lines = [
        f"# Synthetic ultrasound videos after {report['minutes']} minutes from random weights",
        "",
        f"Synthetic: no patient. {report['videos_in_dataset']} videos to train and validate on, in which the probe "
        f"rests, and others measured; images of {report['image_size']} pixels, batches of {report['batch_size']}. "
        "Median over videos (first to third quartile), J&F over objects; without the first frame. Every way is given "
        "the first frame's box, or its ground truth.",
    ]
    for title, found in report["measured"].items():
        lines += [
            "",
            f"## {found['videos']} videos in which {title}",
            "",
            "| | class | Dice | J&F |",
            "|---|---|---|---|",
        ]
        for row in found["scores"]:
            lines.append(f"| {WAYS[row['way']]} | {row['class']} | {_shown(row['Dice'])} | {_shown(row['J&F'])} |")
        lines += [
            "",
            "| propagated minus | score | mean (95 % interval) | better videos | p |",
            "|---|---|---|---|---|",
        ]
        for one in found["differences"]:
            low, high = one["interval"]
            lines.append(
                f"| {one['against']} | {one['score']} | {one['mean']:+.3f} ({low:+.3f} to {high:+.3f}) | "
                f"{one['videos_better']} of {found['videos']} | {one['p']:.2g} |"
            )
        lines += ["", f"| overlap of the boxes | frames | {' | '.join(WAYS)} |", "|---" * (2 + len(WAYS)) + "|"]
        for group in found["overlaps"]:
            means = " | ".join("" if group[way] is None else f"{group[way]:.3f}" for way in WAYS)
            lines.append(f"| {group['from']:g} to {group['to']:g} | {group['frames']} | {means} |")
    lines += [
        "",
        "Overlap: intersection over union of the object's box on a frame and its box on the first frame; mean Dice of "
        "the frames of both classes.",
    ]
    return "\n".join(lines) + "\n"


def _shown(scores: dict[str, float]) -> str:
    return f"{scores['median']:.3f} ({scores['q1']:.3f} to {scores['q3']:.3f})"


def picture(
    file: Path,
    cases: Sequence[VideoCase],
    classes: dict[str, tuple[int, ...]],
    results: Sequence[VideoResult],
    masks: Path,
) -> None:
    """Draw the video whose Dice is the median: ground truth white, masks in colour, one row a way."""
    scores = per_video(results, PROPAGATED, ObjectScores.mean)
    name = sorted(scores, key=lambda video: scores[video])[len(scores) // 2]
    case = next(case for case in cases if case.name == name)
    video = case.open()
    frames = np.linspace(0, len(video) - 1, SHOWN).astype(int).tolist()
    figure = plt.figure(figsize=(2 * SHOWN, 2.3 * len(WAYS) + 0.4), layout="constrained")
    figure.suptitle(f"Synthetic ultrasound, {name}: ground truth white, masks in colour")
    for part, way in zip(figure.subfigures(len(WAYS), 1), WAYS):
        part.suptitle(WAYS[way], fontsize=10)
        folder = masks / (FIRST_BOX if way == PROPAGATED else way) / name
        for axis, frame in zip(part.subplots(1, SHOWN), frames):
            axis.imshow(video.frame(frame))
            found, gt = read_png_mask(folder / f"{frame:05d}.png"), case.labels(frame, video.shape[1:])
            for number, (values, colour) in enumerate(zip(classes.values(), COLOURS), start=1):
                for mask, shade in ((np.isin(gt, values), "white"), (found == number, colour)):
                    if mask.any() and not mask.all():
                        axis.contour(mask, levels=[0.5], colors=[shade], linewidths=1.0)
            axis.set_axis_off()
            axis.set_title(f"frame {frame}", fontsize=8)
    case.close()
    write_png(file, figure)
    plt.close(figure)


if __name__ == "__main__":
    main()
